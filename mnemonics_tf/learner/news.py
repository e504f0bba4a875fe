"""What is new in a folder of images, for a learner that has seen some: images are told by their content."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from mnemonics_tf.data.folder import is_held_in_memory
from mnemonics_tf.data.listing import Listing, check_names, check_several, listed, notices, root_of, scan
from mnemonics_tf.data.reading import check_enough, look_through, report_unreadable
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.learner.arrivals import Intake, NamedImages, told_of_images
from mnemonics_tf.learner.seen import DIGEST_BYTES, SeenImages, digest_of_file, is_held_out
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.system import files, tracking

_UNREAD = b"\0" * DIGEST_BYTES  # of what is no file, or cannot be opened: it is reported with the others


@dataclasses.dataclass(frozen=True)
class NewImages:
    """Images with their checksums.

    Attributes:
      images: with the names of their classes.
      digests: a checksum of the content of each file, `[n, 16]` uint8.
    """

    images: NamedImages
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.digests)

    def taken(self, chosen: np.ndarray) -> NewImages:
        """Those of which a mask `[n]` says so."""
        images = dataclasses.replace(self.images, images=self.images.images[chosen], labels=self.images.labels[chosen])
        return NewImages(images, self.digests[chosen])

    def joined(self, other: NewImages) -> NewImages:
        """These and others of the same folder, each class after class."""
        both = self._labelled().join(other._labelled())
        order = np.argsort(both.labels, kind="stable")
        both = both.take(order)
        images = dataclasses.replace(self.images, images=both.images, labels=both.labels)
        return NewImages(images, np.concatenate([self.digests, other.digests])[order])

    def _labelled(self) -> LabelledImages:
        return LabelledImages(self.images.images, self.images.labels)


@dataclasses.dataclass(frozen=True)
class News:
    """What a folder holds that a learner has not seen. Nothing is learned yet.

    Attributes:
      folder: the folder.
      train: images to learn from.
      test: images to measure by, which are held out.
      new_classes: names of the classes that are not known yet, in the order that they will have.
      num_seen: images in the folder that the learner has seen before.
      notices: what else there is to say of the folder, a line each.
    """

    folder: str
    train: NewImages
    test: NewImages
    new_classes: tuple[str, ...]
    num_seen: int
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.train) + len(self.test)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes of which something is new."""
        return tuple(
            sorted({part.images.names[label] for part in (self.train, self.test) for label in part.images.labels})
        )

    def __str__(self) -> str:
        seen = f"{self.num_seen} images that were seen before"
        if not len(self):
            return f"Nothing is new in {self.folder}{f': {seen}' if self.num_seen else ''}."
        more = sorted(set(self.classes) - set(self.new_classes))
        parts = [f"{len(self.new_classes)} new classes ({listed(self.new_classes)})"] if self.new_classes else []
        parts += [f"more images of {listed(more)}"] if more else []
        counts = f"{len(self.train)} images to learn from and {len(self.test)} to measure by"
        rest = f"; beside {seen}" if self.num_seen else ""
        return f"New in {self.folder}: {' and '.join(parts)}, {counts}{rest}."


@told_of_images()
def news_of(path: str, intake: Intake, seen: SeenImages, share: float) -> News:
    """Looks a folder through. Every file is read, and those that are new are decoded.

    Args:
      path: of a folder with a folder of images for each class, or with `train` and `test` above them.
      intake: reads images for the learner.
      seen: the images that it has seen.
      share: of the images that are held out, where the folder does not hold them apart.

    Raises:
      UsageError: there is no such folder, it is laid out otherwise, or no image of a new class can be read.
    """
    known = set(intake.classes.names)
    names, listings = scan(root_of(path), fewest=1, may_be_empty=known)
    check_names(names, intake.classes.names)
    sorting = _Sorting(names, intake, seen)
    for split, listing in enumerate(listings):
        sorting.add(listing, None if len(listings) == 1 else bool(split), share)
    side = intake.side([file for listing in listings for file in listing.files])
    train, test = _read_parts(sorting, names, (side, intake.resized_side), set(names) - known)
    arriving = {names[label] for label in train.images.labels}
    news = News(
        path,
        train,
        test,
        tuple(name for name in names if name in arriving - known),
        sorting.num_seen,
        (*notices(listings), *sorting.notices()),
    )
    if len(news):
        check_several(news.classes, intake.classes.names)
    return news


@dataclasses.dataclass(frozen=True)
class _File:
    path: str
    label: int  # position in the folder's names
    digest: bytes


class _Sorting:
    """Deals files out: to learn from, to measure by, or to leave alone.

    Args:
      names: of the folder's classes.
      intake: knows the learner's classes.
      seen: the images that the learner has seen.
    """

    def __init__(self, names: Sequence[str], intake: Intake, seen: SeenImages):
        self._names, self._known, self._seen = names, intake.classes.names, seen
        self._files: dict[bytes, tuple[_File, bool]] = {}
        self._twofold: set[bytes] = set()  # checksums of images that lie in two classes
        self._moved: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        self._counts = [0] * len(names)
        self.num_seen = 0

    def add(self, listing: Listing, held_out: bool | None, share: float) -> None:
        """Adds what was listed; `held_out` says whether it is to be measured by, None that checksums decide."""
        with tracking.progress("looking for what is new", len(listing.files), "files") as bar:
            for path, label in zip(listing.files, listing.labels.tolist(), strict=True):
                self._add(path, label, held_out, share)
                bar.update()

    def _add(self, path: str, label: int, held_out: bool | None, share: float) -> None:
        self._counts[label] += 1
        try:
            digest = digest_of_file(path)
        except (OSError, files.UnreadableError):
            # Nothing is known of it: it is told from others by its place, and reported once all are decoded.
            self._files[_UNREAD + path.encode(errors="surrogateescape")] = _File(path, label, _UNREAD), False
            return
        row = self._seen.row_of.get(digest)
        if row is not None:
            self.num_seen += 1
            name = self._known[self._seen.labels[row]]
            if name != self._names[label]:
                self._moved[name, self._names[label]].append(path)
            return
        before = self._files.get(digest)
        if before is not None:  # a copy; what is to be learned from in one place is not measured by
            if before[0].label != label:
                self._twofold.add(digest)
            return
        self._files[digest] = _File(path, label, digest), is_held_out(digest, share) if held_out is None else held_out

    def parts(self) -> tuple[list[_File], list[_File]]:
        """Files to learn from and files to measure by, each class after class."""
        found = [each for key, each in self._files.items() if key not in self._twofold]
        learned = {file.label for file, held_out in found if not held_out}
        fresh = {label for label, name in enumerate(self._names) if name not in self._known}
        only = fresh - learned  # a new class of which all would be held out has to be learned from
        found.sort(key=lambda each: each[0].label)
        train = [file for file, held_out in found if not held_out or file.label in only]
        return train, [file for file, held_out in found if held_out and file.label not in only]

    def notices(self) -> list[str]:
        """What there is to say of files that are left alone."""
        lines = []
        for (before, now), paths in self._moved.items():
            if now not in self._known and len(paths) == self._counts[self._names.index(now)]:
                lines.append(f"{now!r} holds the images that were learned as {before!r}, which keeps its name.")
            else:
                some = f"{len(paths)} images in {now!r} were" if len(paths) > 1 else f"1 image in {now!r} was"
                stay = "stay" if len(paths) > 1 else "stays"
                # A folder that was renamed, and got more images since, would become a second class of the same.
                call = f" If all of {now!r} is {before!r}, call the folder so." if now not in self._known else ""
                lines.append(f"{some} learned as {before!r} and {stay} that (such as {paths[0]}).{call}")
        count = len(self._twofold)
        if count:
            some = f"{count} images lie in two classes and are" if count > 1 else "1 image lies in two classes and is"
            lines.append(f"{some} left out (such as {self._files[next(iter(self._twofold))][0].path}).")
        empty = [name for name, count in zip(self._names, self._counts, strict=True) if not count]
        if empty:
            it = "it" if len(empty) == 1 else "them"
            lines.append(f"There is no image in {listed(empty)}: what was learned of {it} stays.")
        return lines


def _read_parts(
    sorting: _Sorting, names: tuple[str, ...], sides: tuple[int, int | None], new: set[str]
) -> tuple[NewImages, NewImages]:
    """Images to learn from and to measure by, see `_read`; of `new` classes there are some to learn from.

    A new class with nothing left to measure by is learned all the same.
    """
    learned, held_out = sorting.parts()
    test = _read(held_out, names, sides, set())
    train = _read(learned, names, sides, new - {names[label] for label in test.images.labels})
    # What cannot be read may have counted as something to learn from, beside which all the rest was held out.
    lacking = {label for label, name in enumerate(names) if name in new} - set(train.images.labels.tolist())
    is_moved = np.isin(test.images.labels, sorted(lacking))
    return (train.joined(test.taken(is_moved)), test.taken(~is_moved)) if is_moved.any() else (train, test)


def _read(files: Sequence[_File], names: tuple[str, ...], sides: tuple[int, int | None], needed: set[str]) -> NewImages:
    """The images of some files that can be read; the others are named on standard error.

    Args:
      files: of any classes.
      names: of the classes, by label.
      sides: that of the squares that they become, and the one that the shorter side is brought to before.
      needed: names of classes of which some image must be readable.

    Raises:
      UsageError: none is, of such a class.
    """
    labels = np.array([file.label for file in files], np.int64)
    stored = LabelledImages(StoredImages.of_files([file.path for file in files], *sides), labels)
    if not files:
        return NewImages(NamedImages(np.zeros(stored.images.shape, np.uint8), labels, names), _digests(files))
    readable, reasons = look_through(stored, "reading images", is_held_in_memory(len(files), sides[0]))
    report_unreadable(stored, reasons, "new")
    is_needed = np.array([names[label] in needed for label in labels])
    lost = {place: reasons[row] for place, row in enumerate(np.flatnonzero(is_needed).tolist()) if row in reasons}
    check_enough(stored.take(is_needed), lost, names, "new")
    kept = [file for row, file in enumerate(files) if row not in reasons]
    return NewImages(NamedImages(readable.images, readable.labels, names), _digests(kept))


def _digests(files: Sequence[_File]) -> np.ndarray:
    return np.array([list(file.digest) for file in files], np.uint8).reshape(-1, DIGEST_BYTES)


def named(part: NewImages) -> NamedImages:
    """The images with the names of those classes alone that have some."""
    shown, labels = np.unique(part.images.labels, return_inverse=True)
    names = tuple(part.images.names[label] for label in shown)
    return dataclasses.replace(part.images, labels=labels.astype(np.int64), names=names)


def seen_with(seen: SeenImages, news: News, classes: ClassTable) -> SeenImages:
    """The images that a learner has seen once it has learned what is new; `classes` are those it knows then."""
    for part, held_out in ((news.train, False), (news.test, True)):
        if len(part):
            indexed = named(part).indexed(classes)
            seen = seen.joined(part.digests, indexed.labels, indexed.images if held_out else None)
    return seen
