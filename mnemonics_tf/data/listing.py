"""Which image files a folder holds, one folder a class.

Whatever a listing can tell is checked here, before the first image is decoded. Files whose names end as those of images
do are not opened; of others the first bytes tell whether they are images.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data import headers
from mnemonics_tf.data.clutter import is_clutter
from mnemonics_tf.data.layout import (
    LAYOUT,
    NUM_SHOWN,
    cannot_be_listed,
    class_folders,
    listed,
    refuse_different_classes,
    split_folders,
)
from mnemonics_tf.data.paths import absolute

__all__ = ["NUM_SHOWN", "SUFFIXES", "Listing", "PassedOver", "listed", "root_of", "scan"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
# Pictures that a run does not read, if the first bytes do not say that they are something else.
# fmt: off
_OTHER_PICTURES = (
    ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".svgz", ".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".xcf", ".ai",
    ".eps", ".tga", ".ico", ".pcx", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".dcm", ".raw", ".cr2", ".cr3",
    ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf",
)
# fmt: on


@dataclasses.dataclass
class PassedOver:
    """Files beside the images that a run does not read, counted by the ending of their names.

    Attributes:
      pictures: number of pictures of other formats, by ending (`.tif`).
      others: number of files that are no pictures, by ending.
      example: a picture among them, its path; empty if there is none.
    """

    pictures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    example: str = ""

    def add(self, file: str, is_picture: bool) -> None:
        """Counts one more file."""
        ending = os.path.splitext(file)[1].lower() or "no ending"
        (self.pictures if is_picture else self.others)[ending] += 1
        if is_picture and not self.example:
            self.example = file

    def joined(self, other: PassedOver) -> PassedOver:
        """The files of both."""
        return PassedOver(self.pictures + other.pictures, self.others + other.others, self.example or other.example)

    def notice(self, num_files: int) -> str:
        """A line that says which pictures are passed over beside `num_files` image files; empty if there are none."""
        count = self.pictures.total()
        if not count:
            return ""
        return (
            f"{count:,} of {count + num_files:,} pictures are in formats that are not read, and passed over: "
            f"{by_ending(self.pictures)} (such as {self.example}). Convert them to JPEG or PNG to use them."
        )


def by_ending(counts: collections.Counter[str]) -> str:
    """How many files of each ending there are, in words, the most frequent first."""
    common = counts.most_common(NUM_SHOWN)
    rest = counts.total() - sum(count for _, count in common)
    text = ", ".join(f"{count:,} {ending}" for ending, count in common)
    return f"{text} and {rest:,} more" if rest else text


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files of one split, not decoded yet.

    Attributes:
      root: the split's folder.
      files: their paths, class after class, sorted within each, `[n]`.
      labels: class id of each file, `[n]` int64.
      passed_over: the other files.
      alike: names of the folders that every class holds, if there are several and no image lies beside them. They may
        be the classes, and what is taken for classes data sets.
    """

    root: str
    files: tuple[str, ...]
    labels: np.ndarray
    passed_over: PassedOver
    alike: tuple[str, ...] = ()


def root_of(path: str) -> str:
    """The absolute path of `folder.path`; an empty path stays empty."""
    return absolute(path)


def scan(root: str, fewest: int = 2, may_be_empty: Collection[str] = ()) -> tuple[tuple[str, ...], list[Listing]]:
    """Class names, sorted, and the listings of training and test images; one listing where they are not apart.

    Args:
      root: absolute path of the folder.
      fewest: image files that a class must have where training and test images are not apart: two, one for either, by
        default; one where the images will not be split.
      may_be_empty: names of classes whose folders need not hold an image; none by default.

    Raises:
      UsageError: the folders are not laid out as `folder` says, or a class has too few image files.
    """
    if not os.path.isdir(root):
        found = "that is a file" if os.path.isfile(root) else "there is no such folder"
        raise checks.UsageError(f"folder.path = {root!r}: {found}. Give a folder: {LAYOUT}.")
    splits = split_folders(root)
    folders = [class_folders(split) for split in splits]
    names = [list(each) for each in folders]
    if len(splits) == 2 and names[0] != names[1]:
        refuse_different_classes(splits, names)
    listings = [_listing(split, each, may_be_empty) for split, each in zip(splits, folders, strict=True)]
    if len(listings) == 1 and fewest > 1:
        _refuse_single_images(listings[0], names[0])
    return tuple(names[0]), listings


def _listing(split: str, folders: dict[str, str], may_be_empty: Collection[str]) -> Listing:
    files: list[str] = []
    sizes = []
    passed_over = PassedOver()
    for folder in folders.values():
        found = sorted(_image_files(os.path.join(split, folder), passed_over))
        files += found
        sizes.append(len(found))
    empty = [name for name, size in zip(folders, sizes, strict=True) if not size and name not in may_be_empty]
    if empty:
        pictures = passed_over.pictures
        others = f" (pictures of other formats are not read: {by_ending(pictures)})" if pictures else ""
        raise checks.UsageError(
            f"folder.path: no image in {listed(empty)} in {split!r}: expected files {', '.join(SUFFIXES)} in every "
            f"class's folder{others}. Add images or remove the folder."
        )
    labels = np.repeat(np.arange(len(folders), dtype=np.int64), sizes)
    ends = np.cumsum(sizes)
    inner = [_inner_folders(files[end - size : end]) for size, end in zip(sizes, ends, strict=True) if size]
    only = next(iter(folders)) if len(folders) == 1 else None
    if only is not None and only not in may_be_empty and inner and len(inner[0]) > 1:
        path = _common_folder(files)
        raise checks.UsageError(
            f"folder.path: {split!r} has one folder, {next(iter(folders.values()))!r}, and that holds "
            f"{listed(inner[0])}: the classes lie deeper. Give that folder ({path!r}), or move what is in it up."
        )
    alike = inner[0] if len(inner) > 1 and len(inner[0]) > 1 and all(each == inner[0] for each in inner) else []
    return Listing(split, tuple(files), labels, passed_over, tuple(alike))


def _common_folder(files: Sequence[str]) -> str:
    """The innermost folder that holds all of some files, which are sorted."""
    return os.path.commonpath([os.path.dirname(files[0]), os.path.dirname(files[-1])])


def _inner_folders(files: Sequence[str]) -> list[str]:
    """Names of the folders in which the images of a class lie, sorted; none if an image lies beside them."""
    start = len(_common_folder(files)) + 1
    names = {name if inside else "" for name, inside, _ in (file[start:].partition(os.sep) for file in files)}
    return [] if "" in names else sorted(names)


def check_several(names: Collection[str], known: Collection[str] = ()) -> None:
    """Raises UsageError unless there are two classes with those that come, whose names are given."""
    if len({*names, *known}) < 2:
        raise checks.UsageError(
            f"There is one class, {next(iter(names))!r}: a network that tells classes apart needs two to begin with. "
            "Give images of another class, too."
        )


def check_name(name: str) -> None:
    """Raises UsageError for a class without a name, or with one whose ends or characters cannot be seen."""
    if not name or name != name.strip() or not name.isprintable():
        raise checks.UsageError(
            f"The class name {name!r} is empty, or has blanks at its ends or control characters. "
            "Name the class otherwise."
        )


def check_names(names: Sequence[str], known: Sequence[str] = ()) -> None:
    """Raises UsageError for the name of a class that nobody could spell, or that differs from another only by case.

    Args:
      names: of the classes that come.
      known: of those that were there before.
    """
    for name in names:
        check_name(name)
    seen = {one_form(name).casefold(): name for name in known}
    for name in names:
        alike = seen.setdefault(one_form(name).casefold(), name)
        if alike != name:
            raise checks.UsageError(
                f"The classes {alike!r} and {name!r} differ only by case. Name them alike if they are one, and "
                "clearly apart if they are two."
            )


def one_form(name: str) -> str:
    """The name with its accents stored in one way (NFC), so that two ways of storing it are one class."""
    return unicodedata.normalize("NFC", name)


def notices(listings: Sequence[Listing]) -> list[str]:
    """What users should know of a folder that is laid out as expected, a line each."""
    passed_over = functools.reduce(PassedOver.joined, (listing.passed_over for listing in listings))
    lines = [passed_over.notice(sum(len(listing.files) for listing in listings))]
    for listing in listings[:1]:
        if listing.alike:
            lines.append(
                f"Each class in {listing.root} holds the folders {listed(listing.alike)}. If those are the classes, "
                "and what holds them are data sets side by side, give one of these."
            )
    return [line for line in lines if line]


def _refuse_single_images(listing: Listing, class_names: Sequence[str]) -> None:
    single = [name for name, size in zip(class_names, np.bincount(listing.labels).tolist(), strict=True) if size < 2]
    if single:
        raise checks.UsageError(
            f"folder.path = {listing.root!r}: {listed(single)} with one image only: expected at least 2 in a class, to "
            "train on and to test on. Add images or remove the class."
        )


def _image_files(top: str, passed_over: PassedOver) -> Iterator[str]:
    """Image files at any depth below `top`; the others are counted in `passed_over`. Links to folders are followed."""

    def refuse(error: OSError) -> None:
        raise cannot_be_listed(error)

    visited = set()
    for parent, folders, names in os.walk(top, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # links in a circle
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_clutter(name, True))
        for name in names:
            if is_clutter(name, False):
                continue
            path = os.path.join(parent, name)
            if name.lower().endswith(SUFFIXES):
                yield path
                continue
            kind = _format_of_file(path)
            if kind in headers.READABLE:
                yield path
            else:
                passed_over.add(path, bool(kind) or os.path.splitext(name)[1].lower() in _OTHER_PICTURES)


def _format_of_file(path: str) -> str | None:
    """The format of a picture whatever its name; None for what is no picture, or cannot be opened."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            return headers.format_of(file.read(headers.HEAD))
    except OSError:
        return None
