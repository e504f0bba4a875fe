"""The mark of a complete phase, `COMPLETE`: which phase of which run it is, and a checksum of each of its files.

    {"phase": 3, "run": "5f0c...", "configuration": "9ab1...", "files": {"metrics.json": "77aa...", ...}}

Earlier versions wrote the checksums alone; phases with such a mark are resumed all the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.system import complete, files


@dataclasses.dataclass(frozen=True)
class _Mark:
    """What a mark says.

    Attributes:
      files: checksum of each file by its path in the folder.
      phase: index of the phase; None in a mark of an earlier version.
      run: drawn when phase 0 was saved, the same in all phases of a run; None in a mark of an earlier version.
      configuration: checksum of the run's configuration; None in a mark of an earlier version.
    """

    files: dict[str, str]
    phase: int | None = None
    run: str | None = None
    configuration: str | None = None


def write(folder: str, phase: int, configuration: str, first: str | None) -> None:
    """Marks a folder as complete, with all files that are in it now.

    Args:
      folder: of the phase.
      phase: its index.
      configuration: checksum of the run's.
      first: the folder of phase 0, which names the run; None for phase 0 itself.
    """
    run = secrets.token_hex(16) if first is None else _read(first).run
    checksums = {name: complete.checksum(os.path.join(folder, name)) for name in complete.names_in(folder)}
    mark = {"phase": phase, "run": run, "configuration": configuration, "files": checksums}
    files.write_text(os.path.join(folder, complete.MARK), json.dumps(mark, indent=1))


def verify(folder: str, phase: int, configuration: str) -> None:
    """Compares a phase's files with its mark, and the mark with the run.

    Args:
      folder: of the phase.
      phase: which one it should be.
      configuration: checksum of the run's; empty if it is not known.

    Raises:
      UsageError: a file is missing, was changed or added, or the folder was taken from another place.
    """
    mark = _read(folder)
    for name, checksum in mark.files.items():
        path = os.path.join(folder, name)
        if not _is_inside(name) or complete.checksum_or_none(path) != checksum:
            raise _damaged(path, folder)
    for name in complete.names_in(folder):
        # Systems leave files such as .DS_Store.
        if name not in mark.files and not os.path.basename(name).startswith("."):
            raise checks.UsageError(
                f"{os.path.join(folder, name)} was added since {folder} was written. Move it elsewhere, or delete "
                f"{folder} and all later phases to train them again from the phase before."
            )
    for found, expected, what in (
        (mark.phase, phase, f"phase {mark.phase}"),
        (mark.configuration, configuration, "a phase of another configuration"),
    ):
        if found is not None and expected != "" and found != expected:
            raise _foreign(folder, what)


def check_same_run(first: str, folder: str) -> None:
    """Raises UsageError if two folders of phases were saved by different runs."""
    runs = {_read(each).run for each in (first, folder)} - {None}
    if len(runs) > 1:
        raise _foreign(folder, f"a phase of another run than {first}")


def _read(folder: str) -> _Mark:
    path = os.path.join(folder, complete.MARK)
    try:
        content: Any = files.read_json(path)
        if isinstance(content, dict) and isinstance(content.get("files"), dict):
            mark = _Mark(**content)
        else:
            mark = _Mark(files=content)
        good = bool(mark.files) and all(isinstance(each, str) for each in (*mark.files, *mark.files.values()))
    except (files.UnreadableError, TypeError, AttributeError):
        good = False
    if not good:
        raise _damaged(path, folder)
    return mark


def _is_inside(name: str) -> bool:
    return not os.path.isabs(name) and os.pardir not in name.split(os.sep)


def _damaged(path: str, folder: str) -> checks.UsageError:
    return checks.UsageError(
        f"{path} is missing or was damaged since it was written. Delete {folder} and all later phases to train them "
        "again from the phase before."
    )


def _foreign(folder: str, what: str) -> checks.UsageError:
    return checks.UsageError(
        f"{folder} holds {what}. Put the run's own folder back, or delete it and all later phases to train them again."
    )
