"""The objective `next_phase`: exemplars are learned for a later phase, which each meta-step simulates."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.engines import MetaGradientEngine
from mnemonics_tf.bilevel.plan import inner_plan
from mnemonics_tf.bilevel.problem import MetaGradient
from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.optimising.augmentation import draw_transformation
from mnemonics_tf.memory.optimising.objective_settings import NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.simulation import LaterPhase, Simulation
from mnemonics_tf.memory.optimising.tasks import Found, UnsuitableError, values_of
from mnemonics_tf.memory.optimising.validation import ValidationBatches
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.imprinting import imprinted
from mnemonics_tf.system import seeds

# Images of a class by which the head's weights are imprinted, and images that go through the network at once.
_IMPRINTED_BY, _AT_ONCE = 64, 256


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
        old = self._old.take(~np.isin(self._old.labels, exemplars.labels))
        at_hand = data.join(old) if len(old) else data
        num_classes = len(np.unique(at_hand.labels))
        if num_classes < 2:
            raise UnsuitableError(
                "ExemplarLevel.objective = 'next_phase' needs two classes at hand, of which one plays a new one, and "
                "there is one."
            )
        return _Simulated(self, at_hand, len(old), self.settings.num_new(num_classes), seed, stage)

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
        self,
        owner: SimulatedNextPhase,
        at_hand: LabelledImages,
        num_old: int,
        num_new: int,
        seed: int,
        stage: str,
    ):
        self._owner, self._at_hand, self._num_old, self._num_new = owner, at_hand, num_old, num_new
        self._seed, self._stage = seed, stage
        self._classes = np.unique(at_hand.labels)
        self._simulation, self._engine = owner.compiled(num_new)
        self._batches = ValidationBatches(at_hand, owner.level.batch_size, seed, stage)
        self._directions = self._imprinted() if owner.phase.imprints else None
        self.steps_per_epoch = owner.level.steps_in_epoch(len(at_hand))

    def step(self, variables: ExemplarVariables, index: int, draws: np.random.Generator) -> Found:
        """See `Task`."""
        owner, level = self._owner, self._owner.level
        if owner.settings.paired:
            index %= self.steps_per_epoch
            draws = seeds.generator(self._seed, self._stage, "paired", index)
        shape = self._at_hand.images.shape[1:]
        transform = draw_transformation(level.augmentation, shape, draws)
        with tf.GradientTape(persistent=True) as tape:
            images, labels = transform(variables.images()), variables.labels()
        batch = self._batches.batch(index)
        outer_images = transform(pixels.normalise(batch.images, owner.pixel_range))
        found = []
        for each in range(owner.settings.draws):
            new_classes = self._new_classes(index * owner.settings.draws + each)
            place_of = self._simulation.draw(new_classes)
            trained, trained_labels, plan = self._training(images, labels.numpy(), new_classes, transform, draws)
            meta = self._engine(
                self._simulation.start(self._directions if self._directions is not None else self._drawn(draws)),
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

    def _new_classes(self, draw: int) -> np.ndarray:
        """The classes that play new ones: consecutive draws go round all classes."""
        rounds, place = divmod(draw, len(self._classes) // self._num_new)
        order = seeds.generator(self._seed, self._stage, "new_classes", rounds).permutation(self._classes)
        return order[place * self._num_new : (place + 1) * self._num_new]

    def _training(
        self, images: tf.Tensor, labels: np.ndarray, new_classes: np.ndarray, transform, draws: np.random.Generator
    ) -> tuple[tf.Tensor, np.ndarray, np.ndarray]:
        """What the temporary model is trained on: images with the exemplars first, labels, and the plan `[T, b]`."""
        level, at_hand = self._owner.level, self._at_hand
        num_steps = level.engine_object.num_steps(level.inner_steps, draws)
        half = max(1, level.inner_batch_size // 2)

        def planned(members: np.ndarray) -> np.ndarray:
            return members[inner_plan(len(members), num_steps, half, draws)]

        # Rows: exemplars, then the images at hand, of which exemplars of old classes stand at the end.
        num_exemplars = len(labels)
        all_labels = np.concatenate([labels, at_hand.labels])
        rows, is_new = np.arange(len(all_labels)), np.isin(all_labels, new_classes)
        is_memory = (rows < num_exemplars) | (rows >= len(all_labels) - self._num_old)
        rehearsed = planned(np.flatnonzero(is_memory & ~is_new))
        arriving = planned(np.flatnonzero((rows >= num_exemplars) & is_new))
        plan = np.concatenate([rehearsed, arriving], axis=1)
        # Only those that are used are read.
        shown = np.unique(plan[plan >= num_exemplars])
        plan = np.where(plan < num_exemplars, plan, num_exemplars + np.searchsorted(shown, plan))
        real = transform(self._normalised(at_hand.take(shown - num_exemplars)))
        return tf.concat([images, real], axis=0), np.concatenate([labels, all_labels[shown]]), plan

    def _normalised(self, data: LabelledImages) -> tf.Tensor:
        return pixels.normalise(in_memory(data).array, self._owner.pixel_range)

    def _drawn(self, draws: np.random.Generator) -> np.ndarray:
        """Random directions of the head's weights of all classes."""
        shape = tuple(self._owner.model.head.by_class("kernel").shape)
        columns = draws.uniform(-1, 1, shape)
        return columns / np.linalg.norm(columns, axis=0)

    def _imprinted(self) -> np.ndarray:
        """Directions of the head's weights of all classes, imprinted by some images of each class at hand."""
        rows = np.concatenate([np.flatnonzero(self._at_hand.labels == each)[:_IMPRINTED_BY] for each in self._classes])
        features = []
        for start in range(0, len(rows), _AT_ONCE):
            images = self._normalised(self._at_hand.take(rows[start : start + _AT_ONCE]))
            features.append(self._owner.model.backbone(images, training=False).numpy())
        width = self._simulation.columns_per_class
        columns = imprinted(np.concatenate(features), self._at_hand.labels[rows], self._classes, width).T
        # Classes that are not at hand never play new ones.
        directions = np.zeros(self._owner.model.head.by_class("kernel").shape)
        directions[:, (self._classes[:, None] * width + np.arange(width)).ravel()] = columns
        return directions
