"""Plain data that the packages hand to one another.

Letters in shapes, here and in every docstring: `B` batch, `H` height, `W` width, `C` channels, `K` old classes,
`M` new classes, `d` width of the embedding, `n` number of exemplars, `T` inner steps.

A class has two numbers. Its *id* is the data set's own; its *index* is its place in the class order and so the
network's output that stands for it. Everything in memory uses indices, everything on disk uses ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnemonics_tf.data.stored import StoredImages

Images = np.ndarray | StoredImages


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images with the class index of each.

    Attributes:
      images: `[n, H, W, C]`, uint8 in 0..255, or float32 on the same scale (exemplars stored as floats); an array, or
        rows of files that are read when they are needed.
      labels: `[n]`, int64.
      soft_labels: probabilities of all classes seen when they were learned, `[n, K + M]` float32; None for real images
        and for exemplars without.
      coded: the same images as the memory's codec gives them back, `[n, H, W, C]`, for networks that are trained on
        either; None where there is nothing to choose.
    """

    images: Images
    labels: np.ndarray
    soft_labels: np.ndarray | None = None
    coded: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def array(self) -> np.ndarray:
        """The images in memory. Raises ValueError if they are in files: see `data.decoding.in_memory`."""
        if isinstance(self.images, StoredImages):
            raise ValueError("These images are in files: expected an array. Decode them first.")
        return self.images

    @property
    def targets(self) -> np.ndarray:
        """What cross-entropy compares with: soft labels where there are any, class indices otherwise."""
        return self.labels if self.soft_labels is None else self.soft_labels

    def take(self, indices: np.ndarray) -> LabelledImages:
        """The images at `indices` (positions or a boolean mask), in that order."""
        soft = None if self.soft_labels is None else self.soft_labels[indices]
        coded = None if self.coded is None else self.coded[indices]
        return LabelledImages(self.images[indices], self.labels[indices], soft, coded)

    def of_classes(self, classes: Any) -> LabelledImages:
        """The images whose class is one of `classes`, in their present order."""
        return self.take(np.isin(self.labels, np.asarray(list(classes))))

    def join(self, other: LabelledImages) -> LabelledImages:
        """These images followed by those of `other`; soft labels are kept only if both have them.

        Where one of the two has no coded images, its images are those: exemplars are coded already.
        """
        soft = None
        if self.soft_labels is not None and other.soft_labels is not None:
            width = max(self.soft_labels.shape[1], other.soft_labels.shape[1])
            padded = [
                np.pad(each, [(0, 0), (0, width - each.shape[1])]) for each in (self.soft_labels, other.soft_labels)
            ]
            soft = np.concatenate(padded)
        labels = np.concatenate([self.labels, other.labels])
        coded = None
        if self.coded is not None or other.coded is not None:
            coded = np.concatenate([each.array if each.coded is None else each.coded for each in (self, other)])
        return LabelledImages(_joined(self.images, other.images), labels, soft, coded)


def _joined(first: Images, second: Images) -> Images:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])
    if isinstance(first, np.ndarray):
        return StoredImages.of_array(first).joined(second)
    return first.joined(second)


@dataclasses.dataclass(frozen=True)
class PixelRange:
    """How pixels 0..255 become the network's input: `(pixel / 255 - mean) / std`, a value per channel.

    Attributes:
      mean: one value per channel, on the scale 0..1.
      std: one positive value per channel, on the same scale.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ImageTraits:
    """What all images of a data set have in common, old ones and those yet to come.

    Attributes:
      image_shape: `(H, W, C)`.
      horizontal_flip: whether a mirrored image still shows its class (not so for digits).
      crop_padding: pixels of padding before the random crop of training images; 0 for none.
      resized_crop: train on random windows of images, resized, in the place of padding and cropping.
      resized_side: pixels to which the shorter side of images from files is brought before the centre square is cut
        out; None for the side of the square.
    """

    image_shape: tuple[int, int, int]
    horizontal_flip: bool
    crop_padding: int
    resized_crop: bool = False
    resized_side: int | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A whole data set, in memory or in files, with its own class ids as labels.

    Attributes:
      name: as reported in results.
      train: training images and class ids.
      test: test images and class ids.
      class_names: the name of each class id.
      horizontal_flip: whether a mirrored image still shows its class (not so for digits).
      crop_padding: pixels of padding before the random crop of training images; 0 for none.
      pixel_range: the published statistics, or None to take them from the classes of phase 0.
      resized_crop: train on random windows of images, resized, in the place of padding and cropping.
      decode_once: whether images in files are decoded once, when their classes arrive, and kept as arrays from then
        on; otherwise they are read from their files in every epoch. Without effect on images that are arrays already.
      resized_side: pixels to which the shorter side was brought before the centre square was cut out; None for the side
        of the square, or where images came as they are.
      skipped: images that the source has left out itself: where each is, and the reason.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    class_names: tuple[str, ...]
    horizontal_flip: bool
    crop_padding: int
    pixel_range: PixelRange | None = None
    resized_crop: bool = False
    decode_once: bool = False
    resized_side: int | None = None
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)`."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def traits(self) -> ImageTraits:
        """What all its images have in common."""
        return ImageTraits(
            self.image_shape, self.horizontal_flip, self.crop_padding, self.resized_crop, self.resized_side
        )


@dataclasses.dataclass(frozen=True)
class ClassGroups:
    """How many classes each phase so far has brought; class indices are dealt out in this order.

    Attributes:
      sizes: number of new classes of each phase, from phase 0 to the present one.
    """

    sizes: tuple[int, ...]

    @property
    def num_old_classes(self) -> int:
        """K, the classes of all earlier phases: indices 0 to K-1."""
        return sum(self.sizes[:-1])

    @property
    def num_new_classes(self) -> int:
        """M: indices K to K+M-1."""
        return self.sizes[-1]

    @property
    def num_classes(self) -> int:
        """K + M."""
        return sum(self.sizes)

    @property
    def old_ranges(self) -> list[tuple[int, int]]:
        """First class index of each earlier phase, and the one after its last."""
        ends = np.cumsum(self.sizes[:-1]).tolist()
        return [(end - size, end) for end, size in zip(ends, self.sizes, strict=False)]


@dataclasses.dataclass(frozen=True)
class Phase:
    """What arrives in one phase.

    Attributes:
      index: 0 for the initial phase.
      groups: classes of the phases so far.
      train: training images that arrive: of the new classes and, of a learner, perhaps more of known ones.
      old_train: training images of the old classes, for the upper bound that may see them again; otherwise None.
    """

    index: int
    groups: ClassGroups
    train: LabelledImages
    old_train: LabelledImages | None = None

    @property
    def num_old_classes(self) -> int:
        """K, the classes of all earlier phases."""
        return self.groups.num_old_classes

    @property
    def num_new_classes(self) -> int:
        """M, the classes that this phase brings."""
        return self.groups.num_new_classes

    @property
    def num_classes(self) -> int:
        """Classes seen once the phase is over: K + M."""
        return self.groups.num_classes

    @property
    def new_classes(self) -> range:
        """Indices of the classes that arrive."""
        return range(self.num_old_classes, self.num_classes)


@dataclasses.dataclass(frozen=True)
class Arrival:
    """What comes in one phase: new classes with their images, or more images of known ones.

    Attributes:
      class_ids: what the data call each new class, in the order of their indices; empty if none is new.
      class_names: what people call them.
      train: training images, D_i; new classes have the indices after the known ones.
      test: images to measure by, of any classes that are known by then; None if there are none.
      old_train: training images of old classes, for the upper bound that may see them again; otherwise None.
    """

    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages | None = None
    old_train: LabelledImages | None = None
