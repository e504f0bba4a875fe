"""Keras's SGD, without what it leaves behind where one device trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from mnemonics_tf import runtime


class SGD(keras.optimizers.SGD):
    """The same numbers as Keras's, and memory that does not grow.

    Keras adds gradients up over replicas by a custom gradient, which TensorFlow keeps for the life of the process, and
    with it the graph of every training step that was ever traced. One replica has nothing to add up.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: Iterable[Any]) -> Iterable[Any]:
        if runtime.num_replicas() == 1:
            return list(grads_and_vars)
        return super()._all_reduce_sum_gradients(grads_and_vars)
