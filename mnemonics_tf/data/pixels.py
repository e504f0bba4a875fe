"""Pixels 0..255 and the normalised values that the network sees, in both directions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf.data.types import PixelRange


def normalise(images: tf.Tensor, pixel_range: PixelRange) -> tf.Tensor:
    """`[B, H, W, C]` on the scale 0..255, of any dtype, to float32 `(pixel / 255 - mean) / std`."""
    mean, std = _constants(pixel_range)
    return (tf.cast(images, tf.float32) / 255.0 - mean) / std


def denormalise(images: tf.Tensor, pixel_range: PixelRange) -> np.ndarray:
    """The inverse of `normalise`: float32 on the scale 0..255, clipped to it."""
    mean, std = _constants(pixel_range)
    return np.clip((np.asarray(images) * std + mean) * 255.0, 0.0, 255.0).astype(np.float32)


def valid_bounds(pixel_range: PixelRange) -> tuple[np.ndarray, np.ndarray]:
    """Normalised values of pixel 0 and pixel 255, `[C]` each: what exemplars are projected to."""
    mean, std = _constants(pixel_range)
    return (0.0 - mean) / std, (1.0 - mean) / std


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Rounds and clips images on the scale 0..255. A bare cast would wrap 256 around to 0."""
    if images.dtype == np.uint8:
        return images
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def histogram_of(images: np.ndarray) -> np.ndarray:
    """How many pixels of images `[..., C]` uint8 have each value in each channel, `[C, 256]` int64."""
    channels = range(images.shape[-1])
    return np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in channels])


def _constants(pixel_range: PixelRange) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(pixel_range.mean, np.float32), np.asarray(pixel_range.std, np.float32)
