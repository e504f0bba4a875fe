"""Settings of the stages that train a network: the model level, and the balanced fine-tuning."""

from __future__ import annotations

import dataclasses

from mnemonics_tf import checks
from mnemonics_tf.models.choices import PRECISIONS, SCALE_FORMS

WEIGHT_TRANSFERS = ("none", *SCALE_FORMS)
TRAINED = ("all", "head")
DISTILLED = ("none", "before", "teacher", "both")


@dataclasses.dataclass(frozen=True)
class SGDSettings:
    """Length, batch size and rates of a stage that trains a network by stochastic gradient descent (SGD).

    There are no defaults here: `ModelLevel` and `BalancedFinetune` have their own.

    Attributes:
      epochs: passes over the training images, at least 1.
      batch_size: images in a step, those of all replicas together.
      learning_rate: the rate of the first epoch, above 0. A step moves a weight by the rate times its gradient.
      milestones: rising numbers of epochs. After each of them the rate is multiplied by `decay`; none at all, `()`,
        keeps it constant. One that `epochs` does not exceed has no effect.
      decay: the factor, above 0, that the rate is multiplied by at each milestone.
      momentum: the share of the last step that is added to the next one, from 0 (plain gradient descent) up to, but not
        including, 1.
      weight_decay: `weight_decay * w` is added to the gradient of every trained weight w, that of batch norm included;
        0 for none. Scale and shift of weight transfer are left out: it would pull the scales to 0, and the network of
        the phase before has them at 1.

    Raises:
      UsageError: a value is out of its range.
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
        """The learning rate in epoch number `epoch`, counted from 0."""
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * self.decay**passed


@dataclasses.dataclass(frozen=True)
class ModelLevel(SGDSettings):
    """How the network of each phase is trained on new images and old exemplars (Eq. 5-6, or 12-14).

    The defaults are those of Section 7.1 of the paper for CIFAR-100; `configs/schedules/paper_imagenet.gin` has those
    for ImageNet.

    Attributes:
      epochs: passes over D_i and E_{0:i-1}. 160 by default, as in Section 7.1; 90 for ImageNet.
      batch_size: images in a step, those of all replicas together. 128 by default, as in LUCIR's code: the paper
        follows LUCIR and does not say.
      learning_rate: alpha_1, the rate of the first epoch. 0.1 by default, as in Section 7.1.
      milestones: numbers of epochs after which the rate is multiplied by `decay`. (80, 120) by default, as in
        Section 7.1; (30, 60) for ImageNet.
      decay: the factor of the rate at each milestone. 0.1 by default, as in Section 7.1.
      momentum: share of the last step that is added to the next one, see `SGDSettings`. 0.9 by default, as in
        Section 7.1.
      weight_decay: L2 penalty, see `SGDSettings`. 5e-4 by default, as in Section 7.1, there for ImageNet too, where
        LUCIR's code has 1e-4.
      weight_transfer: what phases after the first train. `none`: every weight. `per_neuron`: a scale and a shift for
        each neuron, on frozen weights (Eq. 11), besides batch norm and the head. `per_kernel`: the same with a scale
        for each pair of input and output channel. `per_neuron` by default, as in Section 7.1. It presumes a phase 0 of
        many classes: on five digits it costs accuracy (`docs/measured_facts.md`).
      distillation: whether the base method's losses look at the network before this phase, the teacher. True by
        default, as in the paper: LUCIR with mnemonics reaches 63.34 % with and 50.86 % without (Table S1, CIFAR-100,
        N = 5).
      precision: the numbers that the backbone computes with in this stage: `float32`, `bfloat16` or `float16`, where
        the loss is scaled so that small gradients do not vanish (`LossScale`). `float32` by default, which every device
        computes. Weights, head and losses are float32 in any case, and so is everything outside the model level.
      halve_if_diverged: whether a training whose loss becomes NaN or infinite begins anew, once, from the network of
        the phase before, at half the rate; `results.json` then says so in the phase's notes. False by default: the run
        stops, and says where.
      xla: whether XLA compiles the losses and gradients of a step. False by default: on CPUs it is slower (1.7 to 2.4
        times in what was measured), and what it does on GPUs was not measured. Results differ by rounding. Refused
        where several devices share a batch, as batch norm then has to wait for all of them.

    Raises:
      UsageError: a value is out of its range, or no such choice.
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
    halve_if_diverged: bool = False
    xla: bool = False

    def __post_init__(self):
        super().__post_init__()
        checks.check_bool(**{"ModelLevel.halve_if_diverged": self.halve_if_diverged, "ModelLevel.xla": self.xla})
        checks.check_choice("ModelLevel.weight_transfer", self.weight_transfer, WEIGHT_TRANSFERS)
        checks.check_bool(**{"ModelLevel.distillation": self.distillation})
        checks.check_choice("ModelLevel.precision", self.precision, PRECISIONS)

    def check_devices(self, num_replicas: int) -> None:
        """Raises UsageError unless so many devices can train like this."""
        if self.xla and num_replicas > 1:
            raise checks.UsageError(
                f"ModelLevel.xla = True with {num_replicas} devices: XLA cannot wait for what they tell one another. "
                "Leave it out, or set Devices.strategy = 'one_device'."
            )

    @property
    def scale_form(self) -> str | None:
        """The form of scale and shift that the network must be built with: `per_neuron`, `per_kernel`, or None."""
        return None if self.weight_transfer == "none" else self.weight_transfer


@dataclasses.dataclass(frozen=True)
class BalancedFinetune(SGDSettings):
    """How the trained network is fine-tuned on exemplars alone, of which each class has the same number, or nearly so.

    A budget in bytes holds more of the classes whose images are coded to fewer bytes, and a class with few images has
    no more exemplars than those.

    At the model level a new class has many images and an old one a few exemplars, such as 1,000 against 20, which
    biases the network; this takes the bias out (end of Section 4.3; line 18 of Algorithm 1). Batch norm stays frozen.
    The paper gives it the length and rate of the temporary model (Section 7.1): 50 epochs of plain gradient descent.

    Attributes:
      enabled: True or False: whether to fine-tune. None: as the base method does by itself, which is after each later
        phase for EEIL and PODNet, and never for this package's other methods. True by default, as in Algorithm 1.
      trained: which weights move: `all`, or those of the `head` alone. `all` by default: Algorithm 1 fine-tunes all of
        Θ_i. PODNet's configuration has `head`.
      initial_phase: whether phase 0 is fine-tuned too, where `enabled` is True. True by default, as in Algorithm 1,
        though nothing is out of balance there.
      distil_from: whose answers are soft targets of later phases, beside the method's loss: `before`, the network as it
        was before fine-tuning, of all classes; `teacher`, the network of the phase before, of the classes it knows;
        `both`; or `none`, the default, as in the paper. Refused for methods that distil there by themselves (EEIL), and
        with `ModelLevel.distillation = False`.
      distillation_weight: weight of that distillation, above 0; with `both`, of each. The method's loss has weight 1. 1
        by default. Without effect where `distil_from` is `none`.
      temperature: tau of that distillation, above 0. 2 by default, as at the model level.
      epochs: passes over the exemplars of all classes. 50 by default, as in Section 7.1.
      batch_size: exemplars in a step, over all replicas. 128 by default, the batch of the model level: the paper does
        not say.
      learning_rate: the rate of the first epoch. 0.01 by default, alpha_2 of Section 7.1.
      milestones: numbers of epochs after which the rate is multiplied by `decay`. `()` by default, a constant rate: the
        paper names a single one.
      decay: the factor of the rate at each milestone; without effect by default, as there are none. 0.1 by default, as
        at the model level.
      momentum: share of the last step that is added to the next one, see `SGDSettings`. 0 by default: the paper has
        plain gradient descent here (Section 7.1).
      weight_decay: L2 penalty, see `SGDSettings`. 0 by default: Eq. 8, whose settings these are, has none.

    Raises:
      UsageError: a value is out of its range, or no such choice.
    """

    enabled: bool | None = True
    trained: str = "all"
    initial_phase: bool = True
    distil_from: str = "none"
    distillation_weight: float = 1.0
    temperature: float = 2.0
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
        checks.check_choice("BalancedFinetune.distil_from", self.distil_from, DISTILLED)
        checks.check_positive(
            **{
                "BalancedFinetune.distillation_weight": self.distillation_weight,
                "BalancedFinetune.temperature": self.temperature,
            }
        )

    def applies_to(self, phase: int, by_method: bool) -> bool:
        """Whether a phase is fine-tuned.

        Args:
          phase: number of the phase, 0 for the initial one.
          by_method: whether fine-tuning belongs to the base method (`Method.finetunes`); it counts where `enabled` is
            None, and then phase 0 is left out.
        """
        if self.enabled is None:
            return by_method and phase > 0
        return self.enabled and (phase > 0 or self.initial_phase)
