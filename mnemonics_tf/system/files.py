"""Files: read with care, for others may have put them there, and written so that a killed process leaves no half."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import IO, Any

from mnemonics_tf import checks

PARTIAL = ".partial"  # behind the name of a file that is being written
MAX_BYTES = 64 * 2**20  # of a text: results of a thousand phases take less


class UnreadableError(ValueError):
    """A file cannot be read as what it should be. The text says why in a few words, without the path."""


def read_bytes(path: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a plain file. A pipe would be waited for without end, and a device may have none.

    Raises:
      UnreadableError: nothing is there, it is no plain file, may not be read, or is larger than `max_bytes`.
    """
    try:
        with open_plain(path) as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    if len(content) > max_bytes:
        raise UnreadableError(f"it has more than {max_bytes:,} bytes")
    return content


def open_plain(path: str) -> io.BufferedReader:
    """Opens a plain file for reading.

    Raises:
      OSError: it is not there or may not be read.
      UnreadableError: a folder, a pipe or a device is there.
    """
    # Without O_NONBLOCK, opening a pipe waits for someone who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise UnreadableError("a folder is there" if stat.S_ISDIR(mode) else "it is a pipe or a device, not a file")
    return os.fdopen(descriptor, "rb")


def read_text(path: str, max_bytes: int = MAX_BYTES) -> str:
    """The content of a plain UTF-8 file. Raises UnreadableError as `read_bytes` does, or if it is not text."""
    try:
        return read_bytes(path, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise UnreadableError("it is not text (UTF-8)") from error


def read_json(path: str) -> Any:
    """What a JSON file holds. Raises UnreadableError as `read_text` does, or if it is not JSON or too deep."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"it is not JSON ({error})") from error
    except RecursionError as error:
        raise UnreadableError("its JSON is nested too deeply") from error
    except ValueError as error:  # Python takes no integers of thousands of digits
        raise UnreadableError("it has a number of too many digits") from error


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a JSON file as settings have them: JSON has lists where these have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


# What keeps a file from being written, however right the program is.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


# What else a file system says that is no fault of the program: files that went, rights taken away, disks that fail.
_FAILING = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENODEV,
    errno.ENXIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
    *([errno.EREMOTEIO] if hasattr(errno, "EREMOTEIO") else []),  # macOS has none
)


def why_failing(error: BaseException) -> str | None:
    """The reason in the system's words if a file or its file system is not as it was; else None.

    TensorFlow's errors have the reason at the end of their first line.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _FAILING else None
    if not type(error).__module__.startswith("tensorflow"):
        return None
    lines = str(error).splitlines() or [""]
    return next((os.strerror(number) for number in _FAILING if f"; {os.strerror(number)}" in lines[0]), None)


def why_unwritable(error: BaseException) -> str | None:
    """The reason in the system's words if a disk is full, a file too large or a file system read-only; else None.

    Libraries put the reason into the text of errors of their own.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _FULL else None
    return next((os.strerror(number) for number in _FULL if os.strerror(number) in str(error)), None)


def check_given(**paths: str | None) -> None:
    """Raises UsageError for a path that is empty, which would be taken for the working folder, or for none.

    Args:
      paths: as the user has given them, by what the user knows them by; None is not given.
    """
    for name, path in paths.items():
        if path == "":  # such as of a variable that is not set
            raise checks.UsageError(f"{name} is empty: expected a path.")


def check_path(name: str, path: str) -> None:
    """Raises UsageError unless a folder that is to be written to has a path that can be written down, in UTF-8.

    Args:
      name: what the user knows it by, such as `--output_dir`.
      path: as the user has given it; the working folder counts for one that is relative.
    """
    try:
        os.path.abspath(os.path.expanduser(path)).encode()
    except UnicodeEncodeError:
        raise checks.UsageError(
            f"{name} = {os.fsencode(path)!r}: expected a path in UTF-8, from the root on. Name another folder."
        ) from None


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Hands out a file to write to; once that is done without an error and on disk, it takes the place of `path`.

    A link that someone has put in either place is not followed: it is replaced.
    """
    partial = f"{path}{PARTIAL}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        flush(os.path.dirname(path) or ".")
    finally:
        with contextlib.suppress(OSError):
            os.remove(partial)


def write_text(path: str, text: str) -> None:
    """Replaces a text file in one step."""
    with replacing(path) as file:
        file.write(text.encode())


def flush(path: str) -> None:
    """Forces a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
