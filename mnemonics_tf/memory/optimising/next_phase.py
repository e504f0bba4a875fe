"""The objective `next_phase`: exemplars are learned for a later phase, which each meta-step simulates."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.engines import MetaGradientEngine
from mnemonics_tf.bilevel.problem import MetaGradient
from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.optimising.augmentation import draw_transformation
from mnemonics_tf.memory.optimising.objective_settings import NextPhase
from mnemonics_tf.memory.optimising.pseudo_phases import PseudoPhases, at_hand
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.simulation import LaterPhase, Simulation
from mnemonics_tf.memory.optimising.tasks import Found, values_of
from mnemonics_tf.memory.optimising.validation import ValidationBatches
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system import seeds


class SimulatedNextPhase:
    """Simulates later phases of a network; see `NextPhase`. It works on one device.

    Args:
      model: Θ_i; not changed.
      pixel_range: normalisation.
      level: the engine, the temporary training, batches.
      settings: which classes play new ones.
      phase: how the method trains a later phase.
      old: exemplars of the classes of earlier phases, decoded; they stand for the images of these.
    """

    def __init__(
        self,
        model: Classifier,
        pixel_range: PixelRange,
        level: ExemplarLevel,
        settings: NextPhase,
        phase: LaterPhase,
        old: LabelledImages,
    ):
        self.model, self.pixel_range, self.level, self.settings = model, pixel_range, level, settings
        self.phase, self._old = phase, old
        self._compiled: dict[int, tuple[Simulation, MetaGradientEngine]] = {}

    def task(self, exemplars: LabelledImages, data: LabelledImages, seed: int, stage: str) -> _Simulated:
        """See `Tasks`. Raises UnsuitableError if there are not two classes at hand."""
        images, num_old = at_hand("ExemplarLevel.objective = 'next_phase'", exemplars, data, self._old)
        simulation, engine = self.compiled(self.settings.num_new(len(np.unique(images.labels))))
        phases = PseudoPhases(simulation, self.pixel_range, images, num_old, seed, stage)
        return _Simulated(self, phases, engine, seed, stage)

    def compiled(self, num_new: int) -> tuple[Simulation, MetaGradientEngine]:
        """The network in phases of so many pseudo-new classes, and the engine of its losses."""
        if num_new not in self._compiled:
            level = self.level
            simulation = Simulation(self.model, level.batch_norm, self.phase, num_new)
            engine = MetaGradientEngine(
                simulation.inner_loss, simulation.outer_loss, level.inner_sgd, level.engine_object
            )
            self._compiled[num_new] = simulation, engine
        return self._compiled[num_new]


class _Simulated:
    """One task of `SimulatedNextPhase`."""

    def __init__(
        self, owner: SimulatedNextPhase, phases: PseudoPhases, engine: MetaGradientEngine, seed: int, stage: str
    ):
        self._owner, self._phases, self._engine = owner, phases, engine
        self._seed, self._stage = seed, stage
        self._batches = ValidationBatches(phases.at_hand, owner.level.batch_size, seed, stage)
        self.steps_per_epoch = owner.level.steps_in_epoch(len(phases.at_hand))

    def step(self, variables: ExemplarVariables, index: int, draws: np.random.Generator) -> Found:
        """See `Task`."""
        owner, level = self._owner, self._owner.level
        if owner.settings.paired:
            index %= self.steps_per_epoch
            draws = seeds.generator(self._seed, self._stage, "paired", index)
        transform = draw_transformation(level.augmentation, self._phases.at_hand.images.shape[1:], draws)
        with tf.GradientTape(persistent=True) as tape:
            images, labels = transform(variables.images()), variables.labels()
        batch = self._batches.batch(index)
        outer_images = transform(pixels.normalise(batch.images, owner.pixel_range))
        found = []
        for each in range(owner.settings.draws):
            new_classes = self._phases.new_classes(index * owner.settings.draws + each)
            place_of = self._phases.simulation.draw(new_classes)
            num_steps = level.engine_object.num_steps(level.inner_steps, draws)
            trained, trained_labels, plan = self._phases.training(
                images,
                labels.numpy(),
                new_classes,
                transform,
                num_steps,
                level.inner_batch_size,
                draws,
                # Means over rehearsed images come out right if each piece has its share of them.
                alternating=level.engine_object.piece_size is not None and not owner.phase.averages_images,
            )
            meta = self._engine(
                self._phases.start(draws),
                trained,
                tf.constant(place_of[trained_labels]),
                plan,
                outer_images,
                tf.constant(place_of[batch.labels]),
            )
            found.append((values_of(meta), meta.exemplars[: len(images)]))
        values = {name: float(np.mean([each[name] for each, _ in found])) for name in found[0][0]}
        gradient = tf.add_n([each for _, each in found]) / len(found)
        return Found(images, labels, tape, MetaGradient(tf.constant(values["meta_loss"]), gradient), values)
