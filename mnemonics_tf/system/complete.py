"""Folders that are whole or not there: filled beside their place, then moved, with a checksum of each file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator

from mnemonics_tf.system import files

MARK = "COMPLETE"  # holds the checksums; written last


@contextlib.contextmanager
def writing(final: str) -> Iterator[str]:
    """Hands out a folder to fill; once that is done without an error and all is on disk, it becomes `final`.

    Args:
      final: the folder's path; what is there is replaced.
    """
    partial = f"{final}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    yield partial
    checksums = {os.path.relpath(path, partial): checksum(path) for path in _files(partial)}
    files.write_text(os.path.join(partial, MARK), json.dumps(checksums, indent=1, sort_keys=True))
    for path in _files(partial):
        files.flush(path)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    files.flush(os.path.dirname(final))


def broken_file(folder: str) -> str | None:
    """The path of a file of a complete folder that is missing or was changed since; None if all are as they were.

    That of the mark itself, if it cannot be read.
    """
    mark = os.path.join(folder, MARK)
    try:
        with open(mark, encoding="utf-8") as file:
            expected = json.load(file)
    except (OSError, ValueError, RecursionError):
        return mark
    if not expected or not isinstance(expected, dict):
        return mark
    for name, noted in expected.items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or checksum(path) != noted:
            return path
    return None


def checksum(path: str) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: str) -> list[str]:
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
