"""Normalising by the moments of a batch, with first and second derivatives written down.

For x of N values a channel, mean m(x), r = 1 / sqrt(variance + epsilon) and x' = r (x - m(x)):

    y = gamma x' + beta

    P(c) = c - m(c) - x' m(c x')                              what is left of c beside constants and x'
    dL/dx = gamma r P(dy),  dL/dgamma = sum(dy x'),  dL/dbeta = sum(dy)

and with u, v, w the adjoints of these three, and K = m(u dy) - m(u) m(dy) - m(u x') m(dy x'):

    by dy:     gamma r P(u) + v x' + w
    by gamma:  r N K
    by x:      v r P(dy) - gamma r^2 (K x' + m(dy x') P(u) + m(u x') P(dy))

TensorFlow would get the same from elementary operations, in several times as many passes over the activations, most of
which it keeps. In single precision the kernel of its batch norm does what it can: y, and gamma r P with its two sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from mnemonics_tf.models.fused_norm import fused_norm
from mnemonics_tf.models.recorded import with_gradient

# Of c: gamma r P(c), sum(c x') and sum(c).
_Project = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


class _Normalised(NamedTuple):
    """y, the moments `[C]` it was made with, and what makes gamma r P of a tensor."""

    outputs: tf.Tensor
    mean: tf.Tensor
    inverse: tf.Tensor
    project: _Project


def normalised(inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Batch norm by the moments of the batch; right to second order.

    Args:
      inputs: `[..., C]`, floating.
      gamma: scale `[C]`, of the same dtype.
      beta: offset `[C]`, of the same dtype.
      epsilon: added to the variance.

    Returns:
      `gamma (inputs - mean) / sqrt(variance + epsilon) + beta`, shaped as the inputs.
    """
    # Single precision and images are what the kernel knows.
    by_kernel = inputs.dtype == tf.float32 and inputs.shape.rank == 4

    def forwards(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor):
        made = (_by_kernel if by_kernel else _by_operations)(x, gamma, beta, epsilon)
        return made.outputs, lambda upstream: _backwards(made, x, gamma, upstream)

    return with_gradient("BatchNormByMoments", forwards, inputs, gamma, beta)


def _backwards(
    made: _Normalised, x: tf.Tensor, gamma: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`dL/dx`, `dL/dgamma` and `dL/dbeta`, themselves with derivatives by all they depend on."""

    def backwards(x: tf.Tensor, gamma: tf.Tensor, dy: tf.Tensor):
        by_x, by_gamma, by_beta = made.project(dy)

        def second(u: tf.Tensor, v: tf.Tensor, w: tf.Tensor):
            return _second(made, x, gamma, dy, (by_gamma, by_beta), (u, v, w))

        return (by_x, by_gamma, by_beta), second

    return with_gradient("GradientOfBatchNormByMoments", backwards, x, gamma, upstream)


def _second(
    made: _Normalised,
    x: tf.Tensor,
    gamma: tf.Tensor,
    dy: tf.Tensor,
    sums: tuple[tf.Tensor, tf.Tensor],
    adjoints: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adjoints of x, gamma and dy; `sums` are sum(dy x') and sum(dy)."""
    u, v, w = adjoints
    mean, r = made.mean, made.inverse
    count = _count(x)
    projected, along_x, total = made.project(u)
    mean_u, mean_ux, mean_dyx, mean_dy = (each / count for each in (total, along_x, *sums))
    k = tf.reduce_sum(u * dy, _axes(x)) / count - mean_u * mean_dy - mean_ux * mean_dyx
    by_dy = projected + (x * (v * r) + (w - v * r * mean))
    # All of `by x` as one sum of x, u and dy, each times a number a channel.
    for_u, for_dy = -gamma * r**2 * mean_dyx, v * r - gamma * r**2 * mean_ux
    for_x = -r * (gamma * r**2 * k + for_u * mean_ux + for_dy * mean_dyx)
    constant = -for_u * mean_u - for_dy * mean_dy - for_x * mean
    by_x = tf.add_n([u * for_u, dy * for_dy, x * for_x + constant])
    return by_x, r * count * k, by_dy


def _by_kernel(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> _Normalised:
    made = fused_norm(x, gamma, beta, epsilon)
    return _Normalised(made.outputs, made.mean, tf.math.rsqrt(made.variance + epsilon), made.back)


def _by_operations(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> _Normalised:
    axes, count = _axes(x), _count(x)
    mean = tf.reduce_mean(x, axes)
    # Centred first: the mean of squares minus the square of the mean would lose digits.
    centred = x - mean
    r = tf.math.rsqrt(tf.reduce_mean(centred**2, axes) + epsilon)

    def project(c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        normal = (x - mean) * r
        along, total = tf.reduce_sum(c * normal, axes), tf.reduce_sum(c, axes)
        return (gamma * r) * (c - total / count - normal * (along / count)), along, total

    return _Normalised(centred * (r * gamma) + beta, mean, r, project)


def _axes(x: tf.Tensor) -> list[int]:
    return list(range(x.shape.rank - 1))


def _count(x: tf.Tensor) -> tf.Tensor:
    """N, the values a channel, of the dtype of x."""
    return tf.cast(tf.size(x) // tf.shape(x)[-1], x.dtype)
