"""Several images of low resolution in the place of one: more exemplars in the same bytes.

With factor f a *slot* of the memory, `[H, W, C]`, is a mosaic of f x f tiles; each tile is an image at 1/f of the
resolution. Decoding upsamples the tiles, bilinearly and differentiably, so slots can be learned as images can. With
f = 1 slots are the images themselves.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pixels
from mnemonics_tf.types import LabelledImages


def encode(images: np.ndarray, factor: int) -> np.ndarray:
    """Packs each f * f consecutive images into a slot.

    Args:
      images: `[n * f * f, H, W, C]` on the scale 0..255.
      factor: f, a divisor of H and W.

    Returns:
      `[n, H, W, C]` float32 (the images as they are for f = 1); a tile's pixel is the mean of f x f pixels.
    """
    if factor == 1:
        return images
    _, height, width, channels = images.shape
    rows, columns = height // factor, width // factor
    small = images.reshape(-1, rows, factor, columns, factor, channels).astype(np.float32).mean(axis=(2, 4))
    tiles = small.reshape(-1, factor, factor, rows, columns, channels)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)


def decode(slots: tf.Tensor, factor: int) -> tf.Tensor:
    """The images of the slots, in the order in which `encode` took them.

    Args:
      slots: `[n, H, W, C]`; for f > 1 the result is floating.
      factor: f.

    Returns:
      `[n * f * f, H, W, C]`; differentiable with respect to the slots.
    """
    if factor == 1:
        return slots
    _, height, width, channels = slots.shape
    rows, columns = height // factor, width // factor
    tiles = tf.transpose(tf.reshape(slots, [-1, factor, rows, factor, columns, channels]), [0, 1, 3, 2, 4, 5])
    return tf.image.resize(tf.reshape(tiles, [-1, rows, columns, channels]), [height, width])


def decode_exemplars(exemplars: LabelledImages, factor: int) -> LabelledImages:
    """What networks are trained on: every image of every slot, with the slot's label; uint8 where slots are."""
    if factor == 1:
        return exemplars
    images = decode(tf.constant(exemplars.array, tf.float32), factor).numpy()
    images = pixels.to_uint8(images) if exemplars.images.dtype == np.uint8 else images
    repeated = exemplars.take(np.repeat(np.arange(len(exemplars)), factor**2))
    return LabelledImages(images, repeated.labels, repeated.soft_labels)
