"""Gradient, Hessian-vector product and mixed derivative of one inner step.

For g = grad_theta L(theta; E, y) and a vector p shaped as theta, both ways give H p and the vector-Jacobian products of
g with respect to E and y, (dg/dE)^T p and (dg/dy)^T p. They differ in what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.bilevel.problem import Loss, connected

_OF = "gradient of the inner loss"
_WHAT = "a parameter or the exemplars"


class SecondOrder(NamedTuple):
    """Derivatives at one step.

    Attributes:
      gradients: g.
      hessian_p: H p, shaped as theta.
      images: (dg/dE)^T p, `[b, H, W, C]`.
      labels: (dg/dy)^T p, `[b, K + M]`; None if labels are integers.
    """

    gradients: Params
    hessian_p: Params
    images: tf.Tensor
    labels: tf.Tensor | None


def second_order_of(
    gradients: Params, hessian_p: Sequence[tf.Tensor | None], mixed: Sequence[tf.Tensor | None]
) -> SecondOrder:
    """What was found at a step; `mixed` are derivatives by images and, where they are soft, by labels.

    Raises what `connected` raises for a derivative that is missing.
    """
    images, *labels = connected(mixed, _OF, _WHAT)
    return SecondOrder(gradients, connected(hessian_p, _OF, _WHAT), images, labels[0] if labels else None)


def gradients_of(loss: Loss, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor, of: str):
    """`(loss, grad_theta)`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        value = loss(params, images, labels)
    return value, connected(tape.gradient(value, params), of, "a parameter")


def reverse_over_reverse(
    loss: Loss, params: Sequence[tf.Tensor], p: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor
) -> SecondOrder:
    """Differentiates <g, p> by a second tape."""
    inputs = [images, labels] if labels.dtype.is_floating else [images]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([params, inputs])
        _, gradients = gradients_of(loss, params, images, labels, "inner loss")
        product = tf.add_n([tf.reduce_sum(g * part) for g, part in zip(gradients, p, strict=True)])
    return second_order_of(gradients, *tape.gradient(product, [params, inputs]))


def forward_over_reverse(
    loss: Loss, params: Sequence[tf.Tensor], p: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor
) -> SecondOrder:
    """Moves theta along p and watches the gradients: second derivatives are symmetric, so dL/dE gives (dg/dE)^T p."""
    inputs = [images, labels] if labels.dtype.is_floating else [images]
    with tf.autodiff.ForwardAccumulator(list(params), list(p)) as accumulator:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([params, inputs])
            value = loss(params, images, labels)
        gradients, by_input = tape.gradient(value, [params, inputs])
        gradients = connected(gradients, "inner loss", "a parameter")
        by_input = connected(by_input, "inner loss", "the exemplars")
    return second_order_of(gradients, accumulator.jvp(gradients), accumulator.jvp(by_input))
