"""Settings of what exemplars are learned for, beside the paper's own objective."""

from __future__ import annotations

import dataclasses

from mnemonics_tf import checks

OBJECTIVES = ("temporary_model", "next_phase", "matching")
GRADIENTS = ("none", "head", "block")


def num_pseudo_new(num_classes: int) -> int:
    """How many of the classes at hand, two or more, play new ones where nothing else is asked for: a fifth."""
    return max(1, num_classes // 5)


@dataclasses.dataclass(frozen=True)
class NextPhase:
    """The objective `next_phase`: exemplars are learned for a later phase, which each meta-step simulates.

    Some classes are drawn that play new ones; the others play old ones. The temporary model starts from the trained
    network, whose head's weights of the pseudo-new classes begin anew, imprinted or random as the base method has it.
    It is trained for `ExemplarLevel.inner_steps` steps by the base method's own loss, without the separated softmax and
    the adjusted logits that `Rehearsal` may add, with the trained network as the teacher: half of each inner batch are
    exemplars of pseudo-old classes, half real images of pseudo-new ones. Where weight transfer trains scale and shift
    on fixed kernels, these kernels are fixed here, too, and batch norm does what scale and shift would. The outer loss
    is cross-entropy on real images of all classes. Where classes are known from earlier phases, their exemplars stand
    for their images. Engine, T, batches, inner rate, momentum and batch norm are those of `ExemplarLevel`.

    Attributes:
      new_classes: how many classes play new ones. None by default: a fifth of the classes at hand, at least one.
      draws: draws of classes whose gradients are averaged in a meta-step; consecutive draws go round all classes. 1 by
        default, the cheapest: noise of drawn classes is also averaged by `ExemplarLevel.momentum` or Adam.
      paired: whether every epoch repeats the draws of the first one, classes and batches: then the meta-losses of two
        epochs differ by the exemplars alone. False by default: more draws fit the exemplars to more next phases.

    Raises:
      UsageError: a value is out of its range.
    """

    new_classes: int | None = None
    draws: int = 1
    paired: bool = False

    def __post_init__(self):
        if self.new_classes is not None:
            checks.check_positive_integer(**{"NextPhase.new_classes": self.new_classes})
        checks.check_positive_integer(**{"NextPhase.draws": self.draws})
        checks.check_bool(**{"NextPhase.paired": self.paired})

    def check_classes(self, num_classes: int) -> None:
        """Raises UsageError if among so many classes, learned together, none would be left to play an old one."""
        if self.new_classes is not None and num_classes <= self.new_classes:
            raise checks.UsageError(
                f"NextPhase.new_classes = {self.new_classes}: of {num_classes} classes that are learned together none "
                "is left to play an old one. Lower it, or leave it out for a fifth of them."
            )

    def num_new(self, num_classes: int) -> int:
        """How many of the classes at hand, two or more, play new ones; at least one is left."""
        return min(self.new_classes or num_pseudo_new(num_classes), num_classes - 1)


@dataclasses.dataclass(frozen=True)
class Matching:
    """The objective `matching`: what networks make of the exemplars of a class shall be what they make of its images.

    In each meta-step one of the networks that the phase's own training went through, perturbed, sees
    `ExemplarLevel.batch_size` real images of some classes and all exemplars of these, by the same
    `ExemplarLevel.augmentation`. The loss is, over stages of the network and its embedding, the mean of

        |mean of the class's images - mean of its exemplars|^2 / variance within classes

    which of n exemplars drawn at random is 1 / n on average, beside the noise of the real images. Only first
    derivatives are needed: a meta-step costs little more than a step of training. The engine has no effect; T, inner
    batches and inner rates have one with `later_phases` alone.

    Attributes:
      checkpoints: networks that are kept of the phase's training, after evenly spaced epochs, beside the trained one; 0
        for the trained network alone. 3 by default: networks that do not know the classes yet say most about them.
      later_phases: simulated later phases, as in `NextPhase`, that the trained network goes through on the initial
        exemplars, by `ExemplarLevel.inner_steps` steps of its temporary training each; the networks half-way and at the
        end are matched too, as to the classes that did not play new ones. 0 by default, the cheapest.
      perturbation: standard deviation of what is added to each kernel of the backbone, as a multiple of the root of
        its mean square; 0 for none. 0.05 by default, so that exemplars do not fit single networks.
      classes: classes in a meta-step; all, where there are fewer. 10 by default.
      spread_weight: weight of |v - v'|^2 / |v|^2 beside each distance above, with the variances v of real images about
        the mean of their class, of each number apart, and v' of exemplars about the same mean. 0 by default: means
        alone.
      gradients: which gradients of cross-entropy are matched too: of the `head`, of the last `block` and the head, or
        `none`. `none` by default: means are the cheapest.
      gradient_weight: weight of |g - g'|^2 / |g|^2, with the gradients g of real images and g' of exemplars, beside the
        loss above. 0.1 by default. Without effect where no gradients are matched.

    Raises:
      UsageError: a value is out of its range, or no such choice.
    """

    checkpoints: int = 3
    later_phases: int = 0
    perturbation: float = 0.05
    classes: int = 10
    spread_weight: float = 0.0
    gradients: str = "none"
    gradient_weight: float = 0.1

    def __post_init__(self):
        checks.check_non_negative_integer(**{"Matching.checkpoints": self.checkpoints})
        checks.check_non_negative_integer(**{"Matching.later_phases": self.later_phases})
        checks.check_non_negative(**{"Matching.perturbation": self.perturbation})
        checks.check_positive_integer(**{"Matching.classes": self.classes})
        checks.check_non_negative(**{"Matching.spread_weight": self.spread_weight})
        checks.check_choice("Matching.gradients", self.gradients, GRADIENTS)
        checks.check_positive(**{"Matching.gradient_weight": self.gradient_weight})

    def check_batches(self, batch_size: int) -> None:
        """Raises UsageError if batches of so many real images do not tell how the images of a class vary."""
        if batch_size < 2 * self.classes:
            raise checks.UsageError(
                f"Matching.classes = {self.classes} with ExemplarLevel.batch_size = {batch_size}: expected at least "
                "two real images of each class in a batch. Raise batch_size, or lower classes."
            )

    def epochs_kept(self, num_epochs: int) -> tuple[int, ...]:
        """After which epochs, counted from 1, a training of so many epochs keeps its network; the last is not among."""
        places = (round(num_epochs * (each + 1) / (self.checkpoints + 1)) for each in range(self.checkpoints))
        return tuple(sorted({max(1, place) for place in places} - {num_epochs}))
