"""What this machine has, and what this process has used of it."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of containers


def memory_bytes() -> int:
    """Bytes of main memory, or those that the container of this process may use, if they are fewer."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        # There is no such file, or it says `max`.
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            found.append(int(file.read()))
    return min(found)


def peak_memory_bytes() -> int:
    """The most main memory that this process has used since it began, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # in kibibytes on Linux
