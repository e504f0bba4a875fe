"""What this machine has."""

from __future__ import annotations

import contextlib
import os

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of containers


def memory_bytes() -> int:
    """Bytes of main memory, or those that the container of this process may use, if they are fewer."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        # There is no such file, or it says `max`.
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            found.append(int(file.read()))
    return min(found)
