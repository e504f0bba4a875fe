"""How far a run has come, as its folder and its log tell."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import shlex
from collections.abc import Sequence

from mnemonics_tf import checks, results
from mnemonics_tf.system import complete, folders
from sweeping.gin_files import checksum
from sweeping.grid import PlannedRun
from sweeping.logs import lines_of, open_log

_FINISHED_MARK = "finished: "


class State(enum.StrEnum):
    """What a run is doing, as one sweep sees it."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    BUSY = "busy elsewhere"  # another sweep works on it


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the `results.json` of a run tells; the defaults are those of a run that has none yet.

    Attributes:
      num_complete: how many phases are complete.
      num_phases: N of the run itself, which its files may set otherwise than the grid; None if nothing tells.
      average_accuracy: mean accuracy of the primary classifier over the complete phases, in percent; None before the
        first.
      seconds: time that the complete phases took.
    """

    num_complete: int = 0
    num_phases: int | None = None
    average_accuracy: float | None = None
    seconds: float = 0.0


@dataclasses.dataclass
class Entry:
    """A run of a sweep, with what has become of it so far.

    Attributes:
      run: what was planned.
      folder: where the run's files are.
      log: file of all that the run writes to the screen.
      state: what the run is doing at this moment.
      progress: how far the run has come, as `look` last saw it.
      seconds: how long this sweep has had it running; for a run that was not started, the time that its phases took.
      exit_code: how the run's process ended, negative if a signal ended it; None before that.
      message: the last line that a failed process wrote.
    """

    run: PlannedRun
    folder: pathlib.Path
    log: pathlib.Path
    state: State = State.WAITING
    progress: Progress = Progress()
    seconds: float = 0.0
    exit_code: int | None = None
    message: str = ""

    @property
    def complete(self) -> bool:
        """Whether all phases of the run are complete."""
        return self.progress.num_complete == self.num_phases + 1

    @property
    def num_phases(self) -> int:
        """N, the phases after the first: as the run's own results have it, or else as planned."""
        return self.run.num_phases if self.progress.num_phases is None else self.progress.num_phases

    def look(self) -> None:
        """Reads `results.json` anew, and notes how far the run has come."""
        self.progress = read_progress(self.folder / results.RESULTS_FILE)

    def needs_no_process(self) -> bool:
        """Whether the run is complete, and its log says that what is there was made by these arguments and gin files.

        If not, `main` must say whether the run is what is asked for, which takes seconds and shows the difference.
        """
        made_by = _made_by(self.run.arguments, checksum(self.run.arguments))
        return self.complete and last_finished(self.log) == _finished(made_by, self.folder)


def read_progress(path: pathlib.Path) -> Progress:
    """What a run's `results.json` tells; no progress if there is none, or none that can be read."""
    try:
        read = results.read(str(path))
    except checks.UsageError:  # `main` will say what is wrong with it
        return Progress()
    return Progress(
        len(read.phases),
        read.num_phases,
        read.average_accuracy[read.primary_classifier],
        sum(sum(phase.seconds.values()) for phase in read.phases),
    )


def command_line(command: Sequence[str], gin_files: str) -> str:
    """The line that a log gets whenever a process is started; a shell takes the checksum for a comment."""
    return f"$ {_made_by(command, gin_files)}\n"


def note_finished(log: pathlib.Path, folder: pathlib.Path, arguments: Sequence[str], gin_files: str) -> None:
    """Adds to a log that a process has ended well.

    Args:
      log: the log of the run.
      folder: of the run.
      arguments: flags that the run was started with.
      gin_files: checksum of the run's gin files when the process was started.

    Raises:
      OSError: the log cannot be written.
    """
    with open_log(log) as file:
        file.write(f"{_FINISHED_MARK}{_finished(_made_by(arguments, gin_files), folder)}\n".encode())


def last_finished(log: pathlib.Path) -> str | None:
    """What the last process that ended well was made by, and what it made; None if the log tells of none."""
    noted = [line.removeprefix(_FINISHED_MARK) for line in lines_of(log) if line.startswith(_FINISHED_MARK)]
    return noted[-1] if noted else None


def _finished(made_by: str, folder: pathlib.Path) -> str:
    """A finished run in a line, with a checksum of its configuration: the log outlives the folder, and what lies there
    later may be of another command.
    """
    configuration = complete.checksum_or_none(str(folder / folders.RUN_FILE)) or "none"
    return f"{made_by}, configuration {configuration[:16]}"


def _made_by(arguments: Sequence[str], gin_files: str) -> str:
    return f"{shlex.join(arguments)}  # gin files {gin_files}"
