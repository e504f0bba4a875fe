"""Where exemplars of a streamed data set wait until their phase is saved."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.coded import encoded, format_of_rows, rows_of
from mnemonics_tf.memory.formats import Format

_AT_ONCE = 256  # images that are decoded together


class PixelFile:
    """A file of uint8 images or of codes, one after the other, that grows.

    Args:
      path: made anew.
      image_shape: `(H, W, C)` of every image.
    """

    def __init__(self, path: str, image_shape: tuple[int, int, int]):
        self._path, self._shape, self._size = path, image_shape, 0
        with open(path, "xb"):
            pass

    def append(self, images: np.ndarray) -> StoredImages:
        """Adds images `[n, H, W, C]` uint8 and returns their rows."""
        return StoredImages.of_pixels(self._path, self._grow(images.tobytes()), len(images), self._shape)

    def append_codes(self, codes: Sequence[bytes], form: Format) -> StoredImages:
        """Adds codes of a format and returns their rows."""
        lengths = np.array([len(code) for code in codes], np.int64)
        return rows_of(self._path, self._grow(b"".join(codes)), lengths, form)

    def _grow(self, content: bytes) -> int:
        """Adds bytes. Where they begin."""
        start = self._size
        with open(self._path, "ab") as file:
            file.write(content)
        self._size += len(content)
        return start


def as_pixels(data: LabelledImages, file: PixelFile) -> LabelledImages:
    """The same images as rows of bare pixels; encoded ones are decoded, as they are evaluated, and put in `file`."""
    if not len(data) or (isinstance(data.images, StoredImages) and data.images.is_pixels.all()):
        return data
    pieces = []
    for start in range(0, len(data), _AT_ONCE):
        piece = in_memory(data.take(np.arange(start, min(start + _AT_ONCE, len(data)))))
        pieces.append(dataclasses.replace(piece, images=file.append(piece.array)))
    return functools.reduce(LabelledImages.join, pieces)


def as_codes(data: LabelledImages, file: PixelFile, form: Format) -> LabelledImages:
    """The same images as rows of codes; what is none yet is decoded, as it is evaluated, coded, and put in `file`."""
    if not len(data) or format_of_rows(data.images) == form:
        return data
    pieces = []
    for start in range(0, len(data), _AT_ONCE):
        piece = data.take(np.arange(start, min(start + _AT_ONCE, len(data))))
        pieces.append(dataclasses.replace(piece, images=file.append_codes(encoded(piece.images, form), form)))
    return functools.reduce(LabelledImages.join, pieces)
