"""Looks images in files through before a phase trains on them, so that none turns out to be broken hours later."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data import complaints, headers
from mnemonics_tf.data.decoding import pixels, square
from mnemonics_tf.data.layout import NUM_SHOWN, listed
from mnemonics_tf.data.pixels import histogram_of
from mnemonics_tf.data.stored import WHOLE_FILE, StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.system import tracking

_CHUNK = 128  # images handed to the threads at a time: libjpeg's complaints are about one of so many
_MOST_THREADS = 8  # each holds a decoded image of the size that it has in its file
_LARGE = 2**25  # pixels; images above it are decoded one at a time
MOST_BYTES = 2**30  # of a file: no image of `headers.MOST_PIXELS` takes more
_ONE_LARGE = threading.Lock()

_Decoded = TypeVar("_Decoded")


def look_through(
    data: LabelledImages, title: str, keep: bool, histogram: np.ndarray | None = None
) -> tuple[LabelledImages, dict[int, str]]:
    """Reads and decodes every image once, and leaves out those that cannot be read.

    Args:
      data: n encoded images in files, with any labels.
      title: of the progress bar.
      keep: whether the decoded images are kept, as they are evaluated (see `data.decoding`).
      histogram: to which the number of pixels of each value is added, `[C, 256]` int64; over the images as they are
        evaluated that can be read. None counts none.

    Returns:
      What can be read, in the order of `data`: an array `[at most n, H, W, C]` uint8 with `keep`, rows of files
      without. And for the position in `data` of every other image the reason.

    Raises:
      ValueError: the images are an array already.
      UsageError: images that are to be kept do not fit in memory.
    """
    images = in_files(data)
    squares = empty_images(images.shape) if keep else None

    def view(content: bytes) -> tuple[bool, np.ndarray | None, np.ndarray | None]:
        """Whether the image is stored turned, the square if it is kept, and its histogram if there is one."""
        image, is_turned = pixels(content), headers.orientation(content) > 1
        if squares is None and histogram is None:
            return is_turned, None, None
        made = square(image, images)
        return is_turned, None if squares is None else made, None if histogram is None else histogram_of(made)

    rows: list[int] = []
    reasons: dict[int, str] = {}
    any_turned = False
    for row, result in enumerate(decode_each(images, view, title)):
        if isinstance(result, str):
            reasons[row] = result
            continue
        is_turned, made, counts = result
        any_turned |= is_turned
        if squares is not None:
            squares[len(rows)] = made
        if histogram is not None:
            histogram += counts
        rows.append(row)
    readable = data.take(np.array(rows, np.int64))
    known = dataclasses.replace(in_files(readable), may_be_turned=any_turned)
    return dataclasses.replace(readable, images=known if squares is None else squares[: len(rows)]), reasons


def empty_images(shape: tuple[int, ...]) -> np.ndarray:
    """Room for images `[n, H, W, C]` uint8; it takes no memory until it is filled.

    Raises:
      UsageError: they do not fit in memory.
    """
    try:
        return np.empty(shape, np.uint8)
    except (MemoryError, ValueError):  # NumPy's, for sizes beyond any machine
        count, height, width, channels = shape
        raise checks.UsageError(
            f"{count:,} images of {height} x {width} pixels take {count * height * width * channels / 1e9:,.1f} GB, "
            "more than this machine's memory. Set the data source's in_memory = False, which reads them from their "
            "files in every epoch, or lower its image_size."
        ) from None


def decode_each(images: StoredImages, decode: Callable[[bytes], _Decoded], title: str) -> Iterator[_Decoded | str]:
    """Reads images, several at a time, and yields what `decode` makes of each, in their order.

    Args:
      images: encoded, in files.
      decode: a function of an image's content, called in several threads, and now and then twice for an image. What it
        returns is no text.
      title: of the progress bar.

    Yields:
      The decoded image, or the reason why it cannot be read.
    """
    # TensorFlow lets go of Python's lock while it decodes, and each image keeps an error of its own.
    with (
        ThreadPoolExecutor(min(_MOST_THREADS, max(2, os.cpu_count() or 2))) as pool,
        tracking.progress(title, len(images), "images") as bar,
    ):
        for start in range(0, len(images), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(images)))
            for result in _decoded_together(pool, functools.partial(_decoded, images, decode), rows):
                yield result
                bar.update(1)


def decode_contents(contents: Sequence[bytes], decode: Callable[[bytes], _Decoded]) -> list[_Decoded | str]:
    """What `decode` makes of each of some encoded images in memory, or the reason why one cannot be decoded."""
    with ThreadPoolExecutor(min(_MOST_THREADS, max(2, os.cpu_count() or 2))) as pool:
        results: list[_Decoded | str] = []
        for start in range(0, len(contents), _CHUNK):
            results += _decoded_together(pool, functools.partial(_decoded_content, decode), contents[start:][:_CHUNK])
        return results


_Item = TypeVar("_Item")


def _decoded_together(
    pool: ThreadPoolExecutor, decode: Callable[[_Item], _Decoded | str], items: Sequence[_Item]
) -> list[_Decoded | str]:
    """Decodes a few images in threads; those on which libjpeg has something to say again, one after the other."""
    with complaints.heard() as lines:
        results = list(pool.map(decode, items))
    if complaints.damage(lines) is None and not any(isinstance(result, str) for result in results):
        complaints.pass_on(lines)  # of something else that this process does meanwhile
        return results
    said: list[str] = []
    for place, item in enumerate(items):
        with complaints.heard() as own:
            again = decode(item)
        damage = complaints.damage(own)
        if damage:
            results[place] = f"a damaged JPEG file ({damage})"
        elif isinstance(again, str) and own:
            if "Improper call" not in own[-1]:
                results[place] = f"{again} ({complaints.message(own[-1]).rstrip('.')})"
        else:
            continue
        said += map(complaints.message, own)
    complaints.pass_on([line for line in lines if complaints.message(line) not in said])
    return results


def _decoded(images: StoredImages, decode: Callable[[bytes], _Decoded], row: int) -> _Decoded | str:
    """What `decode` makes of a row's content, or why it cannot be read."""
    file = images.files[images.file[row]]
    if isinstance(file, str) and not os.path.isfile(file):
        # Reading a pipe would wait for ever.
        return "not a file (a broken link, or a pipe)" if os.path.lexists(file) else "there is no such file any more"
    try:
        if isinstance(file, str) and images.length[row] == WHOLE_FILE and os.path.getsize(file) > MOST_BYTES:
            return f"a file of {os.path.getsize(file) / 1e9:,.1f} GB, more than any image that is decoded"
        content = images.content(row)
    except MemoryError:
        return _NO_MEMORY
    except OSError as error:
        return error.strerror or str(error)
    return _decoded_content(decode, content)


_NO_MEMORY = "there is not enough memory to decode it"


def _decoded_content(decode: Callable[[bytes], _Decoded], content: bytes) -> _Decoded | str:
    """What `decode` makes of an encoded image, or why it cannot be decoded."""
    if not content:
        return "the file is empty"
    height, width = headers.extent(content) or (0, 0)
    try:
        with (
            _ONE_LARGE if height * width > _LARGE else contextlib.nullcontext(),
            tf.device("/CPU:0"),  # a GPU would be sent every image and send it back
        ):
            return decode(content)
    except headers.UnreadableImageError as error:
        return str(error)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        return _NO_MEMORY
    except tf.errors.OpError as error:
        kind = headers.format_of(content[: headers.HEAD])
        if kind in ("JPEG", "GIF"):
            return f"a truncated or damaged {kind} file"
        if kind == "WebP" and headers.extent(content):
            return "a WebP file that is transparent, truncated or damaged"
        # Without TensorFlow's remarks on where in its code it happened.
        return re.sub(r"^\{\{.*?\}\} ?(\w+::)?| ?\[Op:.*$", "", error.message.partition("\n")[0]).rstrip(".")


def report_unreadable(data: LabelledImages, reasons: Mapping[int, str], split: str) -> None:
    """Says on standard error which images are left out, if any are.

    Args:
      data: what was looked through, in files.
      reasons: why an image cannot be read, by its position.
      split: `training` or `test`.
    """
    if not reasons:
        return
    images = in_files(data)
    lines = [f"\n  {images.place(row)}: {reason}" for row, reason in list(reasons.items())[:NUM_SHOWN]]
    more = f"\n  and {len(reasons) - NUM_SHOWN} more" if len(reasons) > NUM_SHOWN else ""
    tracking.notice(
        f"{len(reasons)} of {len(data)} {split} images cannot be read and are left out:{''.join(lines)}{more}"
    )


def check_enough(data: LabelledImages, reasons: Mapping[int, str], class_names: Sequence[str], split: str) -> None:
    """Refuses classes that had images of which none can be read.

    Args:
      data: what was looked through, in files.
      reasons: why an image cannot be read, by its position.
      class_names: by label.
      split: `training` or `test`.

    Raises:
      UsageError: there is such a class.
    """
    is_readable = np.ones(len(data), bool)
    is_readable[list(reasons)] = False
    lost = np.setdiff1d(data.labels, data.labels[is_readable])
    if len(lost):
        images, first = in_files(data), int(np.flatnonzero(data.labels == lost[0])[0])
        hint = " `python -m mnemonics_tf.data.check DIR` lists every file below a folder that cannot be read."
        raise checks.UsageError(
            f"No {split} image of {listed([class_names[label] for label in lost])} can be read (such as "
            f"{images.place(first)!r}: {reasons[first]}). Replace or remove such files, or leave the class out."
            f"{hint * bool(images.length[first] == WHOLE_FILE)}"
        )


def in_files(data: LabelledImages) -> StoredImages:
    """The images as rows of files. Raises ValueError if they are in memory."""
    if isinstance(data.images, np.ndarray):
        raise ValueError("These images are in memory: expected rows of files.")
    return data.images
