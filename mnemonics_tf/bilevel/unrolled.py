"""The engine that nests gradient tapes around the whole training: what the paper describes, and the reference."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import InnerSGD, Params
from mnemonics_tf.bilevel.problem import Loss, MetaGradient, connected
from mnemonics_tf.bilevel.second_order import gradients_of


class Unrolled:
    """Memory and tracing grow with T, and each T is a trace of its own. Works on one device.

    Args:
      inner_loss: of the temporary training.
      outer_loss: of the validation.
      sgd: the temporary training's optimiser.
    """

    def __init__(self, inner_loss: Loss, outer_loss: Loss, sgd: InnerSGD):
        self._inner_loss, self._outer_loss, self._sgd = inner_loss, outer_loss, sgd
        self._compiled = tf.function(self._differentiate, autograph=False)

    def __call__(
        self,
        params: Params,
        exemplars: tf.Tensor,
        labels: tf.Tensor,
        plan: np.ndarray,
        outer_images: tf.Tensor,
        outer_labels: tf.Tensor,
        rates: tf.Tensor,
        learns_rates: bool,
    ) -> MetaGradient:
        """Trains by `plan` with `rates` `[T]`; see `MetaGradientEngine`."""
        plan_tensor = tf.constant(plan)
        return self._compiled(params, exemplars, labels, plan_tensor, outer_images, outer_labels, rates, learns_rates)

    def _differentiate(self, params, exemplars, labels, plan, outer_images, outer_labels, rates, learns_rates):
        soft = [labels] if labels.dtype.is_floating else []
        learned = [rates] if learns_rates else []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([exemplars, soft, learned])
            state = self._sgd.start(params)
            for t in range(plan.shape[0]):
                images, targets = tf.gather(exemplars, plan[t]), tf.gather(labels, plan[t])
                _, gradients = gradients_of(self._inner_loss, state.params, images, targets, "inner loss")
                state = self._sgd.step(state, gradients, rates[t])
            loss = self._outer_loss(state.params, outer_images, outer_labels)
        by_exemplar, by_label, by_rate = tape.gradient(loss, [[exemplars], soft, learned])
        (by_exemplar,) = connected(by_exemplar, "outer loss", "the exemplars")
        by_label = connected(by_label, "outer loss", "the soft labels")
        by_rate = connected(by_rate, "outer loss", "the inner rates")
        return MetaGradient(loss, by_exemplar, by_label[0] if soft else None, by_rate[0] if learned else None)
