"""Works through the runs of a sweep, some at once."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Sequence

from mnemonics_tf.system.screen import BUSY
from sweeping import process
from sweeping.gin_files import checksum
from sweeping.grid import PlannedRun
from sweeping.progress import Entry, State, note_finished

LOGS = "logs"


def logs_dir(output_dir: pathlib.Path) -> pathlib.Path:
    """The folder of all logs of a sweep."""
    return output_dir / LOGS


class Scheduler:
    """Runs what is not finished, in the order given. Whatever becomes of one run, the next one follows.

    Args:
      runs: what the sweep consists of.
      output_dir: holds a folder for each run, and the logs.
      command: what starts a run; the run's arguments are added to it.
      jobs: how many run at once.

    Attributes:
      entries: the runs with their states.
    """

    def __init__(self, runs: Sequence[PlannedRun], output_dir: pathlib.Path, command: Sequence[str], jobs: int):
        self._output_dir = output_dir
        self._command = command
        self._jobs = jobs
        self._live: list[tuple[Entry, process.RunProcess]] = []
        self.entries = [Entry(run, output_dir / run.name, logs_dir(output_dir) / f"{run.name}.txt") for run in runs]
        for entry in self.entries:
            self._skip_if_finished(entry)

    def work(self, show: Callable[[Sequence[Entry]], None], stop: process.Stop) -> None:
        """Starts runs and waits for them, until all are done or a signal to stop comes; leaves no process behind.

        Args:
          show: gets the entries whenever something may have changed.
          stop: notes a signal to stop when it comes.
        """
        try:
            while True:
                self._collect()
                if stop.signal_number is not None:
                    return
                self._start_waiting()
                show(self.entries)
                if not self._live:
                    return
                time.sleep(process.POLL_SECONDS)
        finally:
            process.end([live for _, live in self._live], lambda: stop.is_hurried)

    def _skip_if_finished(self, entry: Entry) -> None:
        entry.look()
        entry.seconds = entry.progress.seconds
        if entry.needs_no_process():
            entry.state = State.FINISHED

    def _start_waiting(self) -> None:
        for entry in self.entries:
            if len(self._live) == self._jobs:
                return
            if entry.state != State.WAITING:
                continue
            # Another sweep of the same folder may have finished it in the meantime.
            self._skip_if_finished(entry)
            if entry.state == State.WAITING:
                self._start(entry)

    def _start(self, entry: Entry) -> None:
        """Starts the process of an entry. One that cannot be started has failed."""
        flags = [f"--output_dir={entry.folder}", f"--initial_phases_dir={self._output_dir / 'initial_phases'}"]
        gin_files = checksum(entry.run.arguments)
        try:
            live = process.RunProcess([*self._command, *flags, *entry.run.arguments], gin_files, entry.log)
        except OSError as error:
            entry.state, entry.message = State.FAILED, f"it cannot be started: {error.strerror or error}"
            return
        self._live.append((entry, live))
        entry.state, entry.seconds = State.RUNNING, 0.0

    def _collect(self) -> None:
        """Looks at the runs that are going on, and takes out those that have ended."""
        for entry, live in list(self._live):
            entry.exit_code = live.exit_code()  # before the look: a run that has ended has written all it will
            entry.look()
            entry.seconds = time.monotonic() - live.started
            if entry.exit_code is not None:
                self._live.remove((entry, live))
                _judge(entry, live.message())
                if entry.state == State.FINISHED:
                    # Without the note, `main` is asked once more whether the run is finished.
                    with contextlib.suppress(OSError):
                        note_finished(entry.log, entry.folder, entry.run.arguments, live.gin_files)


def _judge(entry: Entry, message: str) -> None:
    """Gives an entry whose process has ended its last state."""
    if entry.exit_code == 0 and entry.complete:
        entry.state = State.FINISHED
    elif entry.exit_code == BUSY:
        entry.state = State.BUSY
    else:
        entry.state, entry.message = State.FAILED, message
