"""Inner steps whose activations are kept from the training, so that walking back over them computes nothing twice.

In units of one pass of the inner batch through the network's convolutions: a training step is 3 (forwards, and back to
activations and to kernels), and going back through it, with its activations at hand, 6. Without them it is 8, as both
of the passes that gave activations and their adjoints are made once more.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import InnerSGD, Params, State
from mnemonics_tf.bilevel.problem import Loss
from mnemonics_tf.bilevel.second_order import SecondOrder, gradients_of, second_order_of


class Recording(NamedTuple):
    """One step of the training, ready to be differentiated once.

    Attributes:
      tape: holds what the step computed on its way, until it is asked for a gradient.
      state: before the step.
      inputs: images `[b, H, W, C]`, and soft labels `[b, K + M]` where labels are such.
      gradients: g, the step's gradient, shaped as the parameters.
    """

    tape: tf.GradientTape
    state: State
    inputs: list[tf.Tensor]
    gradients: Params


class Recorder:
    """Makes training steps under a tape, and goes back through them. On one device.

    TensorFlow compiles what is called under a tape as two functions, of which the first hands its activations to the
    second: they are traced once for each shape of the batches, whatever T is.

    Args:
      inner_loss: of the temporary training.
      sgd: the temporary training's optimiser.
    """

    def __init__(self, inner_loss: Loss, sgd: InnerSGD):
        def gradients(params: Params, images: tf.Tensor, labels: tf.Tensor) -> Params:
            return gradients_of(inner_loss, params, images, labels, "inner loss")[1]

        self._gradients = tf.function(gradients, autograph=False)
        self._move = tf.function(sgd.step, autograph=False)

    def step(self, state: State, rate: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tuple[Recording, State]:
        """One step of the training: its recording, and the state after it."""
        inputs = [images, labels] if labels.dtype.is_floating else [images]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([state.params, inputs])
            gradients = self._gradients(state.params, images, labels)
        return Recording(tape, state, inputs, gradients), self._move(state, gradients, rate)

    @staticmethod
    def second_order(recording: Recording, p: Params) -> SecondOrder:
        """Derivatives at the recorded step, along p; its activations are given up."""
        found = recording.tape.gradient(
            recording.gradients, [recording.state.params, recording.inputs], output_gradients=p
        )
        return second_order_of(recording.gradients, *found)
