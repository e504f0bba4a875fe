"""TensorFlow's kernel of batch norm in training, with its gradient at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class FusedNorm(NamedTuple):
    """What the kernel makes of a batch.

    Attributes:
      outputs: `[B, H, W, C]`, of the dtype of the inputs.
      mean: of the batch, `[C]`.
      unbiased: the variance of the population that the batch is a sample of, `[C]`, which the kernel tells.
      variance: of the batch, `[C]`.
      back: from a gradient of the outputs, `[B, H, W, C]`, to those of inputs, scale and offset.
    """

    outputs: tf.Tensor
    mean: tf.Tensor
    unbiased: tf.Tensor
    variance: tf.Tensor
    back: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def fused_norm(inputs: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float) -> FusedNorm:
    """Normalises by the moments of the batch.

    Args:
      inputs: `[B, H, W, C]`, of a dtype that the kernel knows: not float64.
      scale: `[C]` float32.
      offset: `[C]` float32.
      epsilon: added to the variance.
    """
    none = tf.constant([], scale.dtype)
    outputs, mean, unbiased, *reserved = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=scale, offset=offset, mean=none, variance=none, epsilon=epsilon, is_training=True
    )

    def back(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=upstream,
            x=inputs,
            scale=scale,
            reserve_space_1=reserved[0],
            reserve_space_2=reserved[1],
            reserve_space_3=reserved[2],
            epsilon=epsilon,
            is_training=True,
        )[:3]

    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), unbiased.dtype)
    return FusedNorm(outputs, mean, unbiased, unbiased * (tf.maximum(count - 1.0, 1.0) / count), back)
