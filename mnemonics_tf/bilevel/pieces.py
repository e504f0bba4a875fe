"""Batches a piece at a time: the derivative of a mean is a mean of derivatives, and needs one piece's activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.bilevel.problem import Loss
from mnemonics_tf.bilevel.second_order import SecondOrder, gradients_of

# Of a piece and its share of the batch: tensors to be added up over pieces, and rows to be put one after the other.
_Derive: TypeAlias = Callable[[tf.Tensor, tf.Tensor, float], tuple[list[tf.Tensor], list[tf.Tensor]]]


def gradients_in_pieces(size: int | None) -> Callable[..., tuple[tf.Tensor, Params]]:
    """`gradients_of`, of at most `size` images at a time; of all at once for None."""

    def gradients(loss: Loss, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor, of: str):
        def derive(images, labels, share):
            value, by_param = gradients_of(scaled(loss, share), params, images, labels, of)
            return [value, *by_param], []

        zeros = [tf.zeros([], images.dtype), *(tf.zeros_like(param) for param in params)]
        (value, *by_param), _ = _in_pieces(size, images, labels, derive, zeros, [])
        return value, by_param

    return gradients


def second_order_in_pieces(second_order: Callable[..., SecondOrder], size: int | None) -> Callable[..., SecondOrder]:
    """`second_order`, of at most `size` images at a time; of all at once for None."""

    def derivatives(
        loss: Loss, params: Sequence[tf.Tensor], p: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor
    ) -> SecondOrder:
        def derive(images, labels, share):
            at = second_order(scaled(loss, share), params, p, images, labels)
            return [*at.gradients, *at.hessian_p], [at.images] if at.labels is None else [at.images, at.labels]

        zeros = [tf.zeros_like(param) for param in params] * 2
        like = [images, labels] if labels.dtype.is_floating else [images]
        sums, rows = _in_pieces(size, images, labels, derive, zeros, like)
        count = len(params)
        return SecondOrder(sums[:count], sums[count:], rows[0], rows[1] if len(rows) > 1 else None)

    return derivatives


def scaled(loss: Loss, share: tf.Tensor | float) -> Loss:
    """The part of a mean over the whole batch that a part of the batch contributes."""
    return lambda params, images, labels: share * loss(params, images, labels)


def _in_pieces(
    size: int | None,
    images: tf.Tensor,
    labels: tf.Tensor,
    derive: _Derive,
    zeros: list[tf.Tensor],
    like: list[tf.Tensor],
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """What `derive` makes of a whole batch; sums are shaped as `zeros`, rows as `like`."""
    count = images.shape[0]
    if size is None or count <= size:
        return derive(images, labels, 1.0)
    num_full, rest = divmod(count, size)

    def one(step, sums, rows):
        # The shape of a piece is known; a slice's is not.
        own_images, own_labels = (
            tf.ensure_shape(values[step * size : (step + 1) * size], [size, *values.shape[1:]])
            for values in (images, labels)
        )
        added, made = derive(own_images, own_labels, size / count)
        sums = [total + value for total, value in zip(sums, added, strict=True)]
        return step + 1, sums, [array.write(step, row) for array, row in zip(rows, made, strict=True)]

    rows = [tf.TensorArray(each.dtype, size=num_full, element_shape=[size, *each.shape[1:]]) for each in like]
    # In parallel they would need the memory of all.
    _, sums, rows = tf.while_loop(
        lambda step, *_: step < num_full, one, (tf.constant(0), zeros, rows), parallel_iterations=1
    )
    joined = [array.concat() for array in rows]
    if rest:
        added, made = derive(images[-rest:], labels[-rest:], rest / count)
        sums = [total + value for total, value in zip(sums, added, strict=True)]
        joined = [tf.concat(pair, axis=0) for pair in zip(joined, made, strict=True)]
    return sums, joined
