"""Balanced fine-tuning: the same number of exemplars of every class, new and old (line 18 of Algorithm 1)."""

from __future__ import annotations

import dataclasses

import gin
import tensorflow as tf

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.sgd import SGDSettings
from mnemonics_tf.types import LabelledImages


@gin.configurable
@dataclasses.dataclass(frozen=True)
class BalancedFinetune(SGDSettings):
    """The paper gives it the rates of the temporary model: 50 epochs of gradient descent at 0.01.

    Attributes:
      enabled: whether to fine-tune at all.
      initial_phase: whether to do so in phase 0 too, as Algorithm 1 has it, though nothing is out of balance there.
    """

    enabled: bool = True
    initial_phase: bool = True
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 0.01
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        checks.check_bool(
            **{"BalancedFinetune.enabled": self.enabled, "BalancedFinetune.initial_phase": self.initial_phase}
        )

    def applies_to(self, phase: int) -> bool:
        """Whether phase number `phase` is fine-tuned."""
        return self.enabled and (phase > 0 or self.initial_phase)


def finetune_balanced(
    model: Classifier,
    exemplars: LabelledImages,
    settings: SGDSettings,
    trainer: Trainer,
    seed: int,
    stage: str = "finetune_balanced",
) -> None:
    """Fine-tunes Θ_i in place by cross-entropy on E_i and the adjusted E_{0:i-1}, or on some of them to probe them.

    Batch norm keeps its statistics, as in the temporary model that the exemplars were optimised for.

    Args:
      model: Θ_i, all of whose weights are trained.
      exemplars: of all classes seen so far.
      settings: length and rates.
      trainer: trains it.
      seed: of this stage.
      stage: name in progress bars and TensorBoard.
    """

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(images, training=False).logits
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(logits, labels))}

    trainer.fit(model, batch_losses, exemplars, settings, stage, seed)
