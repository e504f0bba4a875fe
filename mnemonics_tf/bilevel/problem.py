"""What all engines share: the losses of the two levels, the result, and the checks of what comes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params

# Maps parameters, images `[B, H, W, C]` (or what stands for them) and labels to a scalar loss.
Loss: TypeAlias = Callable[[Sequence[tf.Tensor], tf.Tensor, tf.Tensor], tf.Tensor]


class MetaStep(NamedTuple):
    """What an engine works on; all of it checked.

    Attributes:
      params: theta_0.
      exemplars: normalised, `[n, H, W, C]`.
      labels: class indices `[n]` or soft labels `[n, K + M]`.
      plan: positions of each inner step's exemplars, `[T, b]`.
      outer_images: real images, normalised, `[B, H, W, C]`.
      outer_labels: class indices, `[B]`.
      rates: inner learning rates, `[T]`.
      learns_rates: whether the loss is differentiated with respect to the rates, too.
    """

    params: Params
    exemplars: tf.Tensor
    labels: tf.Tensor
    plan: np.ndarray
    outer_images: tf.Tensor
    outer_labels: tf.Tensor
    rates: tf.Tensor
    learns_rates: bool


class MetaGradient(NamedTuple):
    """Result of one meta-step.

    Attributes:
      loss: outer loss of the temporary model after T steps, a scalar.
      exemplars: its gradient with respect to the exemplars, `[n, H, W, C]`; zero for exemplars in no inner batch.
      labels: its gradient with respect to soft labels, `[n, K + M]`; None if labels are integers.
      rates: its gradient with respect to the inner learning rates, of the shape they were given in; None if none were.
      adjoint_norms: length of the adjoint of theta, from step T back to the first one that was differentiated,
        `[W + 1]`: how the gradient grows or fades on its way back. None from engines that do not walk back.
    """

    loss: tf.Tensor
    exemplars: tf.Tensor
    labels: tf.Tensor | None = None
    rates: tf.Tensor | None = None
    adjoint_norms: tf.Tensor | None = None


def check_exemplars(exemplars: tf.Tensor, labels: tf.Tensor, dtype: tf.DType) -> None:
    """Checks exemplars and labels before they are trained on.

    Args:
      exemplars: `[n, H, W, C]`.
      labels: class indices `[n]`, int64, or probabilities `[n, K + M]`, floating.
      dtype: of the parameters.

    Raises:
      ValueError: another dtype, NaN or infinite values, or labels of another number.
    """
    if not exemplars.shape[0]:
        raise ValueError("There are no exemplars: expected at least one.")
    if exemplars.dtype != dtype:
        raise ValueError(
            f"exemplars are {exemplars.dtype.name}: expected {dtype.name}, as the parameters are. Normalise images "
            "first (mnemonics_tf.data.pixels.normalise): integers have no gradient."
        )
    is_soft = labels.dtype.is_floating
    if is_soft and labels.dtype != dtype:
        raise ValueError(f"soft labels are {labels.dtype.name}: expected {dtype.name}, as the parameters are.")
    for name, tensor in (("exemplars", exemplars), *([("soft labels", labels)] if is_soft else [])):
        broken = tf.reduce_any(~tf.math.is_finite(tf.reshape(tensor, [tensor.shape[0], -1])), axis=1)
        if bool(tf.reduce_any(broken)):
            positions = [int(position) for position in tf.where(broken)[:5, 0]]
            raise ValueError(
                f"{name} hold NaN or infinite values (positions {positions}, at most five are listed): expected finite "
                "ones. Look for broken images, or lower the rate that moves them."
            )
    expected_rank = 2 if is_soft else 1
    if labels.shape.rank != expected_rank or labels.shape[0] != exemplars.shape[0]:
        raise ValueError(
            f"labels are {labels.dtype.name} of shape {tuple(labels.shape)} for {exemplars.shape[0]} exemplars: "
            "expected class indices [n] or probabilities [n, classes]."
        )


class UnconnectedError(ValueError):
    """A gradient is missing, as what is differentiated does not depend on it in a way TensorFlow can differentiate."""


def connected(gradients: Sequence[tf.Tensor | None], of: str, what: str) -> Params:
    """The gradients, none of which may be missing: reading a missing one as zero would hide a broken model.

    Raises:
      UnconnectedError: one is missing.
    """
    if any(gradient is None for gradient in gradients):
        raise UnconnectedError(
            f"The {of} does not depend on {what} in a way TensorFlow can differentiate. Leave parameters that play no "
            "part out, and use operations that have second derivatives."
        )
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def check_outer_batch(images: tf.Tensor, labels: tf.Tensor, exemplars: tf.Tensor) -> None:
    """Checks the real images that validate the temporary model.

    Raises:
      ValueError: another dtype or image shape than the exemplars', no images, or labels of another number.
    """
    expected = ("?", *exemplars.shape[1:])
    if images.dtype != exemplars.dtype or images.shape[1:] != exemplars.shape[1:] or not images.shape[0]:
        raise ValueError(
            f"outer_images are {images.dtype.name} of shape {tuple(images.shape)}: expected {exemplars.dtype.name} of "
            f"shape {expected}, as the exemplars are, and at least one."
        )
    if labels.shape[:1] != images.shape[:1]:
        raise ValueError(f"outer_labels have shape {tuple(labels.shape)} for {images.shape[0]} outer_images.")


def check_label_gradient(gradient: tf.Tensor) -> None:
    """Checks the gradient with respect to soft labels.

    Raises:
      ValueError: it is zero everywhere, which means that a loss cut it off.
    """
    # Of a single class the probability is always one.
    if gradient.shape[1] > 1 and not bool(tf.reduce_any(gradient != 0)):
        raise ValueError(
            "The gradient with respect to the soft labels is zero everywhere. tf.nn.softmax_cross_entropy_with_logits "
            "cuts it off in second derivatives: use mnemonics_tf.losses.cross_entropy, or tf.nn.log_softmax, in the "
            "inner loss."
        )
