"""What a network is fine-tuned by on exemplars: the losses of the method (line 18 of Algorithm 1), or cross-entropy."""

from __future__ import annotations

import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.training.loop import BatchLosses


def cross_entropy_of(model: Classifier, training: bool = False) -> BatchLosses:
    """Cross-entropy alone; with frozen batch norm, as in the temporary model, unless it is to be trained too."""

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(images, training=training).logits
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(logits, labels))}

    return batch_losses


def method_losses_of(
    method: Method, model: Classifier, teacher: Classifier | None, before: Classifier | None, groups: ClassGroups
) -> BatchLosses:
    """What the base method fine-tunes by, with frozen batch norm.

    Args:
      method: its losses.
      model: Θ_i.
      teacher: Θ_{i-1}, where the method looks at it.
      before: Θ_i as it is before fine-tuning, likewise.
      groups: classes of the phases so far.
    """

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        old, present = (None if other is None else other(images, training=False) for other in (teacher, before))
        return method.finetuning_losses(model(images, training=False), old, present, labels, groups)

    return batch_losses
