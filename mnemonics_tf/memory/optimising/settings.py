"""Settings of the exemplar level."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.kinds import Engine, engine_of
from mnemonics_tf.data.batches import num_batches
from mnemonics_tf.memory.optimising.augmentation import AUGMENTATIONS
from mnemonics_tf.memory.optimising.chunks import class_chunks
from mnemonics_tf.memory.optimising.objective_settings import OBJECTIVES
from mnemonics_tf.models.choices import BATCH_NORMS

if TYPE_CHECKING:
    from mnemonics_tf.memory.settings import Memory

LEARNED_RATES = ("none", "shared", "per_step")
OPTIMISERS = ("sgd", "adam")


@dataclasses.dataclass(frozen=True)
class ExemplarLevel:
    """Section 7.1 of the paper, and what goes beyond it. An epoch is a pass over the data that validates.

    Attributes:
      objective: what new exemplars are learned for: `temporary_model`, Eq. 7-9; `next_phase`, a simulated later phase
        (see `NextPhase`); or `matching`, statistics of real images over the phase's training (see `Matching`).
        `temporary_model` by default, as in the paper. Old exemplars are adjusted by Eq. 10 in any case, as their real
        images are gone.
      engine: how the gradient through the temporary training is computed: a name (see `mnemonics_tf.bilevel.kinds`) or
        an object such as `Truncated(window=10)`. `adjoint` by default: exact, with memory that hardly grows with T. For
        `prototype` inner_steps and inner_batch_size say no more than which exemplars are used.
      window: the last steps that `truncated` differentiates; it then draws T from window to inner_steps in each
        meta-step. None by default, as no other engine has one.
      checkpoint_every: keep the temporary model of every k-th step only, at the price of one more training. None by
        default: keeping all is the fastest, and a copy of ResNet-32 is 2 MB.
      images_at_once: images of a batch that are worked on together while the rest waits; gradients add up. It bounds
        the memory for activations and changes no result. None by default: whole batches are the fastest.
      keep_activations: the last inner steps whose activations `adjoint` and `truncated` keep for the way back: up to a
        fifth faster where it is inner_steps, and memory grows with it (about 0.1 GB a step for ResNet-20 and 64 images
        of 32 x 32). None by default: memory that hardly grows with T. Results stay the same but for rounding.
      batch_norm: of the temporary model: `frozen` statistics, or those of each `batch`. `frozen` by default: a batch of
        few exemplars has poor statistics, and frozen ones fold into the convolutions, which is faster. `batch` is for
        one device: several share a batch, and each would see the statistics of its part.
      epochs: passes of optimising new exemplars on D_i, and each part of the old ones on its complement. 50 by default,
        as in Section 7.1.
      adjust_epochs: passes of optimising each part of the old ones, where they differ from those of new ones. None by
        default: as many.
      steps_per_epoch: the most meta-steps in an epoch of a chunk. None by default: the whole pass over the data.
      classes_per_chunk: classes whose exemplars are optimised together; only one chunk at a time has image-size
        variables. None by default: all classes, as in the paper.
      learning_rate: beta_1, of new exemplars' pixels. 0.01 by default, as in Section 7.1.
      adjust_learning_rate: beta_2, of old exemplars' pixels. 0.01 by default, as in Section 7.1.
      halve_every: epochs after which both rates are halved. 10 by default, as in Section 7.1.
      optimiser: how pixels follow their gradient: `sgd`, or `adam`, whose rates say how far a normalised pixel moves in
        a step (0.01 is 0.7 grey levels where their standard deviation is 0.27). `sgd` by default, as in the paper.
      momentum: of `sgd`, which averages the noise of meta-steps. 0 by default, as in the paper.
      real_share: share of the exemplars of each class that stay real images, every second one for 0.5, beginning with
        the most important. Where more images of a known class arrive, what is kept of it is chosen among as it is: one
        that was learned before then counts as real if it stands in such a place. 0 by default: the paper learns all.
      project_every: meta-steps after which the exemplars are rounded and coded anew as they will be kept; in between,
        what this took away from them is taken away from all that networks see, while gradients pass (straight-through).
        None by default: pixels are learned as floats, and rounded and coded once, at the end.
      clip_norm: the longest gradient of pixels, as a multiple of the running mean of its length. None by default: the
        paper knows no limit.
      batch_size: images that validate the temporary model in a meta-step. 128 by default, the batch of the model
        level.
      inner_steps: T, gradient steps of the temporary model. 50 by default, which is what 50 epochs are while exemplars
        fit into one inner batch.
      inner_batch_size: exemplars in each inner step; all, where there are fewer. 128 by default, as `batch_size`.
      inner_learning_rate: alpha_2, of the temporary model. 0.01 by default, as in Section 7.1.
      inner_momentum: momentum of the temporary model's training. 0 by default: Eq. 8 is plain gradient descent.
      inner_weight_decay: L2 penalty of the temporary model's training. 0 by default: Eq. 8 has none.
      learned_rates: `shared` learns one inner rate, `per_step` one a step, `none` keeps alpha_2. `none` by default, as
        in the paper.
      rates_learning_rate: of the logarithm of the inner rates. 0.1 by default: a gradient of 1 changes a rate by 10 %.
      learn_labels: whether soft labels are learned, too; the balanced fine-tuning uses them. False by default, as in
        the paper.
      labels_learning_rate: of the soft labels' logits. 1 by default, chosen by us: the paper learns no labels.
      augmentation: any of `flip`, `crop`, `colour`, drawn once a meta-step for exemplars and validation images alike.
        None of them by default, as in the paper.
      num_parts: parts in which every old class's exemplars are split for adjusting, each optimised on the others. 2 by
        default, as in Eq. 10.
    """

    objective: str = "temporary_model"
    engine: str | Engine = "adjoint"
    window: int | None = None
    checkpoint_every: int | None = None
    images_at_once: int | None = None
    keep_activations: int | None = None
    batch_norm: str = "frozen"
    epochs: int = 50
    adjust_epochs: int | None = None
    steps_per_epoch: int | None = None
    classes_per_chunk: int | None = None
    learning_rate: float = 0.01
    adjust_learning_rate: float = 0.01
    halve_every: int = 10
    optimiser: str = "sgd"
    momentum: float = 0.0
    real_share: float = 0.0
    project_every: int | None = None
    clip_norm: float | None = None
    batch_size: int = 128
    inner_steps: int = 50
    inner_batch_size: int = 128
    inner_learning_rate: float = 0.01
    inner_momentum: float = 0.0
    inner_weight_decay: float = 0.0
    learned_rates: str = "none"
    rates_learning_rate: float = 0.1
    learn_labels: bool = False
    labels_learning_rate: float = 1.0
    augmentation: tuple[str, ...] = ()
    num_parts: int = 2

    def __post_init__(self):
        counts = ("epochs", "halve_every", "batch_size", "inner_steps", "inner_batch_size", "num_parts")
        optional_counts: tuple[str, ...] = (
            "steps_per_epoch",
            "classes_per_chunk",
            "window",
            "checkpoint_every",
            "images_at_once",
            "keep_activations",
        )
        optional_counts += ("project_every", "adjust_epochs")
        rates = ("learning_rate", "adjust_learning_rate", "rates_learning_rate", "labels_learning_rate")
        checks.check_positive_integer(
            **self._named(*counts), **{k: v for k, v in self._named(*optional_counts).items() if v is not None}
        )
        checks.check_positive(**self._named(*rates, "inner_learning_rate"))
        checks.check_fraction(**self._named("inner_momentum", "momentum", "real_share"))
        checks.check_choice("ExemplarLevel.objective", self.objective, OBJECTIVES)
        checks.check_choice("ExemplarLevel.optimiser", self.optimiser, OPTIMISERS)
        checks.check_non_negative(**self._named("inner_weight_decay"))
        checks.check_bool(**self._named("learn_labels"))
        checks.check_choice("ExemplarLevel.batch_norm", self.batch_norm, BATCH_NORMS)
        checks.check_choice("ExemplarLevel.learned_rates", self.learned_rates, LEARNED_RATES)
        if self.clip_norm is not None:
            checks.check_positive(**self._named("clip_norm"))
        if not isinstance(self.augmentation, tuple | list):
            raise checks.UsageError(f"ExemplarLevel.augmentation = {self.augmentation!r}: expected a tuple of names.")
        for kind in self.augmentation:
            checks.check_choice("ExemplarLevel.augmentation", kind, AUGMENTATIONS)
        self._check_engine()
        self._check_objective()
        if self.num_parts < 2:
            raise checks.UsageError(f"ExemplarLevel.num_parts = {self.num_parts}: expected at least 2.")

    def _named(self, *names: str) -> dict[str, Any]:
        return {f"ExemplarLevel.{name}": getattr(self, name) for name in names}

    def _check_engine(self) -> None:
        engine = self.engine_object
        if engine.piece_size is not None and self.batch_norm == "batch":
            raise checks.UsageError(
                f"ExemplarLevel.images_at_once = {engine.piece_size} with batch_norm = 'batch': the moments are "
                "those of whole batches. Use 'frozen', or leave images_at_once out."
            )
        if engine.fewest_steps > self.inner_steps:
            raise checks.UsageError(
                f"ExemplarLevel.window = {engine.fewest_steps}: expected at most inner_steps = {self.inner_steps}."
            )
        if engine.trains != "network" and self.batch_norm == "batch":
            raise checks.UsageError(
                f"ExemplarLevel.batch_norm = 'batch': the engine {engine.name!r} trains no batch norm. Use 'frozen'."
            )
        unused = {"learned_rates": "none", "inner_momentum": 0.0, "inner_weight_decay": 0.0, "learn_labels": False}
        for name, default in unused.items():
            if engine.trains == "nothing" and getattr(self, name) != default:
                raise checks.UsageError(
                    f"ExemplarLevel.{name} = {getattr(self, name)!r}: the engine {engine.name!r} trains nothing. Leave "
                    "it out."
                )

    def _check_objective(self) -> None:
        if self.optimiser == "adam" and self.momentum:
            raise checks.UsageError(
                f"ExemplarLevel.momentum = {self.momentum} with optimiser = 'adam', which has its own. Leave it out."
            )
        if self.objective == "temporary_model":
            return
        if self.objective == "next_phase" and self.engine_object.trains != "network":
            raise checks.UsageError(
                f"ExemplarLevel.engine = {self.engine_object.name!r} with objective = 'next_phase': a later phase "
                "trains the whole network. Use 'adjoint', or another engine that does."
            )
        unused = {"learned_rates": "none", "learn_labels": False}
        for name, default in unused.items():
            if getattr(self, name) != default:
                raise checks.UsageError(
                    f"ExemplarLevel.{name} = {getattr(self, name)!r}: the objective {self.objective!r} learns pixels "
                    "alone. Leave it out, or set objective = 'temporary_model'."
                )

    def check_devices(self, num_replicas: int) -> None:
        """Raises UsageError if a batch is too small to be shared by the devices."""
        for name in ("batch_size", "inner_batch_size"):
            if getattr(self, name) < num_replicas:
                raise checks.UsageError(
                    f"ExemplarLevel.{name} = {getattr(self, name)}: expected at least {num_replicas}, the number of "
                    "devices. Raise it, or make fewer devices visible."
                )

    def check_moments(self, num_replicas: int) -> None:
        """Raises UsageError if batch norm of the temporary model would see a part of each batch on each device."""
        if self.batch_norm == "batch" and num_replicas > 1 and self.engine_object.shares_batches:
            raise checks.UsageError(
                f"ExemplarLevel.batch_norm = 'batch' with {num_replicas} devices: the moments are those of whole "
                "batches, and each device has a part. Use 'frozen', or make one device visible."
            )

    def check_shared(self, counts: Sequence[int], num_replicas: int) -> None:
        """Raises UsageError if exemplars that are optimised together are too few to be shared by the devices.

        Args:
          counts: exemplars of each class, in the order of classes.
          num_replicas: devices.
        """
        chunks = class_chunks(np.arange(len(counts)), self.classes_per_chunk)
        fewest = min(sum(counts[place] for place in chunk) for chunk in chunks)
        if fewest < num_replicas:
            raise checks.UsageError(
                f"ExemplarLevel.classes_per_chunk = {self.classes_per_chunk}: {fewest} exemplars are optimised "
                f"together, to be shared by {num_replicas} devices. Keep more of each class"
                f"{'' if self.classes_per_chunk is None else ', raise it'}, or make fewer devices visible."
            )

    def check_parts_shared(self, counts: Sequence[int], memory: Memory, num_replicas: int) -> None:
        """Raises UsageError if parts of old exemplars that are adjusted are too few to be shared by the devices.

        Args:
          counts: slots of each old class, in the order of classes; those with fewer than there are parts stay as they
            are.
          memory: how exemplars are kept.
          num_replicas: devices.
        """
        parts = [count // self.num_parts * memory.images_per_slot for count in counts if count >= self.num_parts]
        if parts:
            self.check_shared(parts, num_replicas)

    def check_mirrored(self, horizontal_flip: bool) -> None:
        """Raises UsageError if exemplars are to be mirrored where a mirrored image does not show its class."""
        if "flip" in self.augmentation and not horizontal_flip:
            raise checks.UsageError(
                f"ExemplarLevel.augmentation = {self.augmentation!r}: a mirrored image of this data set does not show "
                "its class. Leave 'flip' out."
            )

    @property
    def engine_object(self) -> Engine:
        """The engine with its options, which says what it needs and what it trains."""
        options = (self.window, self.checkpoint_every, self.images_at_once, self.keep_activations)
        return engine_of(self.engine, *options, "ExemplarLevel.")

    @property
    def inner_sgd(self) -> InnerSGD:
        """The temporary model's optimiser."""
        return InnerSGD(self.inner_learning_rate, self.inner_momentum, self.inner_weight_decay)

    def steps_in_epoch(self, num_images: int) -> int:
        """Meta-steps of a pass over so many images, or fewer if `steps_per_epoch` says so."""
        steps = num_batches(num_images, self.batch_size)
        return steps if self.steps_per_epoch is None else min(steps, self.steps_per_epoch)
