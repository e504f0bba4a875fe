"""What the steps of a phase work with, beside state and arrival: settings, tools, and a journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import tensorflow as tf

from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import Arrival, ImageTraits, LabelledImages, Phase, PixelRange
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import LearnerState, Network
from mnemonics_tf.memory.codecs import Codec, Coded
from mnemonics_tf.memory.coded import round_trip
from mnemonics_tf.memory.optimising.optimiser import ExemplarOptimiser
from mnemonics_tf.memory.optimising.tasks import Tasks
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.memory.store import ExemplarStore, codec_for
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.folding import Inference
from mnemonics_tf.system.snapshots import Snapshots, Store
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.checkpoints import Checkpoints
from mnemonics_tf.training.loop import Trainer


class Journal(Protocol):
    """What the algorithm tells, and asks, while it works."""

    @property
    def snapshots(self) -> Snapshots:
        """When steps of a phase put down what they have come to; of all phases."""

    def waiting_room(self, context: Context) -> AbstractContextManager[PixelFile | None]:
        """Where exemplars wait on disk until the phase is over; None where memory holds them."""

    def store(self, phase: int) -> Store | None:
        """Where steps of a phase put it down, and go on from after an interruption; or None."""

    def initial_network(
        self, context: Context, phase: Phase, train: Callable[[], Classifier], notes: list[str]
    ) -> tuple[Classifier, bool]:
        """The network of phase 0, and whether an earlier run has trained it; `train` trains it now.

        `notes` say afterwards what did not go as configured in its training, by whichever run.
        """

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        """Exemplars were learned (`which` is `new`) or adjusted (`old`); slots that are worked on."""

    def phase_finished(self, state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
        """All steps are over and `state.work` tells what they came to. Returns the state to go on from."""


@dataclasses.dataclass
class Context:
    """Settings, and what was made of them. One for each phase.

    Attributes:
      settings: of the learner.
      traits: what all images have in common.
      trainer: trains networks on the learner's devices.
      journal: where results are put down.
      file: where exemplars wait on disk until the phase is over; None holds them in memory.
      checkpoints: networks that the training of the phase goes through; None where nothing looks at them.
    """

    settings: Settings
    traits: ImageTraits
    trainer: Trainer
    journal: Journal
    file: PixelFile | None = None
    checkpoints: Checkpoints | None = None
    _optimiser: ExemplarOptimiser | None = dataclasses.field(default=None, repr=False)

    @property
    def tracker(self) -> Tracker:
        """Shows progress and notes durations."""
        return self.trainer.tracker

    @property
    def snapshots(self) -> Snapshots:
        """Where steps of the phase under way keep what they have come to."""
        return self.trainer.snapshots

    @property
    def codec(self) -> Codec:
        """How exemplars are stored."""
        return codec_for(self.settings.memory)

    @property
    def factory(self) -> ClassifierFactory:
        """Builds networks."""
        return factory_of(self.settings, self.traits)

    def network(self, model: Classifier) -> Network:
        """A trained classifier with what runs it."""
        return Network(model, self.trainer.predictor(model))

    def inference(self, model: Classifier) -> Inference:
        """A network that stays as it is, run at inference on the learner's devices."""
        return Inference(model, self.trainer.strategy)

    def inference_of_copy(self, model: Classifier) -> Inference:
        """A network at inference as it is now, whatever becomes of it."""
        with self.trainer.strategy.scope():
            copy = self.factory.copy(model)
        return self.inference(copy)

    def restored(
        self,
        num_old_classes: int,
        num_new_classes: int,
        fill: Callable[[Classifier], object],
        factory: ClassifierFactory | None = None,
    ) -> Network:
        """A network whose weights were kept: built on the learner's devices, by its factory, and filled by `fill`."""
        with self.trainer.strategy.scope():
            model = (factory or self.factory).build(num_old_classes, num_new_classes)
        fill(model)
        model.train_all()
        return self.network(model)

    def optimiser(self, network: Network, objective: Tasks | None = None) -> ExemplarOptimiser:
        """The exemplar level of this phase's network: learning and adjusting share what was compiled.

        Args:
          network: that of the phase.
          objective: what new exemplars are learned for, at the first call; None for the paper's.
        """
        if self._optimiser is None:
            self._optimiser = ExemplarOptimiser(
                network.model,
                self.trainer.pixel_range,
                self.settings.exemplar_level,
                self.tracker,
                self.codec,
                self.trainer.strategy,
                self.file,
                self.snapshots,
                objective,
            )
        return self._optimiser

    def with_coded(self, phase: Phase) -> Phase:
        """The phase with its images also as the codec gives them back, if networks are to be trained on either."""
        codec, memory = self.codec, self.settings.memory
        if not memory.code_new or not isinstance(codec, Coded) or not (phase.index or memory.code_initial_phase):
            return phase
        form = codec.format(self.traits.image_shape)
        with self.tracker.stage("code_images"):
            train, old = (
                None if data is None else dataclasses.replace(data, coded=round_trip(data.array, form))
                for data in (phase.train, phase.old_train)
            )
        return dataclasses.replace(phase, train=train or phase.train, old_train=old)


def context_of(
    settings: Settings,
    traits: ImageTraits,
    pixel_range: PixelRange,
    strategy: tf.distribute.Strategy,
    tracker: Tracker,
    journal: Journal,
) -> Context:
    """The context of a phase.

    Args:
      settings: of the learner.
      traits: what all images have in common.
      pixel_range: normalisation of images.
      strategy: whose devices train.
      tracker: shows progress and notes durations.
      journal: where results are put down.
    """
    coded = settings.memory.code_new
    augmentation = Augmentation(traits.crop_padding, traits.horizontal_flip, traits.resized_crop, coded)
    trainer = Trainer(strategy, pixel_range, augmentation, tracker, snapshots=journal.snapshots)
    return Context(settings, traits, trainer, journal)


def factory_of(settings: Settings, traits: ImageTraits) -> ClassifierFactory:
    """What builds the networks of a learner."""
    return ClassifierFactory(
        settings.network,
        traits.image_shape,
        settings.model_level.scale_form,
        settings.head_name,
        settings.method.corrects_bias,
        settings.method.tells_maps,
        num_units=settings.method.num_units,
    )


def beginning(settings: Settings, traits: ImageTraits, pixel_range: PixelRange) -> LearnerState:
    """The state of a learner that knows no class."""
    exemplars = ExemplarStore.empty(traits.image_shape, codec_for(settings.memory))
    return LearnerState(seed=settings.seed, pixel_range=pixel_range, exemplars=exemplars)
