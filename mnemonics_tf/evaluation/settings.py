"""Settings of the evaluation: how exemplars are probed, and which classifiers there are."""

from __future__ import annotations

import dataclasses
import math

from mnemonics_tf import checks
from mnemonics_tf.training.settings import SGDSettings

CLASSIFIERS = ("cnn", "nme")  # the head, and the nearest mean of exemplars


@dataclasses.dataclass(frozen=True)
class Probe:
    """Length and rates of the probes.

    Attributes:
      enabled: whether runs probe the exemplars of each phase's new classes.
      repeats: trainings of each kind, with other batches (and other weights from scratch); the intervals need two.
      batch_size: exemplars in a step.
      epochs: of fine-tuning, by plain gradient descent with frozen batch norm and without augmentation.
      learning_rate: likewise.
      scratch_epochs: of training from scratch, with momentum 0.9 and the run's augmentation; 0 leaves that probe out,
        and so does a single class, which takes no training.
      scratch_learning_rate: likewise; a tenth of it in the last quarter.
    """

    enabled: bool = True
    repeats: int = 3
    batch_size: int = 128
    epochs: int = 5
    learning_rate: float = 0.01
    scratch_epochs: int = 40
    scratch_learning_rate: float = 0.05

    def __post_init__(self):
        checks.check_bool(**{"Probe.enabled": self.enabled})
        checks.check_positive_integer(
            **{"Probe.repeats": self.repeats, "Probe.batch_size": self.batch_size, "Probe.epochs": self.epochs}
        )
        checks.check_non_negative_integer(**{"Probe.scratch_epochs": self.scratch_epochs})
        checks.check_positive(
            **{"Probe.learning_rate": self.learning_rate, "Probe.scratch_learning_rate": self.scratch_learning_rate}
        )

    @property
    def finetuning(self) -> SGDSettings:
        """Of the fine-tuned probe."""
        return SGDSettings(self.epochs, self.batch_size, self.learning_rate, (), 0.1, 0.0, 0.0)

    @property
    def training(self) -> SGDSettings:
        """Of the probe from scratch."""
        milestone = math.ceil(self.scratch_epochs * 3 / 4)
        return SGDSettings(
            self.scratch_epochs, self.batch_size, self.scratch_learning_rate, (milestone,), 0.1, 0.9, 5e-4
        )
