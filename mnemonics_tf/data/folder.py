"""Images in folders, one folder a class: listed (`listing.py`) and split, but not opened."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, ClassVar

from mnemonics_tf import checks
from mnemonics_tf.data import framing
from mnemonics_tf.data.framing import SPLIT_SEED, TEST_SHARE
from mnemonics_tf.data.holding_out import hold_out_share
from mnemonics_tf.data.listing import Listing, notices, root_of, scan
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Dataset, LabelledImages
from mnemonics_tf.system import tracking

_MOST_BYTES_IN_MEMORY = 2_000_000_000  # of all images, training and test


@dataclasses.dataclass(frozen=True)
class Folder:
    """Image files in folders named after their class; `folder` in configurations.

    Either `path/train/<class>/...` with `path/test/<class>/...` (or `path/val`, where there is no `test`), or
    `path/<class>/...`, of which a share is held out. Files are JPEG, PNG, BMP, GIF (the first frame) or WebP (not
    animated, not transparent) by their content, at any depth below their class. Pictures of other formats are counted
    and named; hidden files, and what systems and tools leave (`data.clutter`), are ignored. Images become RGB,
    `[image_size, image_size, 3]` uint8: turned upright as a camera noted it (EXIF), the shorter side scaled to
    `resized_side`, then the centre square cut out. Transparency is dropped, and of 16 bits the upper 8 are kept.

    Attributes:
      path: the folder; its name becomes that of the data set. There is no default: a run must be told.
      image_size: side of the square images, in pixels. There is no default: the right one depends on what they show.
      test_share: share of every class that is held out for testing where there is no folder `train`; at least one
        image, readable or not.
      split_seed: seed of that split.
      horizontal_flip: whether a mirrored image still shows its class. True by default, as of photographs.
      crop_padding: pixels of padding before the random crop of training images; None for 4, or for 0 with
        `resized_crop`.
      resized_crop: train on random windows of the images, resized, in the place of padding and cropping. The windows
        are cut out of the files' images at their own size, or out of the squares that are held in memory.
      resized_side: pixels to which the shorter side is scaled before the centre square is cut out, at least
        `image_size`; None for `image_size`.
      in_memory: decode images once, when their classes arrive, and hold them; False reads their files in every epoch.
        None holds them where all images take at most 2 GB at `image_size`, and reads them for `resized_crop`.

    Raises:
      UsageError: a value out of range, or two that contradict each other.
    """

    path: str | None = None
    image_size: int | None = None
    test_share: float = TEST_SHARE
    split_seed: int = SPLIT_SEED
    horizontal_flip: bool = True
    crop_padding: int | None = None
    resized_crop: bool = False
    resized_side: int | None = None
    in_memory: bool | None = None

    # Files come and go.
    is_fixed: ClassVar[bool] = False

    def __post_init__(self):
        if not isinstance(self.path, str):
            raise checks.UsageError(f"folder.path = {self.path!r}: expected the folder that holds the images: set it.")
        if self.image_size is None:
            raise checks.UsageError(
                "folder.image_size = None: expected the side of the square images, such as 64: set it."
            )
        framing.check_sides("folder", self.image_size, self.resized_side)
        framing.check_split("folder", self.test_share, self.split_seed)
        flags = {"folder.horizontal_flip": self.horizontal_flip, "folder.resized_crop": self.resized_crop}
        checks.check_bool(**flags)
        framing.padding("folder", self.crop_padding, self.resized_crop)
        if self.in_memory is not None:
            checks.check_bool(**{"folder.in_memory": self.in_memory})

    @property
    def known_shape(self) -> tuple[int, int, int] | None:
        """`(H, W, C)` of all images."""
        return None if self.image_size is None else (self.image_size, self.image_size, 3)

    def load(self) -> Dataset:
        """Lists the files and opens none: a phase reads those of its classes.

        Raises:
          UsageError: no such folder, folders that are not laid out so, or a class without image files.
        """
        if self.path is None or self.image_size is None:
            raise ValueError("A folder without path or image_size cannot have been made.")
        root = root_of(self.path)
        class_names, listings = scan(root)
        for line in notices(listings):
            tracking.notice(line)
        train, test = parts(listings, self.image_size, self.resized_side, self.test_share, self.split_seed)
        in_memory = self.in_memory
        if in_memory is None:
            in_memory = not self.resized_crop and is_held_in_memory(len(train) + len(test), self.image_size)
        return Dataset(
            name=os.path.basename(root),
            train=train,
            test=test,
            class_names=class_names,
            horizontal_flip=self.horizontal_flip,
            crop_padding=framing.padding("folder", self.crop_padding, self.resized_crop),
            resized_crop=self.resized_crop,
            decode_once=in_memory,
            resized_side=self.resized_side,
        )


def folder(path: str | None = None, image_size: int | None = None, **settings: Any) -> Dataset:
    """The data of `Folder(path, image_size, ...)`, listed."""
    return Folder(path, image_size, **settings).load()


def parts(
    listings: Sequence[Listing],
    image_size: int,
    resized_side: int | None = None,
    test_share: float = TEST_SHARE,
    split_seed: int = SPLIT_SEED,
) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images of what was listed, unopened; the arguments are those of `folder`.

    Args:
      listings: of training and test images, or one of all, which is split.
      image_size: side of the squares, in pixels.
      resized_side: of the shorter side before they are cut out, in pixels.
      test_share: share of every class that is held out where there is one listing.
      split_seed: seed of that split.
    """
    listed = [
        LabelledImages(StoredImages.of_files(listing.files, image_size, resized_side), listing.labels)
        for listing in listings
    ]
    if len(listed) == 1:
        return hold_out_share(listed[0], test_share, split_seed)
    train, test = listed
    return train, test


def is_held_in_memory(num_images: int, image_size: int) -> bool:
    """Whether a run holds so many images (training and test) of `image_size` pixels a side in memory by default."""
    return num_images * image_size**2 * 3 <= _MOST_BYTES_IN_MEMORY
