"""The base class of methods: all that a base method may decide, with defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase
from mnemonics_tf.memory.statistics import Statistics
from mnemonics_tf.methods.gradient_noise import GradientNoise
from mnemonics_tf.models.choices import HEADS
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Classifier, Outputs
    from mnemonics_tf.models.fitted_head import FittedHead
    from mnemonics_tf.models.predictor import Predictor

Losses: TypeAlias = "dict[str, tf.Tensor]"


@dataclasses.dataclass(frozen=True)
class Method:
    """A base method: only `name` and `losses` must be given, the rest has defaults.

    Losses are scalars by name, each this replica's share of the mean over the global batch (`runtime.global_mean`);
    their sum is minimised. The *teacher* is the network before this phase, Θ_{i-1}.

    Attributes:
      name: what configurations and results call the method. It has no default.
      primary_classifier: what the method predicts by: `cnn` (the head) or `nme` (nearest mean of exemplars). `cnn` by
        default: of this package's methods only iCaRL does otherwise.
      head: the head that the method has unless the configuration says otherwise: `cosine`, `linear` or `proxies`.
        `cosine` by default, so that methods are compared with one head, LUCIR's, whose protocol the paper follows.
      heads: the heads that the method can work with. All by default: plain losses of logits suit each.
      needs_exemplars: whether the method is refused in runs that keep no exemplars. True by default, as most methods
        presume exemplars.
      distils: whether its losses look at the teacher, which is then run on every batch. True by default: all
        methods of this package do but replay, joint training and `analytic`.
      starts_by_cross_entropy: whether phase 0 is trained by plain cross-entropy, so that one trained phase 0 can be
        shared with other such methods. False by default, as sharing is wrong for a method that does anything else.
      trains_old_head: whether the head's weights of old classes are trained in later phases. True by default: LUCIR and
        PODNet alone hold them fixed.
      trains_on_old_data: whether it may see the training images of old classes again, which only the upper bound does.
        False by default.
      corrects_bias: whether logits go through a gain and an offset for each class, see `Head`. False by default: BiC
        alone needs them.
      tells_maps: whether its losses look at `Outputs.maps`, the outputs of the backbone's stages. False by default:
        PODNet's alone do.
      finetunes: whether balanced fine-tuning belongs to the method itself, so that `BalancedFinetune.enabled = None`
        has it. False by default: of this package's methods EEIL and PODNet alone have it.
      finetuned_part: `all` weights or the `head`: what it trains there. A learner in Python takes it for granted;
        configurations say it by `BalancedFinetune.trained`.
      takes_offsets: whether its loss of labels is a softmax of `Outputs.adjusted_logits`, or adds `Outputs.offsets` in
        another way, so that `Rehearsal.separated_softmax` and `.logit_adjustment` have an effect. False by default, as
        they would have none on a loss of plain `logits`.
      distils_in_finetuning: whether `finetuning_losses` look at the teacher and at the network before fine-tuning.
        False by default, as those given here do not.
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
    finetuned_part: ClassVar[str] = "all"
    takes_offsets: ClassVar[bool] = False
    distils_in_finetuning: ClassVar[bool] = False

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        """The loss terms of a batch at the model level.

        Args:
          outputs: what the network in training says of the batch; logits and scores are `[B, K + M]`.
          teacher: what the network before this phase says of it; logits and scores are `[B, K]`. None in phase 0, in
            runs without distillation, and for methods that do not distil.
          labels: class indices, `[B]`.
          groups: how many classes each phase so far has brought, which gives K and M.

        Returns:
          Scalars by name, each this replica's share of a global mean; their sum is minimised.
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
        """The loss terms of a batch in balanced fine-tuning. By default cross-entropy, as in the temporary model.

        Args:
          outputs: what the network in training says of the batch, with frozen batch norm.
          teacher: what the network before this phase says of it; None in phase 0, in runs without distillation, and
            unless `distils_in_finetuning`.
          before: what this network said of it before it was fine-tuned; None where `distils_in_finetuning` is False, in
            phase 0, and in runs without distillation.
          labels: class indices, `[B]`, or soft labels, `[B, K + M]`.
          groups: how many classes each phase so far has brought.

        Returns:
          Scalars by name, as of `losses`.
        """
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.logits, labels))}

    @property
    def initial_training(self) -> str:
        """A text that says how phase 0 is trained: methods with the same text can share one trained phase 0.

        By default `cross_entropy`, or all of the method's settings where phase 0 is trained in another way.
        """
        return "cross_entropy" if self.starts_by_cross_entropy else repr(self)

    @property
    def num_units(self) -> int | None:
        """The number of random units of a `FittedHead`; None, the default, for a head that is trained.

        With a fitted head, phase 0 is trained by `losses` and no later phase trains anything. In each phase `gather`
        sees the images once, and `fit` sets the head by the statistics of all images so far.
        """
        return None

    def gather(
        self,
        predictor: Predictor,
        data: LabelledImages,
        groups: ClassGroups,
        statistics: Statistics,
        mirrored: bool,
        seed: int,
    ) -> Statistics:
        """Adds images to the statistics that the method keeps. Only methods with a fitted head have it.

        Args:
          predictor: runs a network with the phase's classes, whose head is not fitted yet.
          data: what arrives, D_i.
          groups: how many classes each phase so far has brought.
          statistics: of all images before; empty in phase 0. They stay as they are.
          mirrored: whether a mirrored image still shows its class.
          seed: of all that is random here.

        Returns:
          The statistics of all images so far.
        """
        raise NotImplementedError

    def fit(self, head: FittedHead, statistics: Statistics) -> None:
        """Sets the weights of a head by the statistics of all its classes. Only methods with a fitted head have it."""
        raise NotImplementedError

    def forget(
        self,
        predictor: Predictor,
        data: LabelledImages,
        class_names: Sequence[str],
        statistics: Statistics,
        mirrored: bool,
    ) -> Statistics:
        """Takes classes out of the statistics. Only methods with a fitted head have it.

        Args:
          predictor: runs the network.
          data: images of the classes to be forgotten: all that were learned, and perhaps others.
          class_names: what people call each class, by index.
          statistics: of all images so far. They stay as they are.
          mirrored: whether a mirrored image still shows its class.

        Returns:
          The statistics without these classes; the others keep their order.

        Raises:
          UsageError: some image that was learned is missing.
        """
        raise NotImplementedError

    @property
    def imprints(self) -> bool:
        """Whether the head's weights of new classes start from their embeddings, see `imprint`. False by default."""
        return False

    @property
    def adjusts_logits(self) -> bool:
        """Whether offsets of logits act on the loss as it is set. By default what `takes_offsets` says."""
        return self.takes_offsets

    @property
    def averages_images(self) -> bool:
        """Whether its losses are means over all images of a batch, so that a batch can be worked on in pieces.

        True by default. False for a mean over the rehearsed images, or over the new ones: pieces must then have as many
        of both.
        """
        return True

    @property
    def gradient_noise(self) -> GradientNoise | None:
        """The noise that is added to gradients at the model level; None, the default, for no noise."""
        return None

    def training_data(
        self, phase: Phase, exemplars: LabelledImages | None, generator: np.random.Generator
    ) -> tuple[LabelledImages, LabelledImages | None]:
        """Chooses the images that the network is trained on, and those that are held out for `complete`.

        Args:
          phase: the classes and images that arrive, D_i.
          exemplars: E_{0:i-1}, decoded; None if there are none.
          generator: the source of random choices.

        Returns:
          The training images, by default D_i and E_{0:i-1}, and the held-out images, by default None.
        """
        return (phase.train if exemplars is None else phase.train.join(exemplars)), None

    def complete(
        self, model: Classifier, predictor: Predictor, held_out: LabelledImages | None, groups: ClassGroups
    ) -> None:
        """Changes the trained network of a later phase in place, before exemplars are learned. By default not at all.

        Args:
          model: Θ_i, trained and folded.
          predictor: runs `model`.
          held_out: the images that `training_data` held out; None if it held out none.
          groups: how many classes each phase so far has brought.
        """

    def check_keeps_exemplars(self, keeps: bool) -> None:
        """Raises UsageError if the method needs exemplars and the run keeps none, or has no use for those it keeps."""
        if self.needs_exemplars and not keeps:
            raise checks.UsageError(
                f"Method {self.name!r} needs exemplars, and ExemplarMemory.per_class = 0 keeps none. Raise it, or take "
                "the method 'analytic'."
            )
        if self.num_units is not None and keeps:
            raise checks.UsageError(
                f"Method {self.name!r} trains on no exemplars, and ExemplarMemory keeps some. Set "
                "ExemplarMemory.per_class = 0, as configs/methods/analytic.gin does."
            )

    def check(self, exemplars_per_class: int, head: str) -> None:
        """Checks the method against a run's settings, once its data are known.

        Args:
          exemplars_per_class: images of an old class that are trained on again, in the phase where they are fewest; 0
            for none at all.
          head: the head that the network has, `cosine`, `linear` or `proxies`.

        Raises:
          UsageError: the method cannot work with so few exemplars, or with that head.
        """
        self.check_keeps_exemplars(exemplars_per_class > 0)
        self.check_head(head)

    def check_head(self, head: str) -> None:
        """Raises UsageError if the method cannot work with a head, `cosine`, `linear` or `proxies`."""
        if head not in self.heads:
            raise checks.UsageError(
                f"Experiment.head = {head!r}: method {self.name!r} works with {', '.join(map(repr, self.heads))}."
            )
