"""Folders that are whole or not there: filled beside their place, marked with a checksum of each file, then moved."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from mnemonics_tf.system import files

MARK = "COMPLETE"  # written last


def write_mark(folder: str) -> None:
    """Marks a folder as complete: a checksum of each file that is in it now."""
    checksums = {name: checksum(os.path.join(folder, name)) for name in names_in(folder)}
    files.write_text(os.path.join(folder, MARK), json.dumps(checksums, indent=1))


@contextlib.contextmanager
def writing(final: str, mark: Callable[[str], None] = write_mark) -> Iterator[str]:
    """Hands out a folder to fill; once that is done without an error and all is on disk, it becomes `final`.

    Args:
      final: the folder's path; what is there is replaced.
      mark: marks the filled folder as complete.
    """
    partial = f"{final}.partial"
    remove(partial)
    os.makedirs(partial)
    try:
        yield partial
        mark(partial)
        flush_all(partial)
        remove(final)
        os.replace(partial, final)
    except Exception:
        remove(partial)  # a full disk has room again
        raise
    files.flush(os.path.dirname(final))


def flush_all(folder: str) -> None:
    """Forces a folder to disk, with all that is in it."""
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (*(os.path.join(parent, name) for name in names), parent):
            files.flush(path)


def set_aside(path: str, folder: str) -> str:
    """Moves what cannot be used to a folder, made if it is not there, and keeps it: it may be wanted yet.

    Args:
      path: of a file or folder.
      folder: on the same file system.

    Returns:
      Where it is now: under its own name, with a number behind it where that is taken.
    """
    os.makedirs(folder, exist_ok=True)
    name = os.path.basename(path)
    taken = set(os.listdir(folder))
    free = next(each for number in itertools.count(1) if (each := f"{name}-{number}") not in taken)
    place = os.path.join(folder, name if name not in taken else free)
    os.rename(path, place)
    for changed in (folder, os.path.dirname(folder), os.path.dirname(path)):
        files.flush(changed)
    return place


def broken_file(folder: str) -> str | None:
    """The path of a file of a complete folder that is missing or was changed since; None if all are as they were.

    That of the mark itself, if it cannot be read.
    """
    mark = os.path.join(folder, MARK)
    try:
        expected = files.read_json(mark)
    except files.UnreadableError:
        return mark
    if not expected or not isinstance(expected, dict):
        return mark
    for name, noted in expected.items():
        path = os.path.join(folder, name)
        if checksum_or_none(path) != noted:
            return path
    return None


def names_in(folder: str) -> list[str]:
    """Paths in a folder, relative to it, of all that is no folder itself, but for the mark."""
    found = (
        os.path.relpath(os.path.join(parent, name), folder) for parent, _, names in os.walk(folder) for name in names
    )
    return sorted(name for name in found if name != MARK)


def checksum(path: str) -> str:
    """SHA-256 of a plain file's content. Raises OSError or UnreadableError if there is none."""
    with files.open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_of(content: Any) -> str:
    """SHA-256 of what a JSON file holds, however it is laid out there."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()


def checksum_or_none(path: str) -> str | None:
    """SHA-256 of a plain file's content; None if there is none."""
    try:
        return checksum(path)
    except (OSError, files.UnreadableError):
        return None


def remove(path: str) -> None:
    """Removes a folder, or whatever else is there; a link is not followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
