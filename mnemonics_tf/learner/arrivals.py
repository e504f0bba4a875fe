"""What people give a learner, read and checked: folders, arrays and `tf.data.Dataset`s become named images."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data import folder as folders
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.holding_out import hold_out_share
from mnemonics_tf.data.listing import NUM_SHOWN, check_names, check_several, listed, root_of, scan
from mnemonics_tf.data.pixels import histogram_of
from mnemonics_tf.data.reading import check_enough, look_through, report_unreadable
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.stream import statistics_of
from mnemonics_tf.data.types import Arrival, Images, ImageTraits, LabelledImages, PixelRange
from mnemonics_tf.learner import arrays
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.models.backbone import Backbone

# Sides that images from files are brought to, in pixels, where nobody says another.
_SIDES = (32, 64, 96, 128, 224)
_LOOKED_AT = 100  # files, to choose one of them
_COUNTED = 2000  # images, for mean and deviation of pixels
_AT_ONCE = 100  # of them


@contextlib.contextmanager
def told_of_images() -> Iterator[None]:
    """Lets errors about a folder speak of `images`, as callers know it, and not of the setting `folder.path`."""
    try:
        yield
    except checks.UsageError as error:
        raise checks.UsageError(str(error).replace("folder.path", "images")) from error


@dataclasses.dataclass(frozen=True)
class NamedImages:
    """Images with the names of their classes.

    Attributes:
      images: `[n, H, W, C]` uint8, an array or rows of files.
      labels: positions in `names`, `[n]` int64.
      names: of the classes, each once; every one has an image.
      ids: what the data call each class, or None where names are all there is.
      num_channels: of the images as they came; None for those of `images`.
    """

    images: Images
    labels: np.ndarray
    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None
    num_channels: int | None = None

    @property
    def is_grey(self) -> bool:
        """Whether the images came with one channel, whatever the network takes."""
        return (self.num_channels or self.images.shape[3]) == 1

    def __len__(self) -> int:
        return len(self.labels)

    def indexed(self, classes: ClassTable) -> LabelledImages:
        """The same images with class indices. All names must be in the table."""
        position = {name: index for index, name in enumerate(classes.names)}
        return LabelledImages(self.images, np.array([position[name] for name in self.names], np.int64)[self.labels])

    def new_classes(self, classes: ClassTable) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Ids and names of the classes that are not in the table, in their order here.

        A class keeps the number that the data call it by. One without a number, or whose number another class has
        already, gets the next after all of them.
        """
        new = [position for position, name in enumerate(self.names) if name not in classes.names]
        own = {} if self.ids is None else {each: self.ids[each] for each in new if self.ids[each] not in classes.ids}
        highest = max([*classes.ids, *own.values()], default=-1)
        ids = []
        for position in new:
            highest += position not in own
            ids.append(own.get(position, highest))
        return tuple(ids), tuple(self.names[position] for position in new)


@dataclasses.dataclass(frozen=True)
class Intake:
    """Reads images for a learner that knows some classes already.

    Attributes:
      classes: that are known.
      traits: of the images so far; None before the first.
      image_size: side of images from files; None for one that suits the first of them.
      backbone: the Keras model that images are brought to the size of; None where arrays stay as they are.
    """

    classes: ClassTable
    traits: ImageTraits | None
    image_size: int | None
    backbone: Backbone | None = None

    def read(
        self, source: Any, labels: Any, class_names: Sequence[str] | None
    ) -> tuple[NamedImages, NamedImages | None]:
        """Images to learn from and, of a folder that has them apart, images to measure by.

        Args:
          source: a folder, an array or a `tf.data.Dataset`.
          labels: of an array, `[n]`.
          class_names: what whole numbers stand for.

        Raises:
          UsageError: it is something else, or not fit to be learned from.
        """
        source, labels = _unpacked(source, labels)
        if isinstance(source, str | os.PathLike):
            _refuse_labels_of_folder(labels, class_names)
            named, test = self._from_folder(os.fspath(source))
        else:
            named, test = self._in_memory(source, labels, class_names), None
            check_names(named.names, self.classes.names)
        check_several(named.names, self.classes.names)
        return named, test

    def read_validation(self, source: Any, class_names: Sequence[str] | None, train: NamedImages) -> NamedImages:
        """Images to measure by, of classes that are known or come now.

        Args:
          source: as `read` takes it, or a pair `(images, labels)`.
          class_names: what whole numbers stand for.
          train: the images that come to be learned from, whose size is that of the first images if none came before.
        """
        intake = self
        if self.traits is None:
            height, width, channels = train.images.shape[1:]
            intake = dataclasses.replace(self, traits=ImageTraits((height, width, channels), False, 0))
        return intake.read_labelled(source, class_names, {*self.classes.names, *train.names})

    def read_labelled(self, source: Any, class_names: Sequence[str] | None, known: set[str]) -> NamedImages:
        """Images of classes that all must be known.

        Raises:
          UsageError: some are not, or what came is something else.
        """
        images, labels = _unpacked(source, None)
        if isinstance(images, str | os.PathLike):
            _refuse_labels_of_folder(labels, class_names)
            train, test = self._from_folder(os.fspath(images))
            named = test or train
        else:
            named = self._in_memory(images, labels, class_names)
        unknown = [name for name in named.names if name not in known]
        if unknown:
            raise checks.UsageError(
                f"The images show {listed(unknown)}, and the learner knows {listed(sorted(known))}. Leave out what is "
                "unknown, or have it learned first."
            )
        return named

    def read_images(self, source: Any) -> Images:
        """Images without labels, `[n, H, W, C]` uint8: an array, a dataset of images, a file or a list of files."""
        files = [source] if isinstance(source, str | os.PathLike) else source
        if isinstance(files, Sequence) and files and all(isinstance(each, str | os.PathLike) for each in files):
            return self._from_files([os.fspath(each) for each in files])
        if isinstance(files, Sequence) and not len(files):
            raise checks.UsageError("There is no image: expected at least one.")
        if isinstance(source, tf.data.Dataset):
            source = arrays.unlabelled(source, self._image_side, self.resized_side)
        return self._fitting(arrays.as_pixels(source))

    def _in_memory(self, source: Any, labels: Any, class_names: Sequence[str] | None) -> NamedImages:
        if isinstance(source, tf.data.Dataset):
            if labels is not None:
                raise checks.UsageError("labels: a tf.data.Dataset has labels of its own. Leave them out.")
            source, labels = arrays.of_dataset(source, self._image_side, self.resized_side)
        elif labels is None:
            raise checks.UsageError(
                f"{arrays.described(source)} came without labels: expected a folder, an array with labels, or a "
                "tf.data.Dataset of (image, label)."
            )
        pixels = arrays.as_pixels(source)
        images = self._fitting(pixels)
        positions, names, ids = arrays.as_classes(labels, class_names, len(images))
        return NamedImages(images, positions, names, ids, pixels.shape[3])

    def _fitting(self, images: np.ndarray) -> np.ndarray:
        """The images, if they are of the learner's size, or can be brought to it."""
        if not len(images):
            raise checks.UsageError("There is no image: expected at least one.")
        if self.backbone is not None:
            network = self.backbone
            images = arrays.brought_to(images, network.image_size, network.num_channels, self.resized_side)
        expected = None if self.traits is None else self.traits.image_shape
        if expected is not None and images.shape[1:] != expected:
            # A single image [H, W, C] was taken for H images [W, C] without a channel.
            hint = "A single image is image[None]." if images.shape[:3] == expected else "Bring them to that size."
            raise checks.UsageError(
                f"Images are {_size(images.shape[1:])}: expected {_size(expected)}, as the first ones were. {hint}"
            )
        return images

    @told_of_images()
    def _from_folder(self, path: str) -> tuple[NamedImages, NamedImages | None]:
        """Training images and, where the folder holds them apart, test images."""
        names, listings = scan(root_of(path), fewest=1)
        check_names(names, self.classes.names)
        size = self.side(listings[0].files)
        parts: list[NamedImages] = []
        for listing in listings:
            stored = LabelledImages(StoredImages.of_files(listing.files, size, self.resized_side), listing.labels)
            split = "training" if not parts else "test"
            parts.append(self._readable(stored, names, split, f"reading {os.path.basename(listing.root)}"))
        train, test = parts if len(parts) == 2 else (parts[0], None)
        return train, test

    def _readable(self, stored: LabelledImages, names: tuple[str, ...], split: str, title: str) -> NamedImages:
        """What can be read of images in files: held in memory if there is room, left in their files otherwise."""
        size = stored.images.shape[1]
        keep = folders.is_held_in_memory(len(stored), size)
        readable, reasons = look_through(stored, title, keep)
        report_unreadable(stored, reasons, split)
        check_enough(stored, reasons, names, split)
        return NamedImages(readable.images, readable.labels, names)

    def _from_files(self, paths: Sequence[str]) -> Images:
        missing = [path for path in paths if not os.path.isfile(os.path.expanduser(path))]
        directories = [path for path in missing if os.path.isdir(os.path.expanduser(path))]
        if directories:
            raise checks.UsageError(f"{listed(directories)} is a folder: expected image files. Give the files in it.")
        if missing:
            raise checks.UsageError(f"There is no file {listed(missing)}: expected image files.")
        side = self.side(paths)
        files = [os.path.expanduser(path) for path in paths]
        stored = LabelledImages(StoredImages.of_files(files, side, self.resized_side), np.zeros(len(paths), np.int64))
        readable, reasons = look_through(stored, "reading images", folders.is_held_in_memory(len(paths), side))
        if reasons:
            shown = [f"{paths[row]} ({reason})" for row, reason in list(reasons.items())[:NUM_SHOWN]]
            raise checks.UsageError(f"Some images cannot be read: {', '.join(shown)}. Leave them out.")
        return readable.images

    @property
    def _image_side(self) -> int | None:
        """The side that images of a dataset are brought to if they differ in size."""
        if self.traits is None:
            return self.image_size
        height, width, _ = self.traits.image_shape
        return height if height == width else None

    @property
    def resized_side(self) -> int | None:
        """To which the shorter side of images from files is brought; None for the side of the square."""
        return None if self.traits is None else self.traits.resized_side

    def side(self, files: Sequence[str]) -> int:
        """The side that images from files are brought to."""
        if self.traits is not None:
            height, width, channels = self.traits.image_shape
            if height != width or channels != 3:
                raise checks.UsageError(
                    f"Images from files become squares of three channels; this learner's are "
                    f"{_size(self.traits.image_shape)}. Read them yourself and give an array."
                )
            return height
        return self.image_size or side_for(files)


def _unpacked(source: Any, labels: Any) -> tuple[Any, Any]:
    """Images and labels, which may have come as a pair."""
    return source if labels is None and isinstance(source, tuple) and len(source) == 2 else (source, labels)


def _refuse_labels_of_folder(labels: Any, class_names: Sequence[str] | None) -> None:
    if labels is not None or class_names is not None:
        raise checks.UsageError(
            "labels and class_names go with arrays: in a folder, each class is a folder with its name. Leave them out."
        )


def side_for(files: Sequence[str]) -> int:
    """The largest of 32, 64, 96, 128 and 224 that half of the images have on their shorter side; 32 at least."""
    positions = np.unique(np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).astype(int))
    shorter = [side for side in (arrays.shorter_side(files[position]) for position in positions) if side]
    middle = float(np.median(shorter)) if shorter else _SIDES[0]
    return max((side for side in _SIDES if side <= middle), default=_SIDES[0])


def held_out(images: NamedImages, share: float, seed: int) -> tuple[NamedImages, NamedImages | None]:
    """Holds a share of every class's images out: one at least of a class with several, and none of a class with one."""
    if not share:
        return images, None
    rest, out = hold_out_share(LabelledImages(images.images, images.labels), share, seed)
    if not len(out):
        return images, None
    return (
        dataclasses.replace(images, images=rest.images, labels=rest.labels),
        dataclasses.replace(images, images=out.images, labels=out.labels),
    )


def arrival_of(train: NamedImages, test: NamedImages | None, classes: ClassTable) -> Arrival:
    """What comes, with class indices."""
    ids, names = train.new_classes(classes)
    grown = classes.grown(ids, names)
    return Arrival(ids, names, train.indexed(grown), None if test is None else test.indexed(grown))


def _size(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{height} x {width} with {channels} channel{'s' if channels > 1 else ''}"


def statistics(images: NamedImages) -> PixelRange:
    """Mean and standard deviation of each channel, over at most 2,000 images, evenly taken."""
    positions = np.unique(np.linspace(0, len(images) - 1, min(len(images), _COUNTED)).astype(int))
    counted = LabelledImages(images.images, images.labels)
    histogram = np.zeros((images.images.shape[3], 256), np.int64)
    # Large ones from files would not fit in memory all at once.
    for start in range(0, len(positions), _AT_ONCE):
        histogram += histogram_of(in_memory(counted.take(positions[start : start + _AT_ONCE])).array)
    return statistics_of(histogram)
