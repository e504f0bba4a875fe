"""The engine that nests gradient tapes around the whole training: what the paper describes, and the reference."""

from __future__ import annotations

import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.problem import Loss, MetaGradient, MetaStep, connected
from mnemonics_tf.bilevel.second_derivatives import SecondOrderCheck
from mnemonics_tf.bilevel.second_order import gradients_of


class UnrolledTraining:
    """Memory and tracing grow with T, and each T is a trace of its own. Works on one device.

    Args:
      inner_loss: of the temporary training.
      outer_loss: of the validation.
      sgd: the temporary training's optimiser.
    """

    def __init__(self, inner_loss: Loss, outer_loss: Loss, sgd: InnerSGD):
        self._inner_loss, self._outer_loss, self._sgd = inner_loss, outer_loss, sgd
        self._check = SecondOrderCheck(inner_loss)
        self._compiled = tf.function(self._differentiate, autograph=False)

    def __call__(self, step: MetaStep) -> MetaGradient:
        """Trains by the plan under the tape; see `MetaGradientEngine`."""
        self._check(step)
        return self._compiled(step._replace(plan=tf.constant(step.plan)))

    def _differentiate(self, step: MetaStep) -> MetaGradient:
        soft = [step.labels] if step.labels.dtype.is_floating else []
        learned = [step.rates] if step.learns_rates else []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([step.exemplars, soft, learned])
            state = self._sgd.start(step.params)
            for t in range(step.plan.shape[0]):
                images, labels = tf.gather(step.exemplars, step.plan[t]), tf.gather(step.labels, step.plan[t])
                _, gradients = gradients_of(self._inner_loss, state.params, images, labels, "inner loss")
                state = self._sgd.step(state, gradients, step.rates[t])
            loss = self._outer_loss(state.params, step.outer_images, step.outer_labels)
        by_exemplar, by_label, by_rate = tape.gradient(loss, [[step.exemplars], soft, learned])
        (by_exemplar,) = connected(by_exemplar, "outer loss", "the exemplars")
        by_label = connected(by_label, "outer loss", "the soft labels")
        by_rate = connected(by_rate, "outer loss", "the inner rates")
        return MetaGradient(loss, by_exemplar, by_label[0] if soft else None, by_rate[0] if learned else None)
