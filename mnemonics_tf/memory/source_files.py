"""Exemplars that stay the files they came in, with all of their resolution: what they take, and how they are filed."""

from __future__ import annotations

import os
from typing import IO

import numpy as np

from mnemonics_tf.data.stored import WHOLE_FILE, StoredImages
from mnemonics_tf.data.types import Images

_VERSION = 1  # of how they are filed


def files_in(images: Images) -> StoredImages | None:
    """The images if they are rows that still have to be decoded, such as those of a folder; codes are none."""
    return images if isinstance(images, StoredImages) and not images.is_pixels.all() else None


def sizes(images: StoredImages) -> np.ndarray:
    """Bytes of each row, `[n]` int64, without reading any. Raises OSError if a file has gone."""
    found = images.length.copy()
    for row in np.flatnonzero(found == WHOLE_FILE):
        file = images.files[images.file[row]]
        found[row] = os.path.getsize(file) if isinstance(file, str) else len(images.content(int(row)))
    return found


def in_memory(images: StoredImages) -> StoredImages:
    """The same rows, of a memory in the place of their files. Raises OSError if a file cannot be read."""
    contents = [images.content(row) for row in range(len(images))]
    lengths = np.array([len(content) for content in contents], np.int64)
    return rows_of(np.frombuffer(b"".join(contents), np.uint8), 0, lengths, head_of(images))


def head_of(images: StoredImages) -> np.ndarray:
    """What says how the files become images: a version, H, W, C and the side that they are resized to, `[5]` int32."""
    return np.array([_VERSION, *images.image_shape, images.resized_side], np.int32)


def rows_of(content: str | np.ndarray, start: int, lengths: np.ndarray, head: np.ndarray) -> StoredImages:
    """Files that stand one after the other from a byte on, as rows.

    Args:
      content: path of the file that holds them, or its bytes.
      start: first byte of the first one.
      lengths: bytes of each, `[n]`.
      head: see `head_of`.

    Raises:
      ValueError: they are filed in another way than this version knows.
    """
    version, height, width, channels, side = head.tolist()
    if version != _VERSION:
        raise ValueError(f"its files are kept in form {version}, and this version of mnemonics_tf reads {_VERSION}")
    return StoredImages.of_pieces(content, start, lengths, (height, width, channels), side)


def write(file: IO[bytes], images: StoredImages, lengths: np.ndarray) -> None:
    """Writes the content of all rows, one after the other.

    Args:
      file: where to.
      images: the rows.
      lengths: bytes of each as they were counted, `[n]`.

    Raises:
      OSError: a file cannot be read, or is not as long as it was.
    """
    for row, length in enumerate(lengths):
        content = images.content(row)
        if len(content) != length:
            raise OSError(
                f"{images.place(row)} has changed while it was learned from: {length} bytes became {len(content)}"
            )
        file.write(content)
