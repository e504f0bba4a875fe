"""Differentiable augmentation of both levels: exemplars then train well under augmentation, too.

Each meta-step draws one transformation and applies it to all exemplars and all validation images alike, so that the two
levels stay comparable ("Dataset Condensation with Differentiable Siamese Augmentation", Zhao and Bilen, ICML 2021,
whose ranges these are).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mnemonics_tf.system.lazy import tf

AUGMENTATIONS = ("flip", "crop", "colour")

# The largest shift of a crop, as a share of the side.
_LARGEST_SHIFT = 1 / 8


def draw_transformation(
    kinds: Sequence[str], image_shape: Sequence[int], generator: np.random.Generator
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A random transformation of normalised images `[B, H, W, C]`, differentiable, the same for all of them.

    Args:
      kinds: any of `flip` (mirrored, or not), `crop` (shifted by up to an eighth of the side, zeros come in) and
        `colour` (brightness, contrast and, with three channels, saturation).
      image_shape: `(H, W, C)`.
      generator: source of randomness.
    """
    height, width, channels = image_shape
    steps: list[Callable[[tf.Tensor], tf.Tensor]] = []
    if "colour" in kinds:
        brightness, contrast, saturation = generator.uniform(-0.5, 0.5), generator.uniform(0.5, 1.5), 1.0
        if channels == 3:
            saturation = generator.uniform(0.0, 2.0)
        steps.append(lambda images: _colour(images, brightness, contrast, saturation))
    if "crop" in kinds:
        vertical, horizontal = (int(side * _LARGEST_SHIFT) for side in (height, width))
        top, left = generator.integers(0, 2 * vertical + 1), generator.integers(0, 2 * horizontal + 1)
        padding = [[0, 0], [vertical, vertical], [horizontal, horizontal], [0, 0]]
        steps.append(lambda images: tf.pad(images, padding)[:, top : top + height, left : left + width])
    if "flip" in kinds and generator.random() < 0.5:
        steps.append(lambda images: tf.reverse(images, axis=[2]))

    def transform(images: tf.Tensor) -> tf.Tensor:
        for step in steps:
            images = step(images)
        return images

    return transform


def _colour(images: tf.Tensor, brightness: float, contrast: float, saturation: float) -> tf.Tensor:
    images = images + brightness
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + saturation * (images - grey)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + contrast * (images - mean)
