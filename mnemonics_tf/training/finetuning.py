"""Losses for training on exemplars alone: those of the method (line 18 of Algorithm 1), or cross-entropy (probes)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.folding import Inference
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


@dataclasses.dataclass(frozen=True)
class SoftTargets:
    """Networks whose answers a network learns from, besides labels.

    Attributes:
      networks: each tells about the classes that it knows, the first of the network's; none of them is changed.
      weight: of the distillation from each.
      temperature: tau of the distillation, above 0.
    """

    networks: tuple[Inference, ...]
    weight: float
    temperature: float

    def loss(self, images: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """This replica's share of the weighted distillation of logits `[B, K + M]`, a scalar."""
        values = []
        for network in self.networks:
            told = network(images).logits
            values.append(losses.distillation(logits[:, : told.shape[1]], told, self.temperature))
        return self.weight * runtime.global_mean(tf.add_n(values))


def method_losses_of(
    method: Method,
    model: Classifier,
    teacher: Inference | None,
    before: Inference | None,
    groups: ClassGroups,
    soft_targets: SoftTargets | None = None,
) -> BatchLosses:
    """Losses of a batch in balanced fine-tuning: the method's own, of networks with frozen batch norm.

    Args:
      method: the base method, whose `finetuning_losses` are used.
      model: Θ_i, which is trained.
      teacher: Θ_{i-1}; None if the method does not look at it.
      before: a copy of Θ_i as it was before fine-tuning; None if the method does not look at it.
      groups: how many classes each phase so far has brought.
      soft_targets: networks to learn from besides; None for none.

    Returns:
      A function of images and labels that names the losses.
    """

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        old, present = (None if other is None else other(images) for other in (teacher, before))
        outputs = model(images, training=False)
        terms = method.finetuning_losses(outputs, old, present, labels, groups)
        if soft_targets is not None:
            terms = {**terms, "soft_targets": soft_targets.loss(images, outputs.logits)}
        return terms

    return batch_losses
