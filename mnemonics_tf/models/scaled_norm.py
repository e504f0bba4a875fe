"""Batch norm of a convolution whose filters are scaled, with a derivative by the scales that costs nothing.

Weight transfer scales a filter W by s in front of a batch norm. With c = W x, its variance v over the batch, the batch
norm's own gain and offset, and the epsilon e:

    y = gain * s (c - mean c) / sqrt(s^2 v + e) + offset
    dy / ds = gain * e (c - mean c) / (s^2 v + e)^(3/2)

The derivative by the gain is (y - offset) / gain. So with any gradient of the outputs

    by_scale = by_gain * gain * e / (s (s^2 v + e))

and `by_gain` is found anyway: the gradient of the kernel, a quarter of a training step, is not needed. Through the
kernel, what is left of it is rounding for the most part: e is 1e-5, and all else cancels.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from mnemonics_tf.models.fused_norm import fused_norm
from mnemonics_tf.models.recorded import with_gradient

_SMALLEST_SCALE = 1e-12


def nonzero(scale: tf.Tensor) -> tf.Tensor:
    """Scales, of which those at 0 are moved away from it by less than counts, so that one can divide by them."""
    moved = tf.where(tf.abs(scale) < _SMALLEST_SCALE, tf.constant(_SMALLEST_SCALE, scale.dtype), scale)
    return scale + tf.stop_gradient(moved - scale)  # the derivative by the scale passes


def scaled_batch_norm(
    outputs: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, gain: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch norm of `outputs + shift` by the moments of the batch, in TensorFlow's fused kernel.

    Args:
      outputs: of the convolution by the scaled filters, s c: `[B, H, W, C]`.
      scale: s, `[C]`, none of them 0 (`nonzero`). `outputs` are taken not to depend on it: the derivative by it is all
        told here.
      shift: what is added to each channel, `[C]`. Batch norm takes it out again, so that only the mean knows it, and
        the derivative by it is 0.
      gain: of batch norm, `[C]`.
      offset: of batch norm, `[C]`.
      epsilon: e, above 0.

    Returns:
      The normalised outputs, `[B, H, W, C]`, and mean and variance of the batch, `[C]`, as the kernel tells them: the
      variance is unbiased. Only the first of the three can be differentiated.
    """
    inputs = [tf.convert_to_tensor(each) for each in (outputs, scale, shift, gain, offset)]
    normalised, mean, variance = with_gradient("ScaledBatchNorm", functools.partial(_forwards, epsilon), *inputs)
    return normalised, mean + tf.cast(inputs[2], mean.dtype), variance


def _forwards(epsilon: float, outputs, scale, shift, gain, offset):
    made = fused_norm(outputs, gain, offset, epsilon)

    def differentiate(by_normalised: tf.Tensor, *by_moments: tf.Tensor) -> list[tf.Tensor]:
        del by_moments  # only batch norm's moving statistics, which nothing is differentiated by, read these
        by_outputs, by_gain, by_offset = made.back(by_normalised)
        by_scale = tf.cast(by_gain * gain * epsilon / (made.variance + epsilon), scale.dtype) / scale
        return [by_outputs, by_scale, tf.zeros_like(shift), by_gain, by_offset]

    return (made.outputs, made.mean, made.unbiased), differentiate
