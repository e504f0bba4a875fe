"""Dynamic loss scaling for float16, which has no numbers between 0 and 6e-8, where many gradients are."""

from __future__ import annotations

import tensorflow as tf

from mnemonics_tf import runtime

_INITIAL = 2.0**15
_STEPS_UNTIL_DOUBLED = 2000


class LossScale:
    """A factor for the loss that adapts itself, so that gradients neither vanish nor overflow.

    It starts from 2^15, is halved (to 1 at least) when a gradient overflows, and doubled after 2,000 steps in a row in
    which none does. A step whose gradient overflows moves by momentum and weight decay alone.

    Create it in the strategy's scope, and call it on replicas. Keras has an optimizer that does the like; it puts the
    choice between a step and none in a `tf.cond`, in which replicas cannot exchange gradients.
    """

    def __init__(self):
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._scale = tf.Variable(_INITIAL, **options)
        self._good_steps = tf.Variable(0, **options)

    @property
    def variables(self) -> list[tf.Variable]:
        """What the next steps depend on."""
        return [self._scale, self._good_steps]

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss times the factor: what is to be differentiated."""
        return loss * self._scale

    def unscaled(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients of the loss itself, and the factor for the next step.

        Args:
          gradients: the gradients of the scaled loss on this replica.

        Returns:
          The gradients divided by the factor; zeros if any replica has one that is NaN or infinite.
        """
        broken = tf.add_n([tf.reduce_sum(tf.cast(~tf.math.is_finite(each), tf.float32)) for each in gradients])
        (broken,) = runtime.sum_over_replicas([broken])
        is_good = broken == 0
        factor = 1.0 / self._scale
        result = [tf.where(is_good, each * factor, tf.zeros_like(each)) for each in gradients]
        doubles = self._good_steps + 1 >= _STEPS_UNTIL_DOUBLED
        halved = tf.maximum(self._scale / 2.0, 1.0)
        self._scale.assign(tf.where(is_good, tf.where(doubles, 2.0 * self._scale, self._scale), halved))
        self._good_steps.assign(tf.where(is_good & ~doubles, self._good_steps + 1, 0))
        return result
