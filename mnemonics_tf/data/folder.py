"""Images in folders, one folder a class: listed (`listing.py`) and split, but not opened."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.holding_out import hold_out
from mnemonics_tf.data.listing import Listing, root_of, scan
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Dataset, LabelledImages

# By default
TEST_SHARE = 0.2
SPLIT_SEED = 0
_CROP_PADDING = 4  # pixels
_MOST_BYTES_IN_MEMORY = 2_000_000_000  # of all images, training and test


def folder(
    path: str | None = None,
    image_size: int | None = None,
    test_share: float = TEST_SHARE,
    split_seed: int = SPLIT_SEED,
    horizontal_flip: bool = True,
    crop_padding: int | None = None,
    resized_crop: bool = False,
    resized_side: int | None = None,
    in_memory: bool | None = None,
) -> Dataset:
    """Image files in folders named after their class. Listed here and not opened; a phase reads those of its classes.

    Either `path/train/<class>/...` with `path/test/<class>/...` (or `path/val`, where there is no `test`), or
    `path/<class>/...`, of which a share is held out. Files are JPEG, PNG, BMP, GIF (the first frame) or WebP (not
    animated, not transparent), at any depth below their class; other files and hidden ones are ignored. Images become
    RGB, `[image_size, image_size, 3]` uint8: the shorter side is scaled to `resized_side`, then the centre square is
    cut out. Transparency is dropped, 16 bits become 8, and a camera's note on orientation (EXIF) is not followed.

    Args:
      path: the folder; its name becomes that of the data set.
      image_size: side of the square images, in pixels.
      test_share: share of every class that is held out for testing where there is no folder `train`; at least one
        image, readable or not.
      split_seed: seed of that split.
      horizontal_flip: whether a mirrored image still shows its class.
      crop_padding: pixels of padding before the random crop of training images; None for 4, or for 0 with
        `resized_crop`.
      resized_crop: train on random windows of the images, resized, in the place of padding and cropping. The windows
        are cut out of the files' images at their own size, or out of the squares that are held in memory.
      resized_side: pixels to which the shorter side is scaled before the centre square is cut out, at least
        `image_size`; None for `image_size`.
      in_memory: decode images once, when their classes arrive, and hold them; False reads their files in every epoch.
        None holds them where all images take at most 2 GB at `image_size`, and reads them for `resized_crop`.

    Raises:
      UsageError: no such folder, folders that are not laid out so, or a class without image files.
    """
    if not isinstance(path, str):
        raise checks.UsageError(f"folder.path = {path!r}: expected the folder that holds the images: set it.")
    if image_size is None:
        raise checks.UsageError("folder.image_size = None: expected the side of the square images, such as 64: set it.")
    _check_sizes(image_size, resized_side)
    checks.check_positive(**{"folder.test_share": test_share})
    checks.check_fraction(**{"folder.test_share": test_share})
    checks.check_non_negative_integer(**{"folder.split_seed": split_seed})
    checks.check_bool(**{"folder.horizontal_flip": horizontal_flip, "folder.resized_crop": resized_crop})
    crop_padding = _crop_padding(crop_padding, resized_crop)
    if in_memory is not None:
        checks.check_bool(**{"folder.in_memory": in_memory})
    root = root_of(path)
    class_names, listings = scan(root)
    train, test = parts(listings, image_size, resized_side, test_share, split_seed)
    if in_memory is None:
        in_memory = not resized_crop and is_held_in_memory(len(train) + len(test), image_size)
    return Dataset(
        name=os.path.basename(root),
        train=train,
        test=test,
        class_names=class_names,
        horizontal_flip=horizontal_flip,
        crop_padding=crop_padding,
        resized_crop=resized_crop,
        in_memory=in_memory,
    )


def _check_sizes(image_size: int, resized_side: int | None) -> None:
    checks.check_positive_integer(**{"folder.image_size": image_size})
    if resized_side is None:
        return
    checks.check_positive_integer(**{"folder.resized_side": resized_side})
    if resized_side < image_size:
        raise checks.UsageError(
            f"folder.resized_side = {resized_side}: expected at least folder.image_size = {image_size}, as a square of "
            "that size is cut out. Raise it, or leave it out."
        )


def _crop_padding(crop_padding: int | None, resized_crop: bool) -> int:
    """The padding that a run uses, in pixels."""
    if crop_padding is None:
        return 0 if resized_crop else _CROP_PADDING
    checks.check_non_negative_integer(**{"folder.crop_padding": crop_padding})
    if crop_padding and resized_crop:
        raise checks.UsageError(
            f"folder.crop_padding = {crop_padding} with folder.resized_crop = True: random windows take the place of "
            "padding and cropping. Leave one of them out."
        )
    return crop_padding


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

        def num_held_out(size: int) -> int:
            return min(max(round(size * test_share), 1), size - 1)  # an image to either side

        return hold_out(listed[0], num_held_out, np.random.default_rng(split_seed))
    train, test = listed
    return train, test


def is_held_in_memory(num_images: int, image_size: int) -> bool:
    """Whether a run holds so many images (training and test) of `image_size` pixels a side in memory by default."""
    return num_images * image_size**2 * 3 <= _MOST_BYTES_IN_MEMORY
