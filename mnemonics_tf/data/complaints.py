"""What libjpeg says of a damaged file. It says so on the standard error of the process, and TensorFlow hears nothing.

A JPEG whose pixels are damaged decodes to a picture, of which a part is garbage. The one sign of it is a line such as
`Corrupt JPEG data: bad Huffman code`, which names no file.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

from mnemonics_tf.system import screen

_DAMAGE = re.compile(r"(?:Corrupt JPEG data: )([^\n]+)|(Premature end of JPEG file|Inconsistent progression [^\n]+)")
_LOGGED = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ [^\]]+\] ")
_LOCK = threading.RLock()  # the process has one standard error


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Keeps what is written to standard error while the block runs, by this process and its libraries.

    Yields:
      A list that has the lines once the block is left. Whoever asks for them says the rest to users: see `pass_on`.
    """
    lines: list[str] = []
    with _LOCK:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # there is none, so nobody would see anything
            yield lines
            return
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, saved)
            kept = stack.enter_context(_nameless_file())
            stack.enter_context(screen.turned_aside(saved))
            os.dup2(kept, 2)
            try:
                yield lines
            finally:
                if sys.stderr is not None:
                    sys.stderr.flush()
                os.dup2(saved, 2)
                size = os.fstat(kept).st_size
                if size:
                    lines += os.pread(kept, size, 0).decode(errors="replace").splitlines()


@contextlib.contextmanager
def _nameless_file() -> Iterator[int]:
    """A file descriptor, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stderr")
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            yield file.fileno()


def message(line: str) -> str:
    """What a line says, without the time and place that TensorFlow's log begins with and that differ each time.

    The log is silent about images unless TF_CPP_MIN_LOG_LEVEL asks for it.
    """
    return _LOGGED.sub("", line, count=1).strip()


def damage(lines: list[str]) -> str | None:
    """What libjpeg found damaged, if one of the lines says so, in its own words."""
    for line in lines:
        found = _DAMAGE.search(line)
        if found:
            return found[1] or found[2]
    return None


def pass_on(lines: list[str]) -> None:
    """Writes lines that were heard, but for those of libjpeg on damage, to standard error after all."""
    other = [line for line in lines if not _DAMAGE.search(line)]
    if other and sys.stderr is not None:
        sys.stderr.write("\n".join([*other, ""]))
