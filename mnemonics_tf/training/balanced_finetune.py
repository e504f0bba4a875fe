"""Balanced fine-tuning: the same number of exemplars of every class, new and old (line 18 of Algorithm 1)."""

from __future__ import annotations

import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.types import ClassGroups, LabelledImages
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.training.loop import BatchLosses, Trainer
from mnemonics_tf.training.settings import SGDSettings


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


def finetune_balanced(
    model: Classifier,
    batch_losses: BatchLosses,
    exemplars: LabelledImages,
    settings: SGDSettings,
    trainer: Trainer,
    seed: int,
    stage: str = "finetune_balanced",
) -> None:
    """Fine-tunes Θ_i in place on E_i and the adjusted E_{0:i-1}, or on some of them to probe them.

    Args:
      model: Θ_i, all of whose weights are trained, or those of the head.
      batch_losses: of `model`; batch norm keeps its statistics in them.
      exemplars: of all classes seen so far.
      settings: length and rates.
      trainer: trains it.
      seed: of this stage.
      stage: name in progress bars and TensorBoard.
    """
    trainer.fit(model, batch_losses, exemplars, settings, stage, seed)
