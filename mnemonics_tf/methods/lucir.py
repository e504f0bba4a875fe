"""LUCIR: "Learning a Unified Classifier Incrementally via Rebalancing" (Hou et al., CVPR 2019)."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import gin
import tensorflow as tf

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.models.classifier import Outputs


@gin.configurable("lucir")
@dataclasses.dataclass(frozen=True)
class LUCIR:
    """Cross-entropy, less-forget constraint and margin ranking on a cosine head.

    In a phase with K old and M new classes the loss is

        CE + less_forget_weight * sqrt(K / M) * (1 - cos(f, f*)) + margin_weight * ranking

    The head's weights of old classes stay fixed, those of new classes start from imprinting.

    Attributes:
      less_forget_weight: 5 for CIFAR-100, 10 for ImageNet; 0 leaves the term out.
      margin: m of the ranking term, in cosines.
      margin_weight: weight of the ranking term; 0 leaves it out.
      num_negatives: new classes that each rehearsed image is compared with.
      imprint_weights: start the head's new weights from the features of the new classes.
    """

    less_forget_weight: float = 5.0
    margin: float = 0.5
    margin_weight: float = 1.0
    num_negatives: int = 2
    imprint_weights: bool = True

    name: ClassVar[str] = "lucir"
    primary_classifier: ClassVar[str] = "cnn"
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

    def losses(
        self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, num_old_classes: int
    ) -> dict[str, tf.Tensor]:
        """The terms of a batch, weighted: their sum is the loss.

        Args:
          outputs: of the network in training.
          teacher: of the network before this phase; None in phase 0.
          labels: class indices, `[B]`.
          num_old_classes: K.

        Returns:
          Scalars by name, each this replica's share of the mean over the global batch.
        """
        terms = {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.logits, labels))}
        if teacher is None:
            return terms
        if self.less_forget_weight:
            num_new_classes = outputs.logits.shape[1] - num_old_classes
            weight = self.less_forget_weight * math.sqrt(num_old_classes / num_new_classes)
            turned = losses.less_forget(outputs.features, teacher.features)
            terms["less_forget"] = weight * runtime.global_mean(turned)
        if self.margin_weight:
            ranking = losses.margin_ranking(outputs.scores, labels, num_old_classes, self.margin, self.num_negatives)
            terms["margin_ranking"] = self.margin_weight * runtime.global_mean(ranking, labels < num_old_classes)
        return terms
