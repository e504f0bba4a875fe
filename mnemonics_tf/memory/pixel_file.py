"""Where exemplars of a streamed data set wait until their phase is saved."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages

_AT_ONCE = 256  # images that are decoded together


class PixelFile:
    """A file of uint8 images, one after the other, that grows.

    Args:
      path: made anew.
      image_shape: `(H, W, C)` of every image.
    """

    def __init__(self, path: str, image_shape: tuple[int, int, int]):
        self._path, self._shape, self._count = path, image_shape, 0
        with open(path, "xb"):
            pass

    def append(self, images: np.ndarray) -> StoredImages:
        """Adds images `[n, H, W, C]` uint8 and returns their rows."""
        offset = self._count * int(np.prod(self._shape))
        with open(self._path, "ab") as file:
            file.write(np.ascontiguousarray(images).data)
        self._count += len(images)
        return StoredImages.of_pixels(self._path, offset, len(images), self._shape)


def as_pixels(data: LabelledImages, file: PixelFile) -> LabelledImages:
    """The same images as rows of bare pixels; encoded ones are decoded, as they are evaluated, and put in `file`."""
    if not len(data) or (isinstance(data.images, StoredImages) and data.images.is_pixels.all()):
        return data
    pieces = []
    for start in range(0, len(data), _AT_ONCE):
        piece = in_memory(data.take(np.arange(start, min(start + _AT_ONCE, len(data)))))
        pieces.append(dataclasses.replace(piece, images=file.append(piece.array)))
    return functools.reduce(LabelledImages.join, pieces)
