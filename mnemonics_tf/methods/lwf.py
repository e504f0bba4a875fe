"""LwF: "Learning without Forgetting" (Li and Hoiem), with exemplars as in the paper's tables, or without any."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mnemonics_tf import checks
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.methods.distilling import classify_and_distil
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs


@dataclasses.dataclass(frozen=True)
class LwF(Method):
    """Eq. 5: lambda * cross-entropy + (1 - lambda) * distillation on the K old logits.

    Cross-entropy is over all K + M classes, with exemplars and without, as class-incremental learning has it; the
    original, which is told the task, takes it over the new ones.

    Attributes:
      classification_weight: lambda, 0..1. 0.5 by default, as in Section 7.1 of the mnemonics paper.
      temperature: tau of the distillation, above 0. 2 by default, as in Section 7.1 of the mnemonics paper.

    Raises:
      UsageError: a value is out of its range.
    """

    classification_weight: float = 0.5
    temperature: float = 2.0

    name: ClassVar[str] = "lwf"
    starts_by_cross_entropy: ClassVar[bool] = True
    takes_offsets: ClassVar[bool] = True
    needs_exemplars: ClassVar[bool] = False

    def __post_init__(self):
        checks.check_share(**{f"{self.name}.classification_weight": self.classification_weight})
        checks.check_positive(**{f"{self.name}.temperature": self.temperature})

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        return classify_and_distil(outputs, teacher, labels, 1 - self.classification_weight, self.temperature)
