"""A base method of one's own: replay in which images of old classes count for more."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.methods.base import Method


@dataclasses.dataclass(frozen=True)
class WeightedReplay(Method):
    """Cross-entropy in which a rehearsed image counts `old_weight` times."""

    old_weight: float = 2.0

    name: ClassVar[str] = "weighted_replay"
    distils: ClassVar[bool] = False  # looks at no teacher, so none is run

    def __post_init__(self):
        checks.check_positive(**{"weighted_replay.old_weight": self.old_weight})

    def losses(self, outputs, teacher, labels, groups):
        weights = tf.where(labels < groups.num_old_classes, self.old_weight, 1.0)
        values = losses.cross_entropy(outputs.logits, labels)
        return {"cross_entropy": runtime.global_mean(weights * values)}
