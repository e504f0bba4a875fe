"""WA: "Maintaining Discrimination and Fairness in Class Incremental Learning" (Zhao et al., CVPR 2020)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.types import ClassGroups, LabelledImages
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.methods.distilling import classify_and_distil, share_of_old_classes
from mnemonics_tf.system.lazy import keras, tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Classifier, Outputs
    from mnemonics_tf.models.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class WA(Method):
    """Distillation weighted by K / (K + M), and then weight aligning of a linear head.

    The loss is M / (K + M) CE + K / (K + M) KD, as in BiC's stage 1. Aligning scales the weights of the new classes so
    that their mean norm is that of the old classes' weights. A head by cosines knows no norms, and cannot be aligned.
    Biases stay as they are; weights are not clipped to be positive. Balanced fine-tuning, where it is switched on,
    comes later and goes on from the aligned head.

    Attributes:
      temperature: tau of the distillation, above 0. 2 by default, as for the other methods (Section 7.1 of the
        mnemonics paper).

    Raises:
      UsageError: the value is out of its range.
    """

    temperature: float = 2.0

    name: ClassVar[str] = "wa"
    starts_by_cross_entropy: ClassVar[bool] = True
    takes_offsets: ClassVar[bool] = True
    head: ClassVar[str] = "linear"
    heads: ClassVar[tuple[str, ...]] = ("linear",)

    def __post_init__(self):
        checks.check_positive(**{"wa.temperature": self.temperature})

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        return classify_and_distil(outputs, teacher, labels, share_of_old_classes(groups), self.temperature)

    def complete(
        self, model: Classifier, predictor: Predictor, held_out: LabelledImages | None, groups: ClassGroups
    ) -> None:
        """Weight aligning: w_new <- w_new * (mean norm of old weights) / (mean norm of new weights), in place."""
        old, new = (keras.ops.convert_to_numpy(weight) for weight in (model.head.old_kernel, model.head.new_kernel))
        gamma = np.linalg.norm(old, axis=0).mean() / np.linalg.norm(new, axis=0).mean()
        model.head.new_kernel.assign(gamma * new)
