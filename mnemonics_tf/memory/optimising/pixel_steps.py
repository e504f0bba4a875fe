"""How pixels follow their gradients: plain steps, steps with momentum, or Adam."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

# Adam's constants, those of its paper.
_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8


class PixelSteps:
    """Turns gradients into steps. What it remembers is part of the state of an interrupted optimisation.

    Args:
      optimiser: `sgd` or `adam`.
      momentum: of `sgd`, the share of the last step that is added to the next one.
      shape: of the pixels, `[n, H, W, C]`.
    """

    def __init__(self, optimiser: str, momentum: float, shape: tuple[int, ...]):
        self._momentum = momentum
        names = {"sgd": ["velocity"] if momentum else [], "adam": ["velocity", "square"]}[optimiser]
        self._means = {name: tf.Variable(tf.zeros(shape), name=name) for name in names}
        self._is_adam, self._count = optimiser == "adam", 0

    def step(self, gradient: tf.Tensor, clipping: float, rate: float) -> tf.Tensor:
        """What is subtracted from the pixels, `[n, H, W, C]`.

        Args:
          gradient: of the pixels, `[n, H, W, C]`.
          clipping: the factor that shortens it, up to 1.
          rate: of learning.
        """
        if not self._means:
            return gradient * (rate * clipping)
        gradient, velocity = gradient * clipping, self._means["velocity"]
        if not self._is_adam:
            velocity.assign(self._momentum * velocity + gradient)
            return rate * velocity
        self._count += 1
        square = self._means["square"]
        velocity.assign(_FIRST * velocity + (1 - _FIRST) * gradient)
        square.assign(_SECOND * square + (1 - _SECOND) * gradient**2)
        mean = velocity / (1 - _FIRST**self._count)
        return rate * mean / (tf.sqrt(square / (1 - _SECOND**self._count)) + _EPSILON)

    def state(self) -> dict[str, np.ndarray]:
        """What further steps depend on: `velocity`, `square` and `count` as far as there are; none for plain ones."""
        state = {name: mean.numpy() for name, mean in self._means.items()}
        return {**state, "count": np.array(self._count)} if self._is_adam else state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state()` gave; the caller has compared names and shapes."""
        for name, mean in self._means.items():
            mean.assign(state[name])
        self._count = int(state["count"]) if self._is_adam else 0
