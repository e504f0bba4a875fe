"""The machine's limit, as TensorFlow reaches it."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import tensorflow as tf
from harness.turns import Turns


def multiply(start: Callable[[], Turns]) -> None:
    """Several products of two large matrices a turn."""
    side = inputs.MATRIX_SIDE
    one, other = (tf.random.stateless_normal([side, side], [seed, 0]) for seed in (0, 1))

    def work() -> None:
        for _ in range(inputs.MATRIX_REPEATS):
            product = tf.linalg.matmul(one, other)
        product.numpy()

    start().serve(work)
