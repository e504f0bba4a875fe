"""EEIL: "End-to-End Incremental Learning" (Castro et al., ECCV 2018)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.methods.gradient_noise import GradientNoise
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs


@dataclasses.dataclass(frozen=True)
class EEIL(Method):
    """Cross-entropy, and distillation for the classes of each earlier phase by themselves; then balanced fine-tuning.

        CE + sum over earlier phases of KD(logits of that phase's classes)

    The fine-tuning distils the classes of this phase, too, from the network as it was before it. A phase of one class
    has nothing to distil: the softmax of one logit is 1.

    Attributes:
      temperature: tau of the distillation, above 0. 2 by default, as for the other methods (Section 7.1 of the
        mnemonics paper).
      noise_scale: eta of the gradient noise at the model level, at least 0; its variance in step t is
        eta / (1 + t)^gamma. 0 by default, no noise, so that phase 0 is plain cross-entropy and can be shared with other
        methods; EEIL's paper has 0.3.
      noise_decay: gamma of the gradient noise, at least 0; without effect where there is none. 0.55 by default, as in
        EEIL's paper.

    Raises:
      UsageError: a value is out of its range.
    """

    temperature: float = 2.0
    noise_scale: float = 0.0
    noise_decay: float = 0.55

    name: ClassVar[str] = "eeil"
    starts_by_cross_entropy: ClassVar[bool] = True
    takes_offsets: ClassVar[bool] = True
    finetunes: ClassVar[bool] = True
    distils_in_finetuning: ClassVar[bool] = True

    def __post_init__(self):
        checks.check_positive(**{"eeil.temperature": self.temperature})
        checks.check_non_negative(**{"eeil.noise_scale": self.noise_scale, "eeil.noise_decay": self.noise_decay})

    @property
    def initial_training(self) -> str:
        return super().initial_training if self.gradient_noise is None else f"cross_entropy with {self.gradient_noise}"

    @property
    def gradient_noise(self) -> GradientNoise | None:
        return GradientNoise(self.noise_scale, self.noise_decay) if self.noise_scale else None

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        terms = {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.adjusted_logits, labels))}
        if teacher is not None:
            terms["distillation"] = self._distillation(outputs, teacher, groups.old_ranges)
        return terms

    def finetuning_losses(
        self,
        outputs: Outputs,
        teacher: Outputs | None,
        before: Outputs | None,
        labels: tf.Tensor,
        groups: ClassGroups,
    ) -> Losses:
        terms = self.losses(outputs, teacher, labels, groups)
        if before is not None:
            new = [(groups.num_old_classes, groups.num_classes)]
            terms["distillation_of_new"] = self._distillation(outputs, before, new)
        return terms

    def _distillation(self, outputs: Outputs, teacher: Outputs, ranges: list[tuple[int, int]]) -> tf.Tensor:
        values = [
            losses.distillation(outputs.logits[:, start:end], teacher.logits[:, start:end], self.temperature)
            for start, end in ranges
        ]
        return runtime.global_mean(tf.add_n(values))
