"""A run's process: started, watched, ended."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from mnemonics_tf.system.screen import notice
from sweeping.grid import ROOT
from sweeping.logs import last_line, open_log
from sweeping.progress import command_line

# Seconds: between two looks at what goes on, and for which a process that is asked to end may go on, as it finishes and
# keeps its step. Slurm by default kills 30 seconds after it has asked.
POLL_SECONDS = 0.1
GRACE_SECONDS = 25.0
PATIENCE = 2.0  # seconds after which somebody who waits for that is told so


class RunProcess:
    """Starts a process in the project's root, in a session of its own: Ctrl-C reaches the sweep alone, which ends it.

    Args:
      command: the program and its arguments.
      gin_files: checksum of the gin files that the arguments name.
      log: file that gets the command line, and then all that the process writes; earlier content stays.

    Raises:
      OSError: the log cannot be written, or the process not be started.

    Attributes:
      gin_files: checksum of the gin files when the process was started.
      started: when the process was started, by the monotonic clock.
    """

    def __init__(self, command: list[str], gin_files: str, log: pathlib.Path):
        self._log = log
        self.gin_files = gin_files
        self.started = time.monotonic()
        with open_log(log) as file:
            file.write(command_line(command, gin_files).encode())
            self._log_start = file.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Both streams go to one file: with a buffer, what came first could stand last.
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """The exit code of the process, negative if a signal ended it; None while it is running."""
        return self._process.poll()

    def message(self) -> str:
        """The last line that it wrote and that is not indented; a failed `main` ends with its error."""
        return last_line(self._log, self._log_start)

    def send(self, signal_number: int) -> None:
        """Sends a signal to it, and to processes it has started."""
        if self.exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal_number)

    def wait(self) -> None:
        """Waits until it has ended."""
        self._process.wait()


def end(processes: Sequence[RunProcess], in_a_hurry: Callable[[], bool]) -> None:
    """Asks processes to end, and kills those that have not after `GRACE_SECONDS`, or as soon as there is a hurry."""
    for process in processes:
        process.send(signal.SIGTERM)
    asked, is_told = time.monotonic(), False
    while any(process.exit_code() is None for process in processes) and not in_a_hurry():
        waited = time.monotonic() - asked
        if waited >= GRACE_SECONDS:
            break
        if waited >= PATIENCE and not is_told:
            notice("sweep: runs finish the step they are in, and keep it. Ctrl-C ends them at once.")
            is_told = True
        time.sleep(POLL_SECONDS)
    for process in processes:
        process.send(signal.SIGKILL)
        process.wait()


class Stop:
    """A context manager that notes signals to stop (Ctrl-C, SIGTERM, a terminal that was closed) instead of dying.

    Attributes:
      signal_number: of the first that came; None if none has.
      is_hurried: whether Ctrl-C has come after it: nobody is to be waited for any more.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.is_hurried = False

    def __enter__(self) -> Stop:
        # One that is ignored stays so: `nohup` does that to SIGHUP.
        self._previous = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, signal_number: int, frame: object) -> None:
        if self.signal_number is None:
            self.signal_number = signal_number
        elif signal_number == signal.SIGINT:
            self.is_hurried = True
