"""Networks on their way through simulated later phases: they have begun to forget what the trained network knew."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params, State
from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.optimising.augmentation import draw_transformation
from mnemonics_tf.memory.optimising.objective_settings import num_pseudo_new
from mnemonics_tf.memory.optimising.pseudo_phases import PseudoPhases
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.simulation import LaterPhase, Simulation
from mnemonics_tf.memory.optimising.tasks import UnsuitableError
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system import seeds


class Forgetting(NamedTuple):
    """A network within a simulated later phase.

    Attributes:
      weights: of what is trained, by the names of `Classifier.named_weights`.
      new_classes: indices of the classes that play new ones.
    """

    weights: dict[str, np.ndarray]
    new_classes: np.ndarray


class ForgettingNetworks:
    """Takes a network through simulated later phases: steps on exemplars, and on real images of pseudo-new classes.

    The training is that of `NextPhase`, with T, batches, rate, momentum and weight decay of the temporary model. Of
    each phase the network is kept after half of the steps and at their end. It works on one device.

    Args:
      model: Θ_i; not changed.
      pixel_range: normalisation.
      level: the temporary training, and augmentation.
      phase: how the method trains a later phase.
      old: exemplars of the classes of earlier phases, decoded.
    """

    def __init__(
        self,
        model: Classifier,
        pixel_range: PixelRange,
        level: ExemplarLevel,
        phase: LaterPhase,
        old: LabelledImages,
    ):
        self._model, self._pixel_range, self._level = model, pixel_range, level
        self._phase, self._old = phase, old

    def after(
        self, num_phases: int, exemplars: LabelledImages, data: LabelledImages, seed: int, stage: str
    ) -> list[Forgetting]:
        """The networks of so many phases, two of each.

        Args:
          num_phases: 1 or more.
          exemplars: those that are rehearsed, decoded, on the scale 0..255.
          data: real images of the same classes.
          seed: of all that is drawn.
          stage: its name, which is part of every draw.

        Raises:
          UnsuitableError: there are not two classes at hand.
        """
        old = self._old.take(~np.isin(self._old.labels, exemplars.labels))
        at_hand = data.join(old) if len(old) else data
        num_classes = len(np.unique(at_hand.labels))
        if num_classes < 2:
            raise UnsuitableError(
                "Matching.later_phases needs two classes at hand, of which one plays a new one, and there is one."
            )
        simulation = Simulation(self._model, self._level.batch_norm, self._phase, num_pseudo_new(num_classes))
        phases = PseudoPhases(simulation, self._pixel_range, at_hand, len(old), seed, stage)
        images = pixels.normalise(exemplars.array, self._pixel_range)
        step = self._step(simulation)
        return [
            network
            for index in range(num_phases)
            for network in self._of_phase(phases, step, images, exemplars.labels, index, (seed, stage))
        ]

    def _of_phase(
        self,
        phases: PseudoPhases,
        step: tf.types.experimental.PolymorphicFunction,
        images,
        labels,
        index: int,
        drawn_by,
    ) -> list[Forgetting]:
        level, draws = self._level, seeds.generator(*drawn_by, "later_phase", index)
        new_classes = phases.new_classes(index)
        place_of = phases.simulation.draw(new_classes)
        shown, shown_labels, plan = phases.training(
            images, labels, new_classes, tf.identity, level.inner_steps, level.inner_batch_size, draws
        )
        state, kept = level.inner_sgd.start(phases.start(draws)), []
        for number, rows in enumerate(plan, start=1):
            transform = draw_transformation(level.augmentation, images.shape[1:], draws)
            batch, targets = transform(tf.gather(shown, rows)), tf.constant(place_of[shown_labels[rows]])
            state = State(*step(state.params, state.velocity, batch, targets))
            if number in {(level.inner_steps + 1) // 2, level.inner_steps}:
                kept.append(Forgetting(self._named(state.params), new_classes))
        return kept

    def _named(self, params: Params) -> dict[str, np.ndarray]:
        names = {id(variable): name for name, variable in self._model.named_weights().items()}
        pairs = zip(self._model.trainable_variables, params, strict=True)
        return {names[id(variable)]: value.numpy() for variable, value in pairs}

    def _step(self, simulation: Simulation) -> tf.types.experimental.PolymorphicFunction:
        """One step of SGD, from parameters and velocity to the next ones."""
        sgd = self._level.inner_sgd

        @tf.function(autograph=False, reduce_retracing=True)
        def step(params, velocity, images, labels):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(params)
                loss = simulation.inner_loss(params, images, labels)
            gradients = tape.gradient(loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return tuple(sgd.step(State(params, velocity), gradients, sgd.learning_rate))

        return step
