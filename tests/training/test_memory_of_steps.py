"""Memory of training steps: what TensorFlow keeps of them for the life of the process."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

from mnemonics_tf.training.sgd import SGD


def _kept() -> int:
    return sum(name.startswith("CustomGradient") for name in ops.gradient_registry._registry)


def _trained(optimiser: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy) -> np.ndarray:
    """A variable after two steps that are traced anew."""
    with strategy.scope():
        variable = keras.Variable([1.0, 2.0])
        optimiser.build([variable])

    @tf.function
    def step():
        strategy.run(lambda: optimiser.apply([variable.value**2], [variable]))

    step()
    step()
    return variable.numpy()


def test_traced_steps_are_not_kept_and_come_to_the_same():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    before = _kept()
    with strategy.scope():
        own, keras_own = SGD(0.1, momentum=0.5), keras.optimizers.SGD(0.1, momentum=0.5)
    found = _trained(own, strategy)
    assert _kept() == before
    np.testing.assert_array_equal(found, _trained(keras_own, strategy))
    # v = -0.1 * (1, 4), x = (0.9, 1.6); v = 0.5 v - 0.1 * (0.81, 2.56), x = x + v.
    np.testing.assert_allclose(found, [0.9 - 0.05 - 0.081, 1.6 - 0.2 - 0.256], rtol=1e-6)
