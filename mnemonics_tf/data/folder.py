"""Images in folders, one folder a class: listed first (`listing.py`), then read into memory."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import gin
import numpy as np
import tensorflow as tf

from mnemonics_tf import checks, tracking
from mnemonics_tf.data.holding_out import hold_out
from mnemonics_tf.data.listing import NUM_SHOWN, Listing, listed, root_of, scan
from mnemonics_tf.data.sources import centre_square
from mnemonics_tf.types import Dataset, LabelledImages

TEST_SHARE = 0.2  # by default

_CHUNK = 512  # files handed to the threads at a time, so that Ctrl-C need not wait for all of them

_Decoded = TypeVar("_Decoded")


@gin.configurable
def folder(
    path: str | None = None,
    image_size: int | None = None,
    test_share: float = TEST_SHARE,
    split_seed: int = 0,
    horizontal_flip: bool = True,
    crop_padding: int = 4,
) -> Dataset:
    """Image files in folders that are named after their class, held in memory.

    Either `path/train/<class>/...` with `path/test/<class>/...` (or `path/val`, where there is no `test`), or
    `path/<class>/...`, of which a share is held out; that split copies the images, so for a moment they take twice the
    memory. Files are JPEG, PNG, BMP, GIF (the first frame) or WebP (not animated, not transparent), at any depth below
    their class; other files and hidden ones are ignored. Images become RGB, `[image_size, image_size, 3]` uint8: the
    shorter side is scaled, then the centre square is cut out. Transparency is dropped, 16 bits become 8, and a
    camera's note on orientation (EXIF) is not followed. Files that cannot be read are left out and reported.

    Args:
      path: the folder; its name becomes that of the data set.
      image_size: side of the square images, in pixels.
      test_share: share of every class that is held out for testing where there is no folder `train`; at least one
        image.
      split_seed: seed of that split.
      horizontal_flip: whether a mirrored image still shows its class.
      crop_padding: pixels of padding before the random crop of training images.

    Raises:
      UsageError: no such folder, folders that are not laid out so, or a class without a readable image.
    """
    if not isinstance(path, str):
        raise checks.UsageError(f"folder.path = {path!r}: expected the folder that holds the images: set it.")
    if image_size is None:
        raise checks.UsageError("folder.image_size = None: expected the side of the square images, such as 64: set it.")
    checks.check_positive_integer(**{"folder.image_size": image_size})
    checks.check_positive(**{"folder.test_share": test_share})
    checks.check_fraction(**{"folder.test_share": test_share})
    checks.check_non_negative_integer(**{"folder.split_seed": split_seed, "folder.crop_padding": crop_padding})
    checks.check_bool(**{"folder.horizontal_flip": horizontal_flip})
    root = root_of(path)
    class_names, listings = scan(root)
    parts: Sequence[LabelledImages] = _read_all(root, listings, class_names, image_size)
    if len(parts) == 1:
        share = functools.partial(num_held_out, test_share=test_share)
        parts = hold_out(parts[0], share, np.random.default_rng(split_seed))
    train, test = parts
    return Dataset(os.path.basename(root), train, test, class_names, horizontal_flip, crop_padding)


def _read_all(
    root: str, listings: Sequence[Listing], class_names: Sequence[str], image_size: int
) -> list[LabelledImages]:
    """Pixels of every listing. Reports once what could not be read.

    Raises:
      UsageError: nothing of a class could be read, or the images do not fit in memory.
    """
    parts, broken = [], []
    for listing in listings:
        title = os.path.relpath(listing.root, os.path.dirname(root))
        part, reasons = read(listing, image_size, f"reading {title}")
        parts.append(part)
        broken.append(reasons)
    lines = skipped_lines(root, listings, broken)
    if lines:
        total = sum(len(listing.files) for listing in listings)
        shown = "".join(f"\n  {line}" for line in lines[:NUM_SHOWN])
        more = f"\n  and {len(lines) - NUM_SHOWN} more" if len(lines) > NUM_SHOWN else ""
        tracking.notice(f"{len(lines)} of {total} image files in {root} cannot be read and are left out:{shown}{more}")
    counts = [np.bincount(part.labels, minlength=len(class_names)) for part in parts]
    check_readable(listings, counts, class_names, broken)
    return parts


def skipped_lines(root: str, listings: Sequence[Listing], broken: Sequence[Mapping[str, str]]) -> list[str]:
    """A line for each file that cannot be read: its path below `root` and the reason.

    Args:
      root: the folder of all listings.
      listings: of training and test images, or of all.
      broken: of each listing, why a file cannot be read.
    """
    return [
        f"{os.path.relpath(os.path.join(listing.root, file), root)}: {reason}"
        for listing, reasons in zip(listings, broken, strict=True)
        for file, reason in reasons.items()
    ]


def check_readable(
    listings: Sequence[Listing],
    counts: Sequence[np.ndarray],
    class_names: Sequence[str],
    broken: Sequence[Mapping[str, str]],
) -> None:
    """Refuses classes of which too little can be read.

    Args:
      listings: of training and test images, or of all where they are yet to be split.
      counts: of each listing, the number of images of each class that can be read, `[num_classes]`.
      class_names: by class id.
      broken: of each listing, why a file cannot be read.

    Raises:
      UsageError: a class has no readable image, or only one where training and test images are not apart.
    """
    for listing, sizes, reasons in zip(listings, counts, broken, strict=True):
        lost = [name for name, size in zip(class_names, sizes, strict=True) if not size]
        if lost:
            first = next(file for file in reasons if file.startswith(os.path.join(lost[0], "")))
            raise checks.UsageError(
                f"folder.path: no image of {listed(lost)} in {listing.root!r} can be read (such as "
                f"{os.path.join(listing.root, first)!r}: {reasons[first]}). Replace the files or remove the class."
            )
    single = [name for name, size in zip(class_names, counts[0], strict=True) if size < 2]
    if len(listings) == 1 and single:
        raise checks.UsageError(
            f"folder.path = {listings[0].root!r}: {listed(single)} with one readable image only: expected at least 2 "
            "in a class, to train on and to test on. Add images or remove the class."
        )


def read(listing: Listing, image_size: int, title: str) -> tuple[LabelledImages, dict[str, str]]:
    """Decodes and resizes the files of a listing, in its order.

    Args:
      listing: n files.
      image_size: side of the squares, in pixels.
      title: of the progress bar.

    Returns:
      What could be read, images `[at most n, image_size, image_size, 3]` uint8; and for every other file the reason.

    Raises:
      UsageError: the images do not fit in memory.
    """
    images = empty_images(listing, image_size)
    resize = resizer(image_size)
    kept: list[int] = []
    broken = {}
    decoded = decode_each(listing, lambda data: resize(pixels(data)).numpy(), title)
    for position, (file, result) in enumerate(decoded):
        if isinstance(result, str):
            broken[file] = result
        else:
            images[len(kept)] = result
            kept.append(position)
    return LabelledImages(images[: len(kept)], listing.labels[kept]), broken


def empty_images(listing: Listing, image_size: int) -> np.ndarray:
    """Room for the images of a listing, `[n, image_size, image_size, 3]` uint8; it takes no memory until it is filled.

    Raises:
      UsageError: the images do not fit in memory.
    """
    count = len(listing.files)
    try:
        return np.empty((count, image_size, image_size, 3), np.uint8)
    except (MemoryError, ValueError):  # NumPy's, for sizes beyond any machine
        raise checks.UsageError(
            f"folder.image_size = {image_size}: {count} images of that size in {listing.root!r} take "
            f"{count * image_size**2 * 3 / 1e9:.1f} GB, more than this machine's memory. Lower it or use fewer images."
        ) from None


def decode_each(
    listing: Listing, decode: Callable[[bytes], _Decoded], title: str
) -> Iterator[tuple[str, _Decoded | str]]:
    """Opens the files of a listing, several at a time, and yields each in its order with what `decode` makes of it.

    Args:
      listing: the files.
      decode: a function of a file's content, called in several threads. What it returns is no text.
      title: of the progress bar.

    Yields:
      The path below `listing.root`, and the decoded file or the reason why it cannot be read.
    """
    # TensorFlow lets go of Python's lock while it decodes, and each file keeps an error of its own.
    with (
        ThreadPoolExecutor(min(4, max(2, os.cpu_count() or 2))) as pool,
        tracking.progress(title, len(listing.files), "images") as bar,
    ):
        for start in range(0, len(listing.files), _CHUNK):
            files = listing.files[start : start + _CHUNK]
            paths = [os.path.join(listing.root, file) for file in files]
            for file, result in zip(files, pool.map(functools.partial(_decoded, decode), paths), strict=True):
                yield file, result
                bar.update(1)


@functools.cache  # traced once a size: one image takes milliseconds of Python otherwise
def resizer(image_size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of an image `[h, w, 3]` uint8 that returns its centre square, `[image_size, image_size, 3]` uint8."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def resize(image: tf.Tensor) -> tf.Tensor:
        return centre_square(image, image_size)

    return resize


def _decoded(decode: Callable[[bytes], _Decoded], path: str) -> _Decoded | str:
    """What `decode` makes of a file's content, or why it cannot be read."""
    if not os.path.isfile(path):
        return "not a file (a broken link, or a pipe)"  # reading a pipe would wait for ever
    try:
        with open(path, "rb") as opened:
            data = opened.read()
        if not data:
            return "the file is empty"
        with tf.device("/CPU:0"):  # a GPU would be sent every image and send it back
            return decode(data)
    except OSError as error:
        return error.strerror or type(error).__name__
    except tf.errors.OpError as error:
        # Without TensorFlow's remarks on where in its code it happened.
        return re.sub(r"^\{\{.*?\}\} ?(\w+::)?| ?\[Op:.*$", "", error.message.partition("\n")[0]).rstrip(".")


def pixels(data: bytes) -> tf.Tensor:
    """Decodes an image by its content, whatever the file is called: `[h, w, 3]` uint8."""
    # Three channels, always: with any other number, TensorFlow 2.21 overruns its memory on animated WebP.
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    palette = _bmp_palette(data)
    return image if palette is None else tf.gather(palette, tf.cast(image[..., 0], tf.int32))


def _bmp_palette(data: bytes) -> np.ndarray | None:
    """The colours `[256, 3]` uint8 of a BMP of 8 bits a pixel, which TensorFlow takes for shades of grey; else None."""
    header_size, bits_per_pixel = (int.from_bytes(data[place : place + 2], "little") for place in (14, 28))
    if not data.startswith(b"BM") or bits_per_pixel != 8:
        return None
    # The palette, as blue, green, red and a byte of nothing, stands between the headers and the pixels.
    pixels_start = int.from_bytes(data[10:14], "little")
    stored = np.frombuffer(data[14 + header_size : min(pixels_start, 14 + header_size + 1024)], np.uint8)
    colours = stored[: len(stored) // 4 * 4].reshape(-1, 4)[:, 2::-1]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    return palette


def num_held_out(size: int, test_share: float) -> int:
    """How many of a class's `size` images, of which there are at least 2, are held out for testing."""
    return min(max(round(size * test_share), 1), size - 1)
