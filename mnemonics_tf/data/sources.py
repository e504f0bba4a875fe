"""Where images come from. A source is settings, checked before anything is read; loading it gives a whole `Dataset`."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data import framing
from mnemonics_tf.data.holding_out import hold_out
from mnemonics_tf.data.types import Dataset, LabelledImages


class Source(Protocol):
    """What a configuration's `Experiment.dataset` makes."""

    @property
    def horizontal_flip(self) -> bool:
        """Whether a mirrored image still shows its class."""

    @property
    def known_shape(self) -> tuple[int, int, int] | None:
        """`(H, W, C)` of all images, if it is known before the data are opened."""

    @property
    def is_fixed(self) -> bool:
        """Whether the same settings give the same images at any time, so that finished runs need not look at them."""

    def load(self) -> Dataset:
        """Reads the data, or lists them. Raises UsageError if they are not there or not what was expected."""


@dataclasses.dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits that scikit-learn carries: 8x8, one channel, 10 classes. Needs no download.

    Attributes:
      test_share: share of every class that is held out for testing. A quarter by default, some 45 images a class.
      split_seed: seed of that split.
    """

    test_share: float = 0.25
    split_seed: int = 0

    # A mirrored digit is another sign, or none.
    horizontal_flip: ClassVar[bool] = False
    known_shape: ClassVar[tuple[int, int, int]] = (8, 8, 1)
    is_fixed: ClassVar[bool] = True

    def __post_init__(self):
        checks.check_fraction(**{"digits.test_share": self.test_share})
        checks.check_non_negative_integer(**{"digits.split_seed": self.split_seed})

    def load(self) -> Dataset:
        """All images, in memory."""
        from sklearn.datasets import load_digits  # a second of import that other sources need not pay

        raw = load_digits()
        images = np.rint(raw.images[..., None] * (255 / 16)).astype(np.uint8)  # published as 0..16
        everything = LabelledImages(images, raw.target.astype(np.int64))
        generator = np.random.default_rng(self.split_seed)
        train, test = hold_out(everything, lambda size: round(size * self.test_share), generator)
        return Dataset(
            name="digits",
            train=train,
            test=test,
            class_names=tuple(str(class_id) for class_id in range(10)),
            horizontal_flip=self.horizontal_flip,
            crop_padding=1,
        )


@dataclasses.dataclass(frozen=True)
class TFDS:
    """Any image-classification set of TensorFlow Datasets, or some of its classes: in memory, or in files.

    Images are the feature `image`, or the only one that is an image; classes the feature `label`, or the only one that
    is a class. Of 16 bits the upper 8 are kept; an unknown number of channels becomes RGB. A run tests on the split
    `test`, or on `validation` where there is none or its labels are secret, or else on a share of `train` that it holds
    out.

    What stays in files is sorted by class first, once, into a copy on disk (see `data.class_files`), so that a phase
    reads the images of its own classes and no others.

    Attributes:
      name: its TFDS name, such as `cifar100`.
      data_dir: where TFDS keeps its data; None for the environment's TFDS_DATA_DIR, or TFDS's default. A run may go on
        with another folder if the data there are the same.
      image_size: side of the square to which images are resized and cropped; needed where sizes differ, and for images
        in files.
      resized_side: pixels to which the shorter side is brought before the centre square is cut out, at least
        `image_size`; None for `image_size`.
      horizontal_flip: whether a mirrored image still shows its class.
      crop_padding: pixels of padding before the random crop of training images; None for 4, or for 0 with
        `resized_crop`.
      resized_crop: train on random windows of images, resized, in the place of padding and cropping.
      num_classes_drawn: how many classes to draw by chance and keep; None for all. Images of others are never decoded.
      draw_seed: seed of the draw; 1993 in the literature.
      in_memory: whether all images are decoded at once and held in memory; None for yes if they take at most 2 GB.
      shards_dir: the folder of images that are sorted by class; None for `class_shards` among the data of TFDS.
      test_share: share of every class that is held out for testing where the data set has no test images with labels;
        at least one image.
      split_seed: seed of that split.

    Raises:
      UsageError: a value out of range, or two that contradict each other.
    """

    name: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    resized_side: int | None = None
    horizontal_flip: bool = True
    crop_padding: int | None = None
    resized_crop: bool = False
    num_classes_drawn: int | None = None
    draw_seed: int = 1993
    in_memory: bool | None = None
    shards_dir: str | None = None
    test_share: float = framing.TEST_SHARE
    split_seed: int = framing.SPLIT_SEED

    # A version of a data set stays what it is.
    is_fixed: ClassVar[bool] = True

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise checks.UsageError(f"tfds.name = {self.name!r}: expected the name of a data set, such as 'cifar100'.")
        framing.check_sides("tfds", self.image_size, self.resized_side)
        framing.check_split("tfds", self.test_share, self.split_seed)
        checks.check_bool(**{"tfds.horizontal_flip": self.horizontal_flip, "tfds.resized_crop": self.resized_crop})
        if self.in_memory is not None:
            checks.check_bool(**{"tfds.in_memory": self.in_memory})
        framing.padding("tfds", self.crop_padding, self.resized_crop)
        framing.check_draw(self.num_classes_drawn, self.draw_seed)

    @property
    def known_shape(self) -> tuple[int, int, int] | None:
        """`(H, W, C)` of all images, as far as it is known before the data set is opened: nothing is, of channels."""
        return None

    def load(self) -> Dataset:
        """Opens the data set: it is downloaded and prepared first, where that is still to do.

        Raises:
          UsageError: no such data set, no data and no way to download it, a set without images and classes, fewer
            classes than are to be drawn, or images that are to stay in files and cannot.
        """
        from mnemonics_tf.data import tfds_loading  # TensorFlow Datasets, and with it TensorFlow

        return tfds_loading.load(self)


def digits(**settings: Any) -> Dataset:
    """The data of `Digits(...)`."""
    return Digits(**settings).load()


def tfds_source(
    name: str | None = None, data_dir: str | None = None, image_size: int | None = None, **settings: Any
) -> Dataset:
    """The data of `TFDS(name, data_dir, image_size, ...)`."""
    return TFDS(name, data_dir, image_size, **settings).load()
