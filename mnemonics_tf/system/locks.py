"""Locks between processes: a file that one of them holds at a time. The system lets go of it even if one is killed."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Callable


class HeldError(RuntimeError):
    """Another process holds the lock."""


class NoLocksError(OSError):
    """The file system knows no locks."""


class Lock:
    """A lock that is held: until `release`, until the end of a `with` block, or until nothing refers to it any more."""

    def __init__(self, descriptor: int):
        self._close = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Lets go of it; a second call does nothing."""
        self._close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def hold(path: str, waiting: Callable[[], None] | None = None, shared: bool = False) -> Lock:
    """Takes a lock: `with hold(path): ...`, or for as long as the result lives.

    Args:
      path: of the lock's file, made if it is not there; it stays when the lock is let go. A link is not followed.
      waiting: called if another process holds it, which is then waited for: tells the user so. None to raise.
      shared: whether others may hold it at the same time, if they share it too: for those who only read.

    Raises:
      HeldError: another process holds it, and is not to be waited for.
      NoLocksError: the file system knows no locks.
      OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    lock = Lock(descriptor)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is None:
            lock.release()
            raise HeldError(path) from None
        waiting()
        fcntl.flock(descriptor, kind)
    except OSError as error:
        lock.release()
        raise NoLocksError(error.errno, error.strerror) from error
    return lock


def is_held(path: str) -> bool:
    """Whether another process holds a lock; where that cannot be told, it counts as free. Changes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    with Lock(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
