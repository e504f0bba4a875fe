"""Replay: plain fine-tuning on the new data and the exemplars."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs


@dataclasses.dataclass(frozen=True)
class Replay(Method):
    """Cross-entropy (Eq. 2) on new images and exemplars, without a teacher: what exemplars do by themselves."""

    name: ClassVar[str] = "replay"
    starts_by_cross_entropy: ClassVar[bool] = True
    takes_offsets: ClassVar[bool] = True
    distils: ClassVar[bool] = False

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.adjusted_logits, labels))}
