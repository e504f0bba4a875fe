"""Which folders hold training images, test images and classes. Names decide, and no file is opened."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence

from mnemonics_tf import checks
from mnemonics_tf.data.clutter import is_clutter

NUM_SHOWN = 5  # names or files that a message lists
LAYOUT = "expected path/train/<class>/... with path/test/<class>/... (or path/val), or path/<class>/... alone"

_TRAIN = "train"
_TESTS = ("test", "val")  # the first that is there
# Beside no `train`, folders of such names are hardly classes.
_LOOKS_LIKE_TRAIN = {"train", "training", "trainset"}
_LOOKS_LIKE_A_SPLIT = {*_LOOKS_LIKE_TRAIN, "test", "testing", "testset", "val", "valid", "validation"}
_MOST_LEVELS = 5  # to which folders in folders are looked into for splits
_PART_OF_A_SPLIT = {*_LOOKS_LIKE_A_SPLIT, "dev", "eval", "pred", "unlabelled", "unlabeled"}  # as in seg_train, seg_pred


def listed(names: Sequence[str]) -> str:
    """The first few of `names`, quoted."""
    shown = ", ".join(map(repr, names[:NUM_SHOWN]))
    return shown if len(names) <= NUM_SHOWN else f"{shown} and {len(names) - NUM_SHOWN} more"


def split_folders(root: str) -> list[str]:
    """The folders of training and test images, or `root` alone if the images are not split.

    Raises:
      UsageError: the folders are not laid out as `folder` says.
    """
    folders = subfolders(root)
    if _TRAIN in folders:
        test = next((name for name in _TESTS if name in folders), None)
        if test is None:
            others = [name for name in folders if name != _TRAIN and looks_like_a_split(name)]
            rename = f"Rename {others[0]!r} to 'test', " if others else "Add test images, "
            raise checks.UsageError(
                f"folder.path = {root!r}: found {listed(folders)}, neither 'test' nor 'val': {LAYOUT}. {rename}"
                f"or move the classes out of {_TRAIN!r} (a class of that name must be renamed)."
            )
        return [os.path.join(root, _TRAIN), os.path.join(root, test)]
    splits = [name for name in folders if looks_like_a_split(name)] or _named_like_splits(root, folders)
    if splits:
        raise checks.UsageError(
            f"folder.path = {root!r}: has {listed(splits)} but no {_TRAIN!r}: {LAYOUT}. Rename what holds the "
            f"training images to {_TRAIN!r} and the test images to 'test', or a class of such a name."
        )
    _refuse_data_sets(root, folders)
    return [root]


def looks_like_a_split(name: str) -> bool:
    """Whether a folder's whole name is one that splits have, in whatever case."""
    return name.casefold() in _LOOKS_LIKE_A_SPLIT


def _named_like_splits(root: str, folders: Sequence[str]) -> list[str]:
    """All folders if the name of each tells a split among other words, as `seg_train`, and each holds folders; or none.

    A class may be called `steam train`: so all of them have to look like splits.
    """
    words = [set(re.split(r"[^a-z]+", name.casefold())) for name in folders]
    if len(folders) < 2 or not all(each & _PART_OF_A_SPLIT for each in words):
        return []
    if not any(each & _LOOKS_LIKE_TRAIN for each in words):
        return []
    return list(folders) if all(subfolders(os.path.join(root, name)) for name in folders) else []


def subfolders(parent: str) -> list[str]:
    """Names of the folders in `parent`, sorted; without hidden ones, and those that systems and tools leave."""
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if not is_clutter(entry.name, True) and entry.is_dir())
    except OSError as error:
        raise cannot_be_listed(error) from error


def cannot_be_listed(error: OSError) -> checks.UsageError:
    """The error of a folder that this user may not read."""
    return checks.UsageError(
        f"folder.path: {error.filename!r} cannot be listed ({error.strerror}). Make it readable for this user."
    )


def _refuse_data_sets(root: str, folders: Sequence[str]) -> None:
    """Raises UsageError if folders that would be classes hold splits: data sets, or the splits of one class."""
    holding = {}
    for name in folders:
        path = _with_several_folders(os.path.join(root, name))
        splits = [each for each in subfolders(path) if looks_like_a_split(each)]
        if splits:
            holding[name] = path, splits
    if not holding:
        return
    path, splits = next(iter(holding.values()))
    if not any(subfolders(os.path.join(path, split)) for split in splits):
        first = next(iter(holding))
        raise checks.UsageError(
            f"folder.path = {root!r}: {listed(list(holding))} hold {listed(splits)}, so the splits lie within the "
            f"classes: {LAYOUT}. Move {first}/{splits[0]} to {splits[0]}/{first}, and the others in the same way."
        )
    if len(holding) == 1:
        raise checks.UsageError(
            f"folder.path = {root!r}: {os.path.relpath(path, root)!r} holds {listed(splits)}, so the data set lies "
            f"deeper. Give that folder: {path!r}."
        )
    raise checks.UsageError(
        f"folder.path = {root!r}: {listed(list(holding))} are data sets side by side, each with {listed(splits)} of "
        f"its own, and no classes. Give one of them, such as {path!r}, or put their classes together."
    )


def _with_several_folders(path: str) -> str:
    """The folder itself, or what it holds if that is a single folder, and so on: archives are unpacked like that."""
    for _ in range(_MOST_LEVELS):
        inner = subfolders(path)
        if len(inner) != 1 or looks_like_a_split(inner[0]):
            break
        path = os.path.join(path, inner[0])
    return path


def class_folders(split: str) -> dict[str, str]:
    """The name of each class and the name of its folder, sorted by the class's.

    Names are compared as people read them: an accented letter may be stored as one character or two.

    Raises:
      UsageError: there are no folders, two are one class on some computers, or a name is no text.
    """
    folders = subfolders(split)
    if not folders:
        raise checks.UsageError(f"folder.path: {split!r} has no folders, so no classes: {LAYOUT}.")
    seen: dict[str, str] = {}
    for name in folders:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise checks.UsageError(
                f"folder.path: the name of class {name!r} in {split!r} is not UTF-8 text. Rename that folder."
            ) from None
        alike = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if alike != name:
            raise checks.UsageError(
                f"folder.path: the classes {alike!r} and {name!r} in {split!r} differ only by case or by how accents "
                "are stored, so they are one class on some computers. Join them or rename one."
            )
    return dict(sorted((unicodedata.normalize("NFC", name), name) for name in folders))


def refuse_different_classes(splits: Sequence[str], names: Sequence[Sequence[str]]) -> None:
    """Raises UsageError if one of two splits has a class that the other has not."""
    for (having, lacking), (there, here) in ((splits, names), (splits[::-1], names[::-1])):
        missing = sorted(set(there) - set(here))
        if missing:
            alike = [name for name in here if name.casefold() == missing[0].casefold()]
            hint = f" {lacking!r} has {alike[0]!r}: rename one of the two." if alike else ""
            raise checks.UsageError(
                f"folder.path: {having!r} has {listed(missing)}, {lacking!r} has not: expected the same classes in "
                f"both.{hint or ' Add what is missing, or remove it from both.'}"
            )
