"""Settings of the evaluation: how exemplars are probed, and which classifiers there are to predict by."""

from __future__ import annotations

import dataclasses
import math

from mnemonics_tf import checks
from mnemonics_tf.training.settings import SGDSettings

CLASSIFIERS = ("cnn", "nme")  # the head, and the nearest mean of exemplars


@dataclasses.dataclass(frozen=True)
class Probe:
    """How exemplars are probed: networks are trained on them alone and judged by held-out real images.

    One probe fine-tunes a copy of Θ_i, the other trains a network from scratch: see `mnemonics_tf.evaluation.probe`.
    The paper has no probes; where it has no number to follow, the default is this project's choice.

    Attributes:
      enabled: whether each phase of a run probes the exemplars of its new classes. True by default: a probe changes
        neither networks nor exemplars, and its trainings are short.
      repeats: how often each probe is trained, with other batches each time and, from scratch, other initial weights.
        3 by default: for the same spread, Student's t makes the intervals of 2 more than three times as wide. With 1
        there are none.
      batch_size: exemplars in a step of either probe, over all replicas. 128 by default, the batch of the model level.
      epochs: passes over the exemplars in the fine-tuned probe, which is plain gradient descent with frozen batch norm,
        without augmentation and weight decay. 5 by default, our choice: short enough to repeat in every phase.
      learning_rate: the constant rate of the fine-tuned probe. 0.01 by default, alpha_2 of the temporary model, which
        it imitates (Section 7.1).
      scratch_epochs: passes over the exemplars in the probe from scratch, which trains all weights with momentum 0.9,
        weight decay 5e-4 and the run's augmentation. 40 by default, our choice. 0 leaves this probe out; exemplars of
        a single class, which take no training to tell apart, are never probed so.
      scratch_learning_rate: the rate of the probe from scratch for the first three quarters of its epochs; in the last
        quarter it is a tenth. 0.05 by default, our choice: half of the model level's.

    Raises:
      UsageError: a value is out of its range.
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
        """Settings of the fine-tuned probe: plain gradient descent at a constant rate."""
        return SGDSettings(self.epochs, self.batch_size, self.learning_rate, (), 0.1, 0.0, 0.0)

    @property
    def training(self) -> SGDSettings:
        """Settings of the probe from scratch: momentum, weight decay, a tenth of the rate in the last quarter."""
        milestone = math.ceil(self.scratch_epochs * 3 / 4)
        return SGDSettings(
            self.scratch_epochs, self.batch_size, self.scratch_learning_rate, (milestone,), 0.1, 0.9, 5e-4
        )
