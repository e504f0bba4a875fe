"""Jobs in child processes, what is done to them on the way, and what has become of them.

A child is forked from a process that has imported all that the job needs. Where a call that changes the file system is
counted, the counting is done in the child, around Python's own functions: the product knows nothing of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection

from mnemonics_tf.system import screen

# Calls at which a process is ended, or an error is raised: what writes in one step, and what takes things away.
_CALLS = ("fsync", "replace", "rename", "mkdir", "remove", "rmdir", "unlink")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a child.

    Attributes:
      call: number of the call among those that change the file system, from 0 on; None for no such call.
      number: the error that it raises (`errno`); None to end the process by SIGKILL, before the call.
      after: whether the call is made before that.
      seconds: the time after which the process is ended by SIGKILL; None for never.
      file_size: the most bytes that a file may have; None for no limit.
    """

    call: int | None = None
    number: int | None = None
    after: bool = False
    seconds: float | None = None
    file_size: int | None = None


NO_FAULT = Fault()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What has become of a child.

    Attributes:
      kind: `finished`; `told`, if it ended with one line and an exit code; `killed`; `traceback`; or `crashed`, if
        another signal has ended it, or it had not ended in time.
      text: what it wrote to standard error.
      calls: how many calls were counted.
      seconds: that it took.
    """

    kind: str
    text: str
    calls: int
    seconds: float


def run(job: Callable[[], object], fault: Fault = NO_FAULT, patience: float = 900.0) -> Outcome:
    """Runs a job in a child process, as the command line would: errors of users are told in one line.

    Args:
      job: what the child does.
      fault: what happens to it meanwhile.
      patience: seconds after which it counts as hanging.
    """
    start = time.monotonic()
    with tempfile.TemporaryFile() as screen_file, tempfile.TemporaryFile() as counted:
        child = os.fork()
        if child == 0:
            _work(job, fault, screen_file.fileno(), counted.fileno())
        status, is_hanging = _waited(child, start, fault.seconds, patience)
        seconds = time.monotonic() - start
        screen_file.seek(0)
        counted.seek(0)
        text = screen_file.read().decode(errors="replace")
        calls = len(counted.read())
    kind = _kind(status, fault, "Traceback (most" in text)
    return Outcome("crashed" if is_hanging else kind, text, calls, seconds)


def _waited(child: int, start: float, seconds: float | None, patience: float) -> tuple[int, bool]:
    """The exit status of a child, and whether patience came to an end."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status, False
        age = time.monotonic() - start
        if (seconds is not None and age >= seconds) or age >= patience:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1], age >= patience
        time.sleep(0.002)


def _kind(status: int, fault: Fault, has_traceback: bool) -> str:
    if os.WIFSIGNALED(status):
        is_meant = os.WTERMSIG(status) == signal.SIGKILL and fault != NO_FAULT
        return "killed" if is_meant else "crashed"
    if has_traceback:
        return "traceback"
    return "finished" if os.WEXITSTATUS(status) == 0 else "told"


def _work(job: Callable[[], object], fault: Fault, screen_file: int, counted: int) -> None:
    """The life of a child. Never returns."""
    code = 1
    try:
        os.dup2(screen_file, 1)
        os.dup2(screen_file, 2)
        counting = Counting(counted)
        counting.install()
        counting.begin(fault)
        if fault.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_size, fault.file_size))
        code = called(job)
        sys.stderr.flush()
        sys.stdout.flush()
    finally:
        os._exit(code)


def called(job: Callable[[], object]) -> int:
    """The exit code of a job that is called as the command line would: errors of users are told in one line."""
    try:
        job()
    except Exception as error:
        code, text = screen.explained(error, "the run's folder", "the same command goes on")
        if code is None:
            traceback.print_exc()
            return 1
        print(text, file=sys.stderr)
        return code
    return 0


class Counting:
    """Counts calls that change the file system, and does what a fault says at one of them.

    Args:
      counted: a file that gets a byte a call, so that others know of them even if this process is killed; or None.
    """

    def __init__(self, counted: int | None = None):
        self._counted, self._number = counted, 0
        self._fault: Fault | None = None
        self._stops: Collection[tuple[int, bool]] = ()

    def begin(self, fault: Fault, stops: Collection[tuple[int, bool]] = ()) -> None:
        """From here on calls are counted, from 0 on; before or after some of them the process stops itself."""
        self._number, self._fault, self._stops = 0, fault, stops

    def end(self) -> int:
        """Ends the counting. Returns how many calls there were."""
        self._fault = None
        return self._number

    def install(self) -> None:
        """Puts itself around Python's functions."""
        for name in _CALLS:
            setattr(os, name, self._around(getattr(os, name)))

    def _around(self, call):
        def counting(*args, **kwargs):
            if self._fault is None:
                return call(*args, **kwargs)
            fault, number = self._fault, self._number
            self._number += 1
            if self._counted is not None:
                os.write(self._counted, b".")
            is_the_one = number == fault.call
            if is_the_one and fault.after:
                call(*args, **kwargs)
            if is_the_one and fault.number is not None:
                raise OSError(fault.number, os.strerror(fault.number), str(args[0]) if args else None)
            if is_the_one:
                os.kill(os.getpid(), signal.SIGKILL)
            if (number, False) in self._stops:
                os.kill(os.getpid(), signal.SIGSTOP)
            try:
                return call(*args, **kwargs)
            finally:
                if (number, True) in self._stops:
                    os.kill(os.getpid(), signal.SIGSTOP)

        return counting


ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOENT)


@contextlib.contextmanager
def small_disk(size: str):
    """A file system in memory of a size such as `1m`; None where this process may not make one."""
    with tempfile.TemporaryDirectory() as place:
        if os.system(f"mount -t tmpfs -o size={size} tmpfs {place} 2>/dev/null"):
            yield None
            return
        try:
            yield place
        finally:
            os.system(f"umount --lazy {place}")  # a process that was ended may hold a file for a moment more
