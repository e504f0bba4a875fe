"""Settings of a stage that trains by stochastic gradient descent."""

from __future__ import annotations

import dataclasses

from mnemonics_tf import checks


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
