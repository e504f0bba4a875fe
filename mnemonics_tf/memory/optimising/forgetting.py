"""Networks on their way through simulated later phases: they have begun to forget what the trained network knew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params, State
from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.optimising.augmentation import draw_transformation
from mnemonics_tf.memory.optimising.objective_settings import num_pseudo_new
from mnemonics_tf.memory.optimising.pseudo_phases import PseudoPhases, at_hand
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.simulation import LaterPhase, Simulation
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system import seeds

# From parameters, velocity, images and labels of a batch to the next parameters and velocity.
_Step: TypeAlias = Callable[[Params, Params, tf.Tensor, tf.Tensor], tuple[Params, Params]]


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
        images, num_old = at_hand("Matching.later_phases", exemplars, data, self._old)
        num_new = num_pseudo_new(len(np.unique(images.labels)))
        simulation = Simulation(self._model, self._level.batch_norm, self._phase, num_new)
        phases = PseudoPhases(simulation, self._pixel_range, images, num_old, seed, stage)
        memory = pixels.normalise(exemplars.array, self._pixel_range)
        step, networks = self._step(simulation), []
        for index in range(num_phases):
            draws = seeds.generator(seed, stage, "later_phase", index)
            networks += self._of_phase(phases, step, memory, exemplars.labels, index, draws)
        return networks

    def _of_phase(
        self,
        phases: PseudoPhases,
        step: _Step,
        images: tf.Tensor,
        labels: np.ndarray,
        index: int,
        draws: np.random.Generator,
    ) -> list[Forgetting]:
        """The networks half-way and at the end of the phase `index`; `images` are the exemplars, normalised."""
        level = self._level
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
                kept.append(Forgetting(self._named(phases.simulation.variables, state.params), new_classes))
        return kept

    def _named(self, variables: Sequence[keras.Variable], params: Params) -> dict[str, np.ndarray]:
        names = {id(variable): name for name, variable in self._model.named_weights().items()}
        pairs = zip(variables, params, strict=True)
        return {names[id(variable)]: value.numpy() for variable, value in pairs}

    def _step(self, simulation: Simulation) -> _Step:
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
