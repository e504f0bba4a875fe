"""Cross-entropy beside knowledge distillation, which several methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs


def classify_and_distil(
    outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, share: float, temperature: float
) -> Losses:
    """The loss terms of `(1 - share) * CE + share * KD`: Eq. 5 with lambda = 1 - share.

    CE is the cross-entropy over all K + M classes (Eq. 2), KD the distillation of the classes that the teacher knows
    (Eq. 1). Without a teacher it is CE alone, with weight 1.

    Args:
      outputs: what the network in training says of the batch.
      teacher: what the network before this phase says of it; None for no distillation.
      labels: class indices, `[B]`.
      share: weight of distillation, 0..1.
      temperature: tau of the distillation, above 0.

    Returns:
      The weighted terms `cross_entropy` and, with a teacher, `distillation`.
    """
    cross_entropy = runtime.global_mean(losses.cross_entropy(outputs.adjusted_logits, labels))
    if teacher is None:
        return {"cross_entropy": cross_entropy}
    old_logits = outputs.logits[:, : teacher.logits.shape[1]]
    distillation = runtime.global_mean(losses.distillation(old_logits, teacher.logits, temperature))
    return {"cross_entropy": (1 - share) * cross_entropy, "distillation": share * distillation}


def share_of_old_classes(groups: ClassGroups) -> float:
    """K / (K + M), by which BiC and WA weight distillation: the more is known, the more there is to keep."""
    return groups.num_old_classes / groups.num_classes
