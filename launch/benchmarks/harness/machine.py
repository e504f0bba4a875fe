"""What machine this is, without its name."""

from __future__ import annotations

import os
import platform
import re
import time

_GB = 1e9


def describe() -> dict[str, str]:
    """Processor, cores, memory and operating system, for people."""
    return {
        "CPU": cpu_model(),
        "cores": str(num_cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GB:.0f} GB",
        "operating system": operating_system(),
    }


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name."""
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def operating_system() -> str:
    """Distribution, kernel and architecture."""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, kernel {platform.release()}, {platform.machine()}"


class Others:
    """How busy the rest of the machine is, from the moment this is made until it is asked."""

    def __init__(self):
        self._start, self._seconds = time.perf_counter(), _seconds_of_others()

    def share(self) -> float | None:
        """Part of the cores' time that went to anything but this process and its children that have ended."""
        seconds = _seconds_of_others()
        if seconds is None or self._seconds is None:
            return None
        elapsed = (time.perf_counter() - self._start) * (os.cpu_count() or 1)
        return max(0.0, seconds - self._seconds) / elapsed


def _seconds_of_others() -> float | None:
    """Seconds since the start of the machine, all cores together; None where the system does not tell."""
    match = re.search(r"^cpu +(.+)$", _read("/proc/stat"), re.MULTILINE)
    if not match:
        return None
    # The fourth and fifth are idle and waiting for a disk; those after the eighth are counted in the first two.
    ticks = [int(number) for number in match.group(1).split()]
    busy = (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - own.user - own.system - own.children_user - own.children_system


def available_memory() -> int | None:
    """Bytes that a new process can have; None where the system does not tell."""
    match = re.search(r"^MemAvailable:\s*(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
