"""A stronger augmentation, after that of the data set: colour jitter and cutout."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# Brightness, contrast and saturation are multiplied by 1 - _STRENGTH to 1 + _STRENGTH: 0.4 is usual for photographs.
_STRENGTH = 0.4
# Side of the square that is cut out, of the image's: 8 of 32 pixels, as the paper on cutout has it for CIFAR-100.
_CUT_SHARE = 0.25
_LUMINANCE = (0.299, 0.587, 0.114)


class JitterDraws(NamedTuple):
    """Random choices for each image of a batch.

    Attributes:
      factors: of brightness, contrast and saturation, `[B, 3]` float32 in 0.6..1.4.
      centres: of the square that is cut out, `[B, 2]` float32, as shares of height and width, 0..1.
    """

    factors: tf.Tensor
    centres: tf.Tensor


def draw(count: tf.Tensor | int, seed: tf.Tensor) -> JitterDraws:
    """Random choices for `count` images, by `seed`, `[2]` int."""
    factors = tf.random.stateless_uniform([count, 3], seed + 4, 1.0 - _STRENGTH, 1.0 + _STRENGTH)
    return JitterDraws(factors, tf.random.stateless_uniform([count, 2], seed + 5))


def jittered(images: tf.Tensor, draws: JitterDraws) -> tf.Tensor:
    """Changes brightness, contrast and, of images with three channels, saturation; then cuts out a square.

    Brightness scales pixels; contrast scales their distance from the image's mean grey, saturation that from the
    pixel's own grey. The square has a quarter of each side, may overlap the border, and takes the image's mean colour.

    Args:
      images: `[B, H, W, C]` in 0..255, uint8 or float32.
      draws: a draw for each image.

    Returns:
      Images of the same shape, range and dtype.
    """
    pixels = tf.cast(images, tf.float32)
    brightness, contrast, saturation = (draws.factors[:, index, None, None, None] for index in range(3))
    pixels = pixels * brightness
    pixels = _away_from(tf.reduce_mean(_grey(pixels), axis=[1, 2], keepdims=True), pixels, contrast)
    if images.shape[3] == 3:
        pixels = _away_from(_grey(pixels), pixels, saturation)
    pixels = tf.clip_by_value(pixels, 0.0, 255.0)
    pixels = tf.where(_square(images, draws.centres), tf.reduce_mean(pixels, axis=[1, 2], keepdims=True), pixels)
    return tf.cast(tf.round(pixels) if images.dtype.is_integer else pixels, images.dtype)


def _away_from(centre: tf.Tensor, pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return centre + factor * (pixels - centre)


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    """The luminance of each pixel, `[B, H, W, 1]`; the mean of the channels if they are not three."""
    if pixels.shape[3] == 3:
        return tf.reduce_sum(pixels * tf.constant(_LUMINANCE), axis=3, keepdims=True)
    return tf.reduce_mean(pixels, axis=3, keepdims=True)


def _square(images: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    """Which pixels are cut out, `[B, H, W, 1]` bool."""
    inside = []
    for axis in (0, 1):
        length = images.shape[1 + axis]
        side = max(1, round(_CUT_SHARE * length))
        centre = tf.cast(tf.floor(centres[:, axis, None] * length), tf.int32)
        first = centre - side // 2
        places = tf.range(length)
        inside.append((places >= first) & (places < first + side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
