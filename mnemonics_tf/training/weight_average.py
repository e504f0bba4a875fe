"""An exponential mean of the weights that a network has during its training."""

from __future__ import annotations

import keras
import tensorflow as tf


class WeightAverage:
    """The mean of a network's variables after steps s = 1..T, with weights (1 - d) * d^(T - s) / (1 - d^T).

    What the variables are before the first step has no part in it. Running statistics of batch norm are averaged as the
    weights are. Create it in the strategy's scope, call `add` on replicas after each step, and `apply` at the end. All
    replicas have the same weights; of statistics those of the first count, and batch norm over the whole batch makes
    them the same too.

    Args:
      variables: what is averaged, of floats: the trained weights, and running statistics of batch norm.
      decay: d, above 0 and below 1.
    """

    def __init__(self, variables: list[keras.Variable], decay: float):
        self._decay = decay
        self._variables = variables
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._sums = [tf.Variable(tf.zeros(each.shape, each.dtype), **options) for each in self._variables]
        self._weight = tf.Variable(0.0, **options)

    @property
    def variables(self) -> list[tf.Variable]:
        """The sums so far."""
        return [*self._sums, self._weight]

    def add(self) -> None:
        """Takes up the variables as they are now."""
        for total, variable in zip(self._sums, self._variables, strict=True):
            total.assign(self._decay * total + (1.0 - self._decay) * variable.value)
        self._weight.assign(self._decay * self._weight + (1.0 - self._decay))

    def apply(self) -> None:
        """Gives the variables their mean. Raises ValueError if there was no step yet."""
        weight = float(self._weight.numpy())
        if not weight:
            raise ValueError("There is no mean of the weights before the first step.")
        for variable, total in zip(self._variables, self._sums, strict=True):
            variable.assign(total / weight)
