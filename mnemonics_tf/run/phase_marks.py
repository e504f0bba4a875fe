"""The mark of a complete phase, `COMPLETE`: which phase of which run it is, what it came of, and what is in it.

    {"phase": 3, "run": "5f0c...", "configuration": "9ab1...", "before": "07d2...", "data": "c41e...",
     "version": "0.4.0", "code": "e1b8...", "files": {"metrics.json": "77aa...", ...}, "checksum": "30f5..."}

What is damaged and what belongs elsewhere are told apart: the last entry is a checksum of all the others, so that a
mark which names another run is another run's, and not one in which a bit was flipped. Earlier versions wrote fewer
entries, the first of them the checksums of files alone; phases with such marks are resumed all the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.system import complete, files, folders


class DamagedError(checks.UsageError):
    """A phase is not as it was written. Its text names the file.

    Attributes:
      path: of the file.
    """

    def __init__(self, path: str):
        super().__init__(
            f"{path} is missing or was damaged since it was written. Put a copy of it back, or start the run again: it "
            "sets aside what is damaged, and goes on from the newest phase that is whole."
        )
        self.path = path


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a mark says. All but `files` is None where an earlier version did not write it.

    Attributes:
      files: checksum of each file by its path in the folder.
      phase: index of the phase.
      run: drawn when phase 0 was saved, the same in all phases of a run.
      configuration: checksum of the run's configuration.
      before: checksum of the mark of the phase before it; None in phase 0, too.
      data: checksum of what `data.json` says of the data.
      version: of the package that wrote the phase.
      code: checksum of its sources.
      images: marks of images (see `data.identity`) by split and class index, of classes known by the phase whose images
        were others than `data.json` tells of when it was learned; None if there were none. Earlier versions noted
        classes of later phases, too.
    """

    files: dict[str, str]
    phase: int | None = None
    run: str | None = None
    configuration: str | None = None
    before: str | None = None
    data: str | None = None
    version: str | None = None
    code: str | None = None
    images: dict[str, dict[str, str]] | None = None

    def belongs_to(self, other: Mark) -> bool:
        """Whether two phases say nothing that keeps them from being phases of one run on one data set."""
        pairs = ((self.run, other.run), (self.configuration, other.configuration), (self.data, other.data))
        return all(None in pair or pair[0] == pair[1] for pair in pairs)


_NAMES = tuple(field.name for field in dataclasses.fields(Mark))  # later versions may write more


def write(folder: str, mark: Mark) -> None:
    """Marks a folder as complete, with all files that are in it now; `mark.files` is passed over."""
    checksums = {name: complete.checksum(os.path.join(folder, name)) for name in complete.names_in(folder)}
    content = {**dataclasses.asdict(mark), "files": checksums}
    files.write_text(path_of(folder), json.dumps(folders.with_checksum(content), indent=1))


def read(folder: str) -> Mark:
    """The mark of a phase's folder. Raises DamagedError if there is none, or it is damaged."""
    path = path_of(folder)
    try:
        content: Any = folders.read_checked(path)
        if isinstance(content, dict) and isinstance(content.get("files"), dict):
            mark = Mark(**{name: content[name] for name in _NAMES if name in content})
        else:
            mark = Mark(files=content)
        good = bool(mark.files) and all(isinstance(each, str) for each in (*mark.files, *mark.files.values()))
    except (files.UnreadableError, TypeError, AttributeError):
        good = False
    if not good:
        raise DamagedError(path)
    return mark


def path_of(folder: str) -> str:
    """The path of the mark of a phase's folder."""
    return os.path.join(folder, complete.MARK)


def checksum_in(folder: str) -> str | None:
    """What the next phase notes of a phase's mark as `before`; None if it has none."""
    return complete.checksum_or_none(path_of(folder))


def damaged_files(folder: str, mark: Mark) -> list[str]:
    """Paths of files that are missing or were changed since the phase was written."""
    paths = []
    for name, checksum in mark.files.items():
        path = os.path.join(folder, name)
        if not _is_inside(name) or complete.checksum_or_none(path) != checksum:
            paths.append(path)
    return paths


def added_files(folder: str, mark: Mark) -> list[str]:
    """Paths of files that the mark does not list, but for hidden ones: systems leave files such as .DS_Store."""
    names = [name for name in complete.names_in(folder) if name not in mark.files]
    return [os.path.join(folder, name) for name in names if not os.path.basename(name).startswith(".")]


def verified(folder: str, phase: int, configuration: str) -> Mark:
    """The mark of a phase, once its files have proved to be those that it lists.

    Args:
      folder: of the phase.
      phase: which one it should be.
      configuration: checksum of the run's; empty if it is not known.

    Raises:
      DamagedError: a file is missing or was changed.
      UsageError: the folder was taken from another place.
    """
    mark = read(folder)
    for path in damaged_files(folder, mark):
        raise DamagedError(path)
    if mark.phase is not None and mark.phase != phase:
        raise foreign(folder, f"phase {mark.phase}")
    if configuration:
        check_configuration(folder, mark, configuration)
    return mark


def check_configuration(folder: str, mark: Mark, configuration: str) -> None:
    """Raises UsageError if the phase in a folder names another configuration than that of this checksum."""
    if mark.configuration is not None and mark.configuration != configuration:
        raise foreign(folder, "a phase of another configuration")


def check_chain(folders: Sequence[str], marks: Sequence[Mark | None]) -> None:
    """Makes sure that phases are those of one run, and that each came of the one before it.

    Args:
      folders: of the phases, from phase 0 on.
      marks: theirs; None for one that is damaged, which is passed over.

    Raises:
      UsageError: one of them is of another run, of other data, or came of another phase than is there.
    """
    known = [(folder, mark) for folder, mark in zip(folders, marks, strict=True) if mark is not None]
    for folder, mark in known[1:]:
        first, of_first = known[0]
        if not mark.belongs_to(of_first):
            what = "run" if mark.run != of_first.run else "data set"
            raise foreign(folder, f"a phase of another {what} than {first}")
    for phase in range(1, len(folders)):
        own = marks[phase]
        if marks[phase - 1] is None or own is None or own.before is None:
            continue
        if own.before != checksum_in(folders[phase - 1]):
            raise foreign(folders[phase], f"a phase that came of another than {folders[phase - 1]}")


def foreign(folder: str, what: str) -> checks.UsageError:
    """The error of a folder that is whole, and belongs elsewhere."""
    return checks.UsageError(
        f"{folder} holds {what}. Put the run's own folder back, or move it and all later phases elsewhere to train "
        "them again."
    )


def _is_inside(name: str) -> bool:
    return not os.path.isabs(name) and os.pardir not in name.split(os.sep)
