"""How memory is used in phases after the first: batches, losses, rates, weights. All of it is off by default."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.mixing import Mixture, check_share
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.system.lazy import tf
from mnemonics_tf.training.settings import SGDSettings

SCHEDULES = ("milestones", "cosine")
AUGMENTED = ("none", "exemplars", "all")

# Added to a logit it makes a probability of exactly 0, and is still a number.
_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """How the network of a later phase is trained on new images beside memory. Phase 0 stays as it is.

    *Memory* means here all training images of classes of earlier phases: the exemplars and, where more images of known
    classes arrive beside new ones, those too. Where no class is new, nothing tells memory from what arrives, and the
    settings that do are off: batches are plain. Every setting works with every base method, unless it says otherwise.
    The defaults are those of the paper: every image once an epoch, losses as the base method has them, rates as in
    phase 0.

    Attributes:
      memory_share: the share of memory images in each batch, above 0 and below 1, rounded to whole images; 0, the
        default, for batches in which every image comes once an epoch. The number of steps stays what it is without the
        setting, epochs * ceil((images of D_i and E_{0:i-1}) / batch_size), and every batch is full: the more often
        memory comes, the fewer times new images do. Images of a kind come equally often (up to one time).
      separated_softmax: whether cross-entropy of new images is over the M new classes alone, that of memory over all
        K + M. False by default. Refused where M is 1: over one class it says nothing.
      logit_adjustment: strength a of balanced softmax, at least 0: cross-entropy is of logits + a * log(n), with n the
        number of times that images of a class come in a step on average, `memory_share` included. A class that never
        comes counts as having a single exemplar. Predictions are by logits alone. 1 takes the class counts out
        in theory; 0, the default, leaves logits as they are. Of PODNet it adjusts NCA, in which it acts as in a
        softmax. Refused for iCaRL's `sigmoid`, whose classes do not compete.
      learning_rate: the rate of the first epoch; None, the default, for `ModelLevel.learning_rate`.
      schedule: `milestones`, the default, as `ModelLevel.milestones` and `.decay` say; or `cosine`, half a period from
        the first rate towards 0: rate * (1 + cos(pi * epoch / epochs)) / 2 in epoch 0, 1, ...
      augment: which images get colour jitter and cutout (`data.jitter`) after the data set's own augmentation: `none`,
        the default, `exemplars` (all memory) or `all`.
      weight_average: decay d of an exponential mean of the weights, from 0 up to, but not including, 1. The network of
        the phase gets the mean over its steps s = 1..T with weights proportional to d^(T - s), the running statistics
        of batch norm included, which then belong to a network near the mean. 0, the default, keeps the last weights.
      steps_per_epoch: steps of an epoch with `memory_share`, so that memories of different numbers of images are
        trained on for equally long. None by default: as many as without the setting.

    Raises:
      UsageError: a value is out of its range, or no such choice.
    """

    memory_share: float = 0.0
    separated_softmax: bool = False
    logit_adjustment: float = 0.0
    learning_rate: float | None = None
    schedule: str = "milestones"
    augment: str = "none"
    weight_average: float = 0.0
    steps_per_epoch: int | None = None

    def __post_init__(self):
        checks.check_fraction(**{"Rehearsal.memory_share": self.memory_share})
        if self.steps_per_epoch is not None:
            checks.check_positive_integer(**{"Rehearsal.steps_per_epoch": self.steps_per_epoch})
            if not self.memory_share:
                raise checks.UsageError(
                    f"Rehearsal.steps_per_epoch = {self.steps_per_epoch}: with memory_share = 0 every image comes once "
                    "an epoch, which gives the number of steps. Set memory_share, or leave it out."
                )
        checks.check_bool(**{"Rehearsal.separated_softmax": self.separated_softmax})
        checks.check_non_negative(**{"Rehearsal.logit_adjustment": self.logit_adjustment})
        if self.learning_rate is not None:
            checks.check_positive(**{"Rehearsal.learning_rate": self.learning_rate})
        checks.check_choice("Rehearsal.schedule", self.schedule, SCHEDULES)
        checks.check_choice("Rehearsal.augment", self.augment, AUGMENTED)
        checks.check_fraction(**{"Rehearsal.weight_average": self.weight_average})

    @property
    def shifts_logits(self) -> bool:
        """Whether the method's classification loss is of other logits than the network's."""
        return bool(self.separated_softmax or self.logit_adjustment)

    @property
    def of_memory(self) -> list[str]:
        """Names of the settings that are switched on and tell memory from new images."""
        names = ["memory_share"] if self.memory_share else []
        names += ["separated_softmax"] if self.separated_softmax else []
        names += ["logit_adjustment"] if self.logit_adjustment else []
        return names + (["augment"] if self.augment == "exemplars" else [])

    def without_new_classes(self) -> Rehearsal:
        """The same for a phase that brings no class, in which nothing is told to be memory."""
        augment = self.augment if self.augment == "all" else "none"
        return dataclasses.replace(
            self, memory_share=0.0, steps_per_epoch=None, separated_softmax=False, augment=augment
        )

    def check_batches(self, batch_size: int) -> None:
        """Raises UsageError if batches of `batch_size` images have no place for the share of memory, or for others."""
        if self.memory_share:
            check_share("Rehearsal.memory_share", self.memory_share, batch_size)

    def check_new_classes(self, num_new: int) -> None:
        """Raises UsageError if a later phase that brings so many classes cannot learn them."""
        if self.separated_softmax and num_new == 1:
            raise checks.UsageError(
                "Rehearsal.separated_softmax = True: a phase brings one class, and cross-entropy over the new classes "
                "alone, of which there is one, says nothing. Set it to False, or let two classes or more come at once."
            )

    def first_rate(self, level: SGDSettings) -> float:
        """The learning rate of a later phase in its first epoch, of a level with such settings."""
        return level.learning_rate if self.learning_rate is None else self.learning_rate

    def halved(self) -> Rehearsal:
        """The same at half the rate, where it has a rate of its own."""
        return self if self.learning_rate is None else dataclasses.replace(self, learning_rate=self.learning_rate / 2)

    def learning_rate_at(self, epoch: int, level: SGDSettings) -> float:
        """The learning rate of a later phase in epoch number `epoch`, counted from 0, of a level with such settings."""
        first = self.first_rate(level)
        if self.schedule == "cosine":
            return first * (1 + math.cos(math.pi * epoch / level.epochs)) / 2
        return dataclasses.replace(level, learning_rate=first).learning_rate_at(epoch)


@dataclasses.dataclass(frozen=True)
class PhaseRehearsal:
    """What `Rehearsal` comes to in one later phase, whose training images are known.

    Attributes:
      settings: how memory is used.
      labels: class index of each training image, `[n]`.
      groups: how many classes each phase so far has brought.
    """

    settings: Rehearsal
    labels: np.ndarray
    groups: ClassGroups

    @property
    def mixture(self) -> Mixture:
        """How batches are put together."""
        settings = self.settings
        return Mixture(self.labels < self.groups.num_old_classes, settings.memory_share, settings.steps_per_epoch)

    @property
    def jittered(self) -> np.ndarray | None:
        """Which training images are augmented more strongly, `[n]` bool; None for none of them."""
        if self.settings.augment == "none":
            return None
        return self.mixture.is_memory | (self.settings.augment == "all")

    def offsets(self, batch_size: int) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """What is added to logits in cross-entropy: a function of labels `[B]` that returns `[B, K + M]` float32.

        None where nothing is: neither `separated_softmax` nor `logit_adjustment` is on. Where there are no old classes
        but more images of known ones, `logit_adjustment` alone has something to do.

        Args:
          batch_size: images in a step.
        """
        old = self.groups.num_old_classes
        if not self.settings.shifts_logits or not (old or self.settings.logit_adjustment):
            return None
        priors = self.settings.logit_adjustment * self._log_counts(batch_size)
        separated = np.where(np.arange(self.groups.num_classes) < old, _NEVER, priors)
        of_new = separated if self.settings.separated_softmax else priors
        rows = np.stack([priors, of_new]).astype(np.float32)
        return lambda labels: tf.gather(tf.constant(rows), tf.cast(labels >= old, tf.int32))

    def _log_counts(self, batch_size: int) -> np.ndarray:
        """log of how often each class comes, `[K + M]`; 0 for the class that comes most."""
        draws = self.mixture.draws(batch_size)
        counts = np.bincount(self.labels, weights=draws, minlength=self.groups.num_classes)
        is_memory = self.mixture.is_memory
        single = draws[is_memory].min() if is_memory.any() else draws.min()
        counts = np.where(counts > 0, counts, single)
        return np.log(counts / counts.max())
