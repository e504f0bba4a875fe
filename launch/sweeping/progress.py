"""How far a run has come, as its folder and its log tell."""

from __future__ import annotations

import dataclasses
import enum
import json
import pathlib
import shlex
from collections.abc import Sequence

from sweeping.grid import Run

_COMMAND_MARK = "$ "


class State(enum.StrEnum):
    """What a run is doing, as seen from one sweep."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    BUSY = "busy elsewhere"  # another sweep works on it


@dataclasses.dataclass(frozen=True)
class Progress:
    """What `results.json` tells.

    Attributes:
      num_complete: phases that are complete.
      average_accuracy: of the primary classifier over them, in percent; None before the first.
      seconds: that they took.
    """

    num_complete: int = 0
    average_accuracy: float | None = None
    seconds: float = 0.0


@dataclasses.dataclass
class Entry:
    """A run of a sweep, with what has become of it so far.

    Attributes:
      run: what it is.
      folder: the run's.
      log: file of all that it writes to the screen.
      state: of it.
      progress: of it.
      seconds: for which this sweep has had it running; for one that was not started, those of its phases.
      exit_code: of its process, negative if a signal ended it; None before that.
      message: the last that a failed process said.
    """

    run: Run
    folder: pathlib.Path
    log: pathlib.Path
    state: State = State.WAITING
    progress: Progress = Progress()
    seconds: float = 0.0
    exit_code: int | None = None
    message: str = ""

    @property
    def complete(self) -> bool:
        """Whether all phases are."""
        return self.progress.num_complete == self.run.num_phases + 1

    def look(self) -> None:
        """Reads how far it has come."""
        self.progress = read_progress(self.folder / "results.json")

    def needs_no_process(self) -> bool:
        """Whether it is complete, and its log knows of no process with other arguments.

        If there was one, `main` must say whether the run is what is asked for; it shows the difference.
        """
        return self.complete and not has_other_arguments(self.log, self.run.arguments)


def read_progress(path: pathlib.Path) -> Progress:
    """What a run's `results.json` tells; no progress if there is none, or none that can be read."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        phases = results["phases"]
        return Progress(
            len(phases),
            float(results["average_accuracy"][results["primary_classifier"]]) if phases else None,
            float(sum(sum(phase["seconds"].values()) for phase in phases)),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # `main` will say what is wrong with it.
        return Progress()


def command_line(command: Sequence[str]) -> str:
    """The line that a log gets whenever a process is started."""
    return f"{_COMMAND_MARK}{shlex.join(command)}\n"


def has_other_arguments(log: pathlib.Path, arguments: Sequence[str]) -> bool:
    """Whether a process that wrote to the log was started with anything but these, which come last in its command."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return False
    end = f" {shlex.join(arguments)}"
    return any(line.startswith(_COMMAND_MARK) and not line.endswith(end) for line in lines)
