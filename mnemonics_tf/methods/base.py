"""What a base method decides."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase
from mnemonics_tf.methods.gradient_noise import GradientNoise
from mnemonics_tf.models.choices import HEADS
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Classifier, Outputs
    from mnemonics_tf.models.predictor import Predictor

Losses: TypeAlias = "dict[str, tf.Tensor]"


@dataclasses.dataclass(frozen=True)
class Method:
    """A base method: only `name` and `losses` must be given, the rest has defaults.

    Losses are scalars by name, each this replica's share of the mean over the global batch (`runtime.global_mean`);
    their sum is minimised.

    Attributes:
      name: as configurations and results have it.
      primary_classifier: what the method predicts by: `cnn` (the head) or `nme` (nearest mean of exemplars).
      head: the head that it has unless the configuration says otherwise.
      heads: those that it can work with.
      needs_exemplars: whether it makes no sense without any.
      distils: whether its losses look at the teacher.
      starts_by_cross_entropy: whether phase 0 is trained by cross-entropy alone, so that it can be shared with others.
      trains_old_head: whether the head's weights of old classes are trained.
      trains_on_old_data: whether it may see the old training images again (the upper bound).
      corrects_bias: whether logits go through a gain and an offset, see `Head`.
      tells_maps: whether its losses look at `Outputs.maps`.
      finetunes: whether balanced fine-tuning belongs to the method itself.
      distils_in_finetuning: whether `finetuning_losses` look at the teacher and at the network before fine-tuning.
    """

    name: ClassVar[str]
    primary_classifier: ClassVar[str] = "cnn"
    head: ClassVar[str] = "cosine"
    heads: ClassVar[tuple[str, ...]] = HEADS
    needs_exemplars: ClassVar[bool] = True
    distils: ClassVar[bool] = True
    starts_by_cross_entropy: ClassVar[bool] = False
    trains_old_head: ClassVar[bool] = True
    trains_on_old_data: ClassVar[bool] = False
    corrects_bias: ClassVar[bool] = False
    tells_maps: ClassVar[bool] = False
    finetunes: ClassVar[bool] = False
    distils_in_finetuning: ClassVar[bool] = False

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        """The terms of a batch at the model level.

        Args:
          outputs: of the network in training.
          teacher: of the network before this phase, whose logits and scores are `[B, K]`; None in phase 0 and in runs
            without distillation.
          labels: class indices, `[B]`.
          groups: classes of the phases so far.
        """
        raise NotImplementedError

    def finetuning_losses(
        self,
        outputs: Outputs,
        teacher: Outputs | None,
        before: Outputs | None,
        labels: tf.Tensor,
        groups: ClassGroups,
    ) -> Losses:
        """The terms of a batch in balanced fine-tuning. Here: cross-entropy, as in the temporary model.

        Args:
          outputs: of the network in training, by frozen batch norm.
          teacher: of the network before this phase; None unless `distils_in_finetuning`.
          before: of this network before it is fine-tuned; likewise.
          labels: class indices, `[B]`, or soft labels, `[B, K + M]`.
          groups: classes of the phases so far.
        """
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.logits, labels))}

    @property
    def initial_training(self) -> str:
        """What phase 0 is trained by: methods that say the same can share one trained phase 0."""
        return "cross_entropy" if self.starts_by_cross_entropy else repr(self)

    @property
    def imprints(self) -> bool:
        """Whether the head's weights of new classes start from their features."""
        return False

    @property
    def gradient_noise(self) -> GradientNoise | None:
        """Noise that is added to the gradients of the model level, if any."""
        return None

    def training_data(
        self, phase: Phase, exemplars: LabelledImages | None, generator: np.random.Generator
    ) -> tuple[LabelledImages, LabelledImages | None]:
        """What the network is trained on, and what is held out for `complete`. Here: everything, and nothing.

        Args:
          phase: with D_i.
          exemplars: E_{0:i-1}; None if there are none.
          generator: for random choices.
        """
        return (phase.train if exemplars is None else phase.train.join(exemplars)), None

    def complete(
        self, model: Classifier, predictor: Predictor, held_out: LabelledImages | None, groups: ClassGroups
    ) -> None:
        """Changes the trained network of a later phase, in place. Here: not at all.

        Args:
          model: Θ_i.
          predictor: runs it.
          held_out: what `training_data` kept back.
          groups: classes of the phases so far.
        """

    def check_keeps_exemplars(self, keeps: bool) -> None:
        """Raises UsageError if a run keeps no exemplars and the method needs them."""
        if self.needs_exemplars and not keeps:
            raise checks.UsageError(
                f"Method {self.name!r} needs exemplars, and ExemplarMemory.per_class = 0 keeps none. Raise it."
            )

    def check(self, exemplars_per_class: int, head: str) -> None:
        """Checks the method against a run's settings, once its data are known.

        Args:
          exemplars_per_class: images of a class that are trained on again, when they are fewest; 0 for none at all.
          head: of the network.

        Raises:
          UsageError: it cannot work so.
        """
        self.check_keeps_exemplars(exemplars_per_class > 0)
        self.check_head(head)

    def check_head(self, head: str) -> None:
        """Raises UsageError if the method cannot work with a head, `cosine`, `linear` or `proxies`."""
        if head not in self.heads:
            raise checks.UsageError(
                f"Experiment.head = {head!r}: method {self.name!r} works with {', '.join(map(repr, self.heads))}."
            )
