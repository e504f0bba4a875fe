"""LUCIR: "Learning a Unified Classifier Incrementally via Rebalancing" (Hou et al., CVPR 2019)."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs


@dataclasses.dataclass(frozen=True)
class LUCIR(Method):
    """Cross-entropy, less-forget constraint and margin ranking on a cosine head.

    In a phase with K old and M new classes the loss is

        CE + less_forget_weight * sqrt(K / M) * (1 - cos(f, f*)) + margin_weight * ranking

    The head's weights of old classes stay fixed, those of new classes start from imprinting. Without distillation the
    less-forget term goes and the ranking stays. With a linear head, scores are the cosines of features and weights.

    Attributes:
      less_forget_weight: weight of the less-forget term, before sqrt(K / M), at least 0; 0 leaves the term out. 5 by
        default, as LUCIR's paper has it for CIFAR-100; it has 10 for ImageNet.
      margin: m of the ranking term, in cosines, at least 0. 0.5 by default, as in LUCIR's paper.
      margin_weight: weight of the ranking term, at least 0; 0 leaves it out. 1 by default, as in LUCIR's paper.
      num_negatives: number of new classes, those with the highest scores, that each rehearsed image is compared with. 2
        by default, as in LUCIR's paper.
      imprint_weights: whether the head's weights of new classes start from the embeddings of their images rather than
        from random numbers. True by default, as in LUCIR's code.

    Raises:
      UsageError: a value is out of its range.
    """

    less_forget_weight: float = 5.0
    margin: float = 0.5
    margin_weight: float = 1.0
    num_negatives: int = 2
    imprint_weights: bool = True

    name: ClassVar[str] = "lucir"
    starts_by_cross_entropy: ClassVar[bool] = True
    takes_offsets: ClassVar[bool] = True
    trains_old_head: ClassVar[bool] = False

    def __post_init__(self):
        checks.check_non_negative(
            **{
                "lucir.less_forget_weight": self.less_forget_weight,
                "lucir.margin": self.margin,
                "lucir.margin_weight": self.margin_weight,
            }
        )
        checks.check_positive_integer(**{"lucir.num_negatives": self.num_negatives})
        checks.check_bool(**{"lucir.imprint_weights": self.imprint_weights})

    @property
    def imprints(self) -> bool:
        return self.imprint_weights

    @property
    def averages_images(self) -> bool:
        return not self.margin_weight  # the ranking is a mean over the rehearsed images of a batch

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        terms = {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.adjusted_logits, labels))}
        num_old_classes = groups.num_old_classes
        if self.less_forget_weight and teacher is not None:
            weight = self.less_forget_weight * math.sqrt(num_old_classes / groups.num_new_classes)
            turned = losses.less_forget(outputs.features, teacher.features)
            terms["less_forget"] = weight * runtime.global_mean(turned)
        if self.margin_weight and num_old_classes:
            ranking = losses.margin_ranking(outputs.scores, labels, num_old_classes, self.margin, self.num_negatives)
            terms["margin_ranking"] = self.margin_weight * runtime.global_mean(ranking, labels < num_old_classes)
        return terms
