"""How images become what a memory keeps of them, and images again.

A *slot* is what the memory counts and keeps, `[H, W, C]`. Between coding and keeping, slots are worked on: the exemplar
level moves their pixels as floats. So a codec has three parts: `encode` makes slots of images, `decode` makes images of
slots and can be differentiated, and `kept` rounds slots to what is written to disk.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import Images, LabelledImages


class Codec(Protocol):
    """What the memory asks of a codec."""

    @property
    def images_per_slot(self) -> int:
        """How many images a slot stands for."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Slots `[n, H, W, C]` of `[n * images_per_slot, H, W, C]` images on the scale 0..255, uint8 or float32."""

    def decode(self, slots: tf.Tensor) -> tf.Tensor:
        """Images `[n * images_per_slot, H, W, C]` of slots `[n, H, W, C]`, differentiable, in the order of `encode`."""

    def kept(self, slots: np.ndarray) -> np.ndarray:
        """Slots `[n, H, W, C]` as the memory keeps them: uint8, or float32 on the scale 0..255."""

    def num_bytes(self, slots: Images) -> int:
        """Bytes that slots `[n, H, W, C]` take as they are kept."""


@dataclasses.dataclass(frozen=True)
class Pixels:
    """An image a slot, as it is.

    Attributes:
      as_floats: keep float32 in the place of uint8, at four times the bytes, so that learned pixels are not rounded.
    """

    as_floats: bool = False

    images_per_slot = 1

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images

    def decode(self, slots: tf.Tensor) -> tf.Tensor:
        return slots

    def kept(self, slots: np.ndarray) -> np.ndarray:
        return slots if self.as_floats else pixels.to_uint8(slots)

    def num_bytes(self, slots: Images) -> int:
        return math.prod(slots.shape) * slots.dtype.itemsize


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


def codec_of(low_resolution: int, as_floats: bool) -> Codec:
    """The codec that the settings name: whole images for a `low_resolution` of 1, mosaics above."""
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

    Images in files stay there: only codecs of one image a slot keep any.
    """
    if codec.images_per_slot == 1:
        return exemplars
    images = codec.decode(tf.constant(exemplars.array, tf.float32)).numpy()
    images = pixels.to_uint8(images) if exemplars.images.dtype == np.uint8 else images
    repeated = exemplars.take(np.repeat(np.arange(len(exemplars)), codec.images_per_slot))
    return LabelledImages(images, repeated.labels, repeated.soft_labels)
