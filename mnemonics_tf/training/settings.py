"""Settings of the stages that train a network: the model level, and the balanced fine-tuning."""

from __future__ import annotations

import dataclasses

from mnemonics_tf import checks
from mnemonics_tf.models.choices import PRECISIONS, SCALE_FORMS

WEIGHT_TRANSFERS = ("none", *SCALE_FORMS)
TRAINED = ("all", "head")


@dataclasses.dataclass(frozen=True)
class SGDSettings:
    """Length, batch size and rates of a stage.

    Attributes:
      epochs: passes over the data.
      batch_size: images in a step, over all replicas.
      learning_rate: at the start.
      milestones: epochs after which the rate is multiplied by `decay`.
      decay: see milestones.
      momentum: 0 for plain gradient descent.
      weight_decay: L2 penalty, added to the gradient. Scale and shift of weight transfer have none: it would pull
        scales to 0, where the old network is at 1.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    milestones: tuple[int, ...]
    decay: float
    momentum: float
    weight_decay: float

    def __post_init__(self):
        prefix = type(self).__name__
        checks.check_positive_integer(
            **{f"{prefix}.epochs": self.epochs, f"{prefix}.batch_size": self.batch_size},
        )
        checks.check_positive(**{f"{prefix}.learning_rate": self.learning_rate, f"{prefix}.decay": self.decay})
        checks.check_fraction(**{f"{prefix}.momentum": self.momentum})
        checks.check_non_negative(**{f"{prefix}.weight_decay": self.weight_decay})
        if not isinstance(self.milestones, tuple | list):
            raise checks.UsageError(f"{prefix}.milestones = {self.milestones!r}: expected epochs, such as (80, 120).")
        for index, milestone in enumerate(self.milestones):
            checks.check_positive_integer(**{f"{prefix}.milestones[{index}]": milestone})
        if list(self.milestones) != sorted(set(self.milestones)):
            raise checks.UsageError(
                f"{prefix}.milestones = {self.milestones}: expected rising epochs, such as (80, 120)."
            )

    def learning_rate_at(self, epoch: int) -> float:
        """The rate of `epoch`, counted from 0."""
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * self.decay**passed


@dataclasses.dataclass(frozen=True)
class ModelLevel(SGDSettings):
    """Section 7.1 of the paper, for CIFAR-100.

    Attributes:
      weight_transfer: what phases after the first train: `none` trains every weight; `per_neuron` (Eq. 11) and
        `per_kernel` train scale and shift of frozen weights, batch norm and the head.
      distillation: whether the base method's losses look at the teacher (Table S1 of the paper).
      precision: what backbones compute in: `float32`, `bfloat16` or `float16` (whose gradients are scaled by what they
        bear). Weights, head and losses stay float32, and so does everything outside the model level.
    """

    epochs: int = 160
    batch_size: int = 128
    learning_rate: float = 0.1
    milestones: tuple[int, ...] = (80, 120)
    decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_transfer: str = dataclasses.field(default="per_neuron", metadata={"later_phases_only": True})
    distillation: bool = dataclasses.field(default=True, metadata={"later_phases_only": True})
    precision: str = "float32"

    def __post_init__(self):
        super().__post_init__()
        checks.check_choice("ModelLevel.weight_transfer", self.weight_transfer, WEIGHT_TRANSFERS)
        checks.check_bool(**{"ModelLevel.distillation": self.distillation})
        checks.check_choice("ModelLevel.precision", self.precision, PRECISIONS)

    @property
    def scale_form(self) -> str | None:
        """The form of scale and shift that the network must be built with."""
        return None if self.weight_transfer == "none" else self.weight_transfer


@dataclasses.dataclass(frozen=True)
class BalancedFinetune(SGDSettings):
    """The paper gives it the rates of the temporary model: 50 epochs of gradient descent at 0.01.

    Attributes:
      enabled: whether to fine-tune; None for what the base method does by itself (EEIL and PODNet do, after each later
        phase).
      trained: `all` weights, or the `head` alone.
      initial_phase: where it is enabled, whether phase 0 is fine-tuned too, as Algorithm 1 has it, though nothing is
        out of balance there.
    """

    enabled: bool | None = True
    trained: str = "all"
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
        if self.enabled is not None:
            checks.check_bool(**{"BalancedFinetune.enabled": self.enabled})
        checks.check_bool(**{"BalancedFinetune.initial_phase": self.initial_phase})
        checks.check_choice("BalancedFinetune.trained", self.trained, TRAINED)

    def applies_to(self, phase: int, by_method: bool) -> bool:
        """Whether phase number `phase` is fine-tuned; `by_method` tells whether the base method does so by itself."""
        if self.enabled is None:
            return by_method and phase > 0
        return self.enabled and (phase > 0 or self.initial_phase)
