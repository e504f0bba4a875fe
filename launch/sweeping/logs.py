"""The logs of runs: only ever added to, and read with care, for others may have put them there."""

from __future__ import annotations

import os
import pathlib
import stat
from typing import BinaryIO

from mnemonics_tf.system import files

_TAIL = 2**16  # bytes in which the last line of a run is looked for


def open_log(path: pathlib.Path) -> BinaryIO:
    """Opens a log to add to it, unbuffered; it is made if it is not there.

    Raises:
      OSError: it cannot be written. A link is not followed, and a pipe or device not written to.
    """
    # Without O_NONBLOCK, opening a pipe waits for someone who reads from it.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is a pipe or a device, not a file")
    os.set_blocking(descriptor, True)  # a process that gets it expects that
    return os.fdopen(descriptor, "ab", buffering=0)


def last_line(path: pathlib.Path, start: int) -> str:
    """The last line from a byte of a log on that is not indented; empty if there is none, or it cannot be read."""
    try:
        with files.open_plain(str(path)) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _TAIL))
            text = file.read().decode(errors="replace")
    except (OSError, files.UnreadableError):
        return ""
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1] if lines else ""


def lines_of(path: pathlib.Path) -> list[str]:
    """All lines of a log; none if it is not there, or cannot be read."""
    try:
        return files.read_bytes(str(path)).decode(errors="replace").split("\n")
    except files.UnreadableError:
        return []
