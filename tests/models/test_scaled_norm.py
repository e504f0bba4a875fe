"""Gradients of weight transfer in front of batch norm, without that of the kernel."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from mnemonics_tf.models.layers import ConvNorm

_EPSILON = 0.05  # so large that the derivative by a scale, which goes with it, is no rounding
_SCALES = (0.3, -0.2, 1.5, 0.01)


def _layer(dtype: str, scale_form: str = "per_neuron") -> ConvNorm:
    layer = ConvNorm(4, 3, 1, scale_form, dtype=dtype)
    layer.norm.epsilon = _EPSILON
    layer.build((None, 6, 5, 3))
    generator = np.random.default_rng(1)
    for variable in (layer.kernel, layer.bias, layer.shift):
        variable.assign(generator.normal(size=variable.shape))
    layer.scale.assign(np.broadcast_to(_SCALES, layer.scale.shape))
    layer.norm.gamma.assign([1.5, 0.5, -1.0, 2.0])
    layer.norm.beta.assign([1.0, 2.0, 3.0, 4.0])
    layer.set_transferring(True)
    return layer


def _step(layer: ConvNorm) -> tuple[list[np.ndarray], list[str]]:
    """Outputs and all gradients of a weighted sum of them, and the operations that a compiled step consists of."""
    generator = np.random.default_rng(0)
    images, cotangent = (tf.constant(generator.normal(size=(4, 6, 5, each)), layer.compute_dtype) for each in (3, 4))
    watched = [images, layer.scale.value, layer.shift.value, layer.norm.gamma.value, layer.norm.beta.value]

    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(outputs * cotangent)
        return [outputs, *tape.gradient(loss, watched)]

    found = [each.numpy() for each in step()]
    reached: dict[str, str] = {}
    waiting = [each.op for each in step.get_concrete_function().outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in reached:
            reached[operation.name] = operation.type
            waiting += [each.op for each in operation.inputs]
    return found, list(reached.values())


@pytest.fixture(scope="module")
def fast() -> tuple[ConvNorm, list[np.ndarray], list[str], np.ndarray]:
    layer = _layer("float32")
    return layer, *_step(layer), layer.norm.moving_mean.numpy()


@pytest.fixture(scope="module")
def plain() -> tuple[ConvNorm, list[np.ndarray], list[str], np.ndarray]:
    """In float64 gradients go through the kernel and Keras's own batch norm."""
    layer = _layer("float64")
    return layer, *_step(layer), layer.norm.moving_mean.numpy()


def test_gradients_are_those_through_the_kernel(fast, plain):
    for found, expected in zip(fast[1], plain[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    # The derivative by scales is no rounding here: without epsilon it would be 0.
    assert np.abs(plain[1][2]).min() > 0.005


def test_gradient_of_a_scale_is_the_slope(plain):
    layer, (_, _, by_scale, *_), *_ = plain
    generator = np.random.default_rng(0)
    images, cotangent = (generator.normal(size=(4, 6, 5, each)) for each in (3, 4))
    step = 1e-6
    losses = []
    for sign in (1, -1):
        layer.scale.assign(np.reshape(_SCALES, (1, 1, 1, 4)) + sign * np.reshape([0, 0, step, 0], (1, 1, 1, 4)))
        losses.append(np.sum(layer(tf.constant(images), training=True).numpy() * cotangent))
    layer.scale.assign(np.reshape(_SCALES, (1, 1, 1, 4)))
    np.testing.assert_allclose(np.ravel(by_scale)[2], (losses[0] - losses[1]) / (2 * step), rtol=1e-5)


def test_no_gradient_of_the_kernel_is_computed(fast, plain):
    assert "Conv2DBackpropFilter" in plain[2]
    assert "Conv2DBackpropFilter" not in fast[2]
    assert "Conv2DBackpropInput" in fast[2]


def test_nothing_of_a_traced_step_is_kept(fast):
    # As `tf.custom_gradient` would keep it, for the life of the process.
    before = set(ops.gradient_registry._registry)
    _step(fast[0])
    assert set(ops.gradient_registry._registry) == before


def test_the_remembered_mean_has_bias_and_shift_in_it(fast, plain):
    np.testing.assert_allclose(fast[3], plain[3], atol=1e-6)
    assert np.abs(fast[3]).min() > 1e-3


def test_a_scale_of_zero_has_a_finite_gradient():
    layer = _layer("float32")
    layer.scale.assign(np.zeros((1, 1, 1, 4)))
    (outputs, *gradients), _ = _step(layer)
    # y = gain * s c / sqrt(s^2 v + e) + offset, so at s = 0 its slope is gain * (c - mean c) / sqrt(e).
    generator = np.random.default_rng(0)
    images, cotangent = (generator.normal(size=(4, 6, 5, each)) for each in (3, 4))
    responses = tf.nn.conv2d(images, layer.kernel.numpy().astype(np.float64), 1, "SAME").numpy()
    centred = responses - responses.mean(axis=(0, 1, 2))
    expected = layer.norm.gamma.numpy() * np.sum(cotangent * centred, axis=(0, 1, 2)) / np.sqrt(_EPSILON)
    np.testing.assert_allclose(np.ravel(gradients[1]), expected, rtol=1e-4)
    np.testing.assert_allclose(outputs, np.broadcast_to([1.0, 2.0, 3.0, 4.0], outputs.shape), atol=1e-5)
