"""iCaRL: "Incremental Classifier and Representation Learning" (Rebuffi et al., CVPR 2017)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs

TARGETS = ("softmax", "sigmoid")


@dataclasses.dataclass(frozen=True)
class ICaRL(LwF):
    """Learns as LwF does (Eq. 5), always with exemplars, and predicts by the nearest mean of exemplars.

    Attributes:
      classification_weight: lambda of Eq. 5, 0..1. 0.5 by default, as in Section 7.1 of the mnemonics paper.
      temperature: tau of the distillation, above 0. 2 by default, as in Section 7.1 of the mnemonics paper.
      targets: `softmax` for Eq. 5; `sigmoid` for the original's loss, a binary cross-entropy for each class, in which
        the teacher's answers are the targets of old classes and the labels those of new ones. `softmax` by default, as
        the mnemonics paper trains all methods. The exemplar level and balanced fine-tuning use softmax cross-entropy in
        both cases.

    Raises:
      UsageError: a value is out of its range, or `sigmoid` is set together with another lambda or tau, which that loss
        does not have.
    """

    targets: str = "softmax"

    name: ClassVar[str] = "icarl"
    primary_classifier: ClassVar[str] = "nme"
    needs_exemplars: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        checks.check_choice("icarl.targets", self.targets, TARGETS)
        mixed = (self.classification_weight, self.temperature) != (LwF.classification_weight, LwF.temperature)
        if self.targets == "sigmoid" and mixed:
            raise checks.UsageError(
                "icarl.targets = 'sigmoid': this loss has no classification_weight and no temperature. Leave them out."
            )

    @property
    def initial_training(self) -> str:
        return super().initial_training if self.targets == "softmax" else "binary_cross_entropy"

    @property
    def adjusts_logits(self) -> bool:
        return self.targets == "softmax"  # in the other loss classes do not compete

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        if self.targets == "softmax":
            return super().losses(outputs, teacher, labels, groups)
        targets = tf.one_hot(labels, groups.num_classes, dtype=outputs.logits.dtype)
        if teacher is not None:
            targets = tf.concat([tf.sigmoid(teacher.logits), targets[:, groups.num_old_classes :]], axis=1)
        values = losses.binary_cross_entropy(outputs.logits, targets)
        return {"binary_cross_entropy": runtime.global_mean(values)}
