"""Losses for training on exemplars alone: those of the method (line 18 of Algorithm 1), or cross-entropy (probes)."""

from __future__ import annotations

import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.training.loop import BatchLosses


def cross_entropy_of(model: Classifier, training: bool = False) -> BatchLosses:
    """Losses of a batch that are cross-entropy alone (Eq. 2), averaged over the global batch.

    Args:
      model: the network that is trained.
      training: whether batch norm uses the statistics of the batch and learns. False by default: it stays frozen, as in
        the temporary model.

    Returns:
      A function of images and labels that names one loss, `cross_entropy`.
    """

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(images, training=training).logits
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(logits, labels))}

    return batch_losses


def method_losses_of(
    method: Method, model: Classifier, teacher: Classifier | None, before: Classifier | None, groups: ClassGroups
) -> BatchLosses:
    """Losses of a batch in balanced fine-tuning: the method's own, of networks with frozen batch norm.

    Args:
      method: the base method, whose `finetuning_losses` are used.
      model: Θ_i, which is trained.
      teacher: Θ_{i-1}; None if the method does not look at it.
      before: a copy of Θ_i as it was before fine-tuning; None if the method does not look at it.
      groups: how many classes each phase so far has brought.

    Returns:
      A function of images and labels that names the losses.
    """

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        old, present = (None if other is None else other(images, training=False) for other in (teacher, before))
        return method.finetuning_losses(model(images, training=False), old, present, labels, groups)

    return batch_losses
