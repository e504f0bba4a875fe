"""Which image files a folder holds, one folder a class, without opening any.

Whatever a listing can tell is checked here, before the first image is decoded.
"""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from mnemonics_tf import checks

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

_TRAIN = "train"
_TESTS = ("test", "val")  # the first that is there
# Beside no `train`, folders of such names are hardly classes.
_LOOKS_LIKE_A_SPLIT = {"train", "training", "test", "testing", "val", "valid", "validation"}

_LAYOUT = "expected path/train/<class>/... with path/test/<class>/... (or path/val), or path/<class>/... alone"
NUM_SHOWN = 5  # names or files that a message lists


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files of one split, not opened yet.

    Attributes:
      root: the split's folder.
      files: their paths, class after class, sorted within each, `[n]`.
      labels: class id of each file, `[n]` int64.
    """

    root: str
    files: tuple[str, ...]
    labels: np.ndarray


def root_of(path: str) -> str:
    """The absolute path of a folder that a user gave; `~` is the user's home. An empty path stays empty."""
    return os.path.abspath(os.path.expanduser(path)) if path else path


def scan(root: str) -> tuple[tuple[str, ...], list[Listing]]:
    """Class names, sorted, and the listings of training and test images; one listing where they are not apart.

    Raises:
      UsageError: the folders are not laid out as `folder` says, or a class has no image file, or only one where
        training and test images are not apart.
    """
    if not os.path.isdir(root):
        found = "that is a file" if os.path.isfile(root) else "there is no such folder"
        raise checks.UsageError(f"folder.path = {root!r}: {found}. Give a folder: {_LAYOUT}.")
    splits = _split_folders(root)
    names = [_class_names(split) for split in splits]
    if len(splits) == 2 and names[0] != names[1]:
        _refuse_different_classes(splits, names)
    listings = [_listing(split, names[0]) for split in splits]
    if len(listings) == 1:
        _refuse_single_images(listings[0], names[0])
    return tuple(names[0]), listings


def _split_folders(root: str) -> list[str]:
    """The folders of training and test images, or `root` alone if the images are not split."""
    folders = _subfolders(root)
    if _TRAIN not in folders:
        splits = [name for name in folders if name.casefold() in _LOOKS_LIKE_A_SPLIT]
        if splits:
            raise checks.UsageError(
                f"folder.path = {root!r}: has {listed(splits)} but no {_TRAIN!r}: {_LAYOUT}. Rename what holds the "
                f"training images to {_TRAIN!r} and the test images to 'test', or a class of such a name."
            )
        return [root]
    test = next((name for name in _TESTS if name in folders), None)
    if test is None:
        raise checks.UsageError(
            f"folder.path = {root!r}: found {listed(folders)}, neither 'test' nor 'val': {_LAYOUT}. Add test images, "
            f"or move the classes out of {_TRAIN!r} (a class of that name must be renamed)."
        )
    return [os.path.join(root, _TRAIN), os.path.join(root, test)]


def _subfolders(parent: str) -> list[str]:
    """Names of the folders in `parent` that are not hidden, sorted."""
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise _cannot_be_listed(error) from error


def _cannot_be_listed(error: OSError) -> checks.UsageError:
    return checks.UsageError(
        f"folder.path: {error.filename!r} cannot be listed ({error.strerror}). Make it readable for this user."
    )


def _class_names(split: str) -> list[str]:
    names = _subfolders(split)
    if not names:
        raise checks.UsageError(f"folder.path: {split!r} has no folders, so no classes: {_LAYOUT}.")
    seen: dict[str, str] = {}
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise checks.UsageError(
                f"folder.path: the name of class {name!r} in {split!r} is not UTF-8 text. Rename that folder."
            ) from None
        # Accents may be stored in two ways, too.
        alike = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if alike != name:
            raise checks.UsageError(
                f"folder.path: the classes {alike!r} and {name!r} in {split!r} differ only by case or by how accents "
                "are stored, so they are one class on some computers. Join them or rename one."
            )
    return names


def _refuse_different_classes(splits: Sequence[str], names: Sequence[Sequence[str]]) -> None:
    for (having, lacking), (there, here) in ((splits, names), (splits[::-1], names[::-1])):
        missing = sorted(set(there) - set(here))
        if missing:
            raise checks.UsageError(
                f"folder.path: {having!r} has {listed(missing)}, {lacking!r} has not: expected the same classes in "
                "both. Add what is missing, or remove it from both."
            )


def _listing(split: str, class_names: Sequence[str]) -> Listing:
    files: list[str] = []
    sizes = []
    for name in class_names:
        found = sorted(_image_files(os.path.join(split, name)))
        files += found
        sizes.append(len(found))
    empty = [name for name, size in zip(class_names, sizes, strict=True) if not size]
    if empty:
        raise checks.UsageError(
            f"folder.path: no image in {listed(empty)} in {split!r}: expected files {', '.join(SUFFIXES)} in every "
            "class's folder. Add images or remove the folder."
        )
    return Listing(split, tuple(files), np.repeat(np.arange(len(class_names), dtype=np.int64), sizes))


def _refuse_single_images(listing: Listing, class_names: Sequence[str]) -> None:
    single = [name for name, size in zip(class_names, np.bincount(listing.labels).tolist(), strict=True) if size < 2]
    if single:
        raise checks.UsageError(
            f"folder.path = {listing.root!r}: {listed(single)} with one image only: expected at least 2 in a class, to "
            "train on and to test on. Add images or remove the class."
        )


def _image_files(top: str) -> Iterator[str]:
    """Files at any depth below `top` whose name ends as an image's does. Links to folders are followed."""

    def refuse(error: OSError) -> None:
        raise _cannot_be_listed(error)

    visited = set()
    for parent, folders, names in os.walk(top, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # links in a circle
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(parent, name)


def listed(names: Sequence[str]) -> str:
    """The first few of `names`, quoted."""
    shown = ", ".join(map(repr, names[:NUM_SHOWN]))
    return shown if len(names) <= NUM_SHOWN else f"{shown} and {len(names) - NUM_SHOWN} more"
