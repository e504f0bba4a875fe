"""How images become what a memory keeps of them, and images again.

A *slot* is what the memory counts and keeps, `[H, W, C]`. Between coding and keeping, slots are worked on: the exemplar
level moves their pixels as floats. So a codec has three parts: `encode` makes slots of images, `decode` makes images of
slots and can be differentiated, and `kept` makes of slots what is written to disk. Formats of pictures code there and
nowhere else: what is learned is pixels, and is coded once, at the end.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.memory import source_files
from mnemonics_tf.memory.coded import encoded, format_of_rows, held, is_held
from mnemonics_tf.memory.formats import Format, format_for


class Codec(Protocol):
    """What the memory asks of a codec."""

    @property
    def images_per_slot(self) -> int:
        """How many images a slot stands for."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Slots `[n, H, W, C]` of `[n * images_per_slot, H, W, C]` images on the scale 0..255, uint8 or float32."""

    def decode(self, slots: tf.Tensor) -> tf.Tensor:
        """Images `[n * images_per_slot, H, W, C]` of slots `[n, H, W, C]`, differentiable, in the order of `encode`."""

    def kept(self, slots: np.ndarray) -> Images:
        """Slots `[n, H, W, C]` as the memory keeps them: uint8, float32 on the scale 0..255, or rows of codes."""

    def num_bytes(self, slots: Images) -> np.ndarray:
        """Bytes that each of the slots `[n, H, W, C]` takes as it is kept, `[n]` int64."""


class _WholeImages:
    """The part of codecs by which a slot that is worked on is an image, as it is."""

    images_per_slot = 1

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images

    def decode(self, slots: tf.Tensor) -> tf.Tensor:
        return slots


@dataclasses.dataclass(frozen=True)
class Pixels(_WholeImages):
    """An image a slot, as it is.

    Attributes:
      as_floats: keep float32 in the place of uint8, at four times the bytes, so that learned pixels are not rounded.
    """

    as_floats: bool = False

    def kept(self, slots: np.ndarray) -> np.ndarray:
        return slots if self.as_floats else pixels.to_uint8(slots)

    def num_bytes(self, slots: Images) -> np.ndarray:
        return np.full(len(slots), math.prod(slots.shape[1:]) * slots.dtype.itemsize, np.int64)


@dataclasses.dataclass(frozen=True)
class Mosaic(Pixels):
    """Several images of low resolution in the place of one: more exemplars in the same bytes.

    A slot is a mosaic of `factor` x `factor` tiles; each tile is an image at `1 / factor` of the resolution. Decoding
    upsamples the tiles, bilinearly and differentiably, so that slots can be learned as images can.

    Attributes:
      factor: a divisor of both sides of the images, at least 2.
    """

    factor: int = 2

    @property
    def images_per_slot(self) -> int:  # type: ignore[override]
        """`factor * factor`."""
        return self.factor**2

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Float32 slots: a tile's pixel is the mean of `factor` x `factor` pixels."""
        factor = self.factor
        _, height, width, channels = images.shape
        rows, columns = height // factor, width // factor
        small = images.reshape(-1, rows, factor, columns, factor, channels).astype(np.float32).mean(axis=(2, 4))
        tiles = small.reshape(-1, factor, factor, rows, columns, channels)
        return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)

    def decode(self, slots: tf.Tensor) -> tf.Tensor:
        """Images of a floating dtype: bilinear values lie between pixels."""
        factor = self.factor
        _, height, width, channels = slots.shape
        rows, columns = height // factor, width // factor
        tiles = tf.transpose(tf.reshape(slots, [-1, factor, rows, factor, columns, channels]), [0, 1, 3, 2, 4, 5])
        return tf.image.resize(tf.reshape(tiles, [-1, rows, columns, channels]), [height, width])


@dataclasses.dataclass(frozen=True)
class Coded(_WholeImages):
    """An image a slot, kept in a format of pictures. Slots that are worked on are pixels.

    Attributes:
      name: `png`, `webp` or `jpeg`.
      quality: 1 to 100.
    """

    name: str
    quality: int

    def format(self, image_shape: tuple[int, ...]) -> Format:
        """The format, for images `(H, W, C)`. Raises UsageError if it cannot hold them."""
        height, width, channels = image_shape
        return format_for(self.name, self.quality, (height, width, channels))

    def kept(self, slots: Images) -> StoredImages:
        """Rows of codes in memory. Rows that are codes of this format already stay as they are."""
        form = self.format(slots.shape[1:])
        return held(encoded(pixels.to_uint8(slots) if isinstance(slots, np.ndarray) else slots, form), form)

    def num_bytes(self, slots: Images) -> np.ndarray:
        """Of no slots, or of codes. Raises ValueError for others: only coding tells what they will take."""
        if len(slots) and format_of_rows(slots) is None:
            raise ValueError("These slots are not coded yet, so that nobody knows their bytes.")
        return slots.length if isinstance(slots, StoredImages) else np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Source(_WholeImages):
    """An image a slot, kept as the file that it came in: at its own resolution, and coded by nobody again."""

    def kept(self, slots: Images) -> StoredImages:
        """Rows of files in memory. Raises ValueError for pixels, which are no file."""
        if not isinstance(slots, StoredImages) or slots.is_pixels.any():
            raise ValueError("These slots are pixels, and only images in files can be kept as they came.")
        return source_files.in_memory(slots)

    def num_bytes(self, slots: Images) -> np.ndarray:
        return source_files.sizes(slots) if isinstance(slots, StoredImages) else np.zeros(0, np.int64)


def codec_of(low_resolution: int, as_floats: bool, name: str = "raw", quality: int = 90) -> Codec:
    """The codec that the settings name: files as they are, formats of pictures, whole images of pixels, or mosaics."""
    if name == "source":
        return Source()
    if name != "raw":
        return Coded(name, quality)
    return Pixels(as_floats) if low_resolution == 1 else Mosaic(as_floats, low_resolution)


def decode(slots: tf.Tensor, factor: int) -> tf.Tensor:
    """The images of the slots that a run with `low_resolution = factor` has stored.

    Args:
      slots: `[n, H, W, C]`, such as the `images` of an `exemplars.npz`.
      factor: f; 1 for whole images, which come back as they are.

    Returns:
      `[n * f * f, H, W, C]`; floating for f > 1.
    """
    return codec_of(factor, as_floats=False).decode(slots)


def decoded(exemplars: LabelledImages, codec: Codec) -> LabelledImages:
    """What networks are trained on: every image of every slot, with the slot's label; uint8 where slots are.

    Images in files stay there: only codecs of one image a slot keep any. Codes in memory are decoded.
    """
    if codec.images_per_slot == 1:
        is_code = format_of_rows(exemplars.images) is not None
        return in_memory(exemplars) if is_code and is_held(exemplars.images) else exemplars
    images = codec.decode(tf.constant(exemplars.array, tf.float32)).numpy()
    images = pixels.to_uint8(images) if exemplars.images.dtype == np.uint8 else images
    repeated = exemplars.take(np.repeat(np.arange(len(exemplars)), codec.images_per_slot))
    return LabelledImages(images, repeated.labels, repeated.soft_labels)
