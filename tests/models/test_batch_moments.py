"""Derivatives that are written down, against what tapes make of elementary operations in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.models import batch_moments

_EPSILON = 1e-2  # large, so that it counts


def _elementary(x, gamma, beta):
    mean = tf.reduce_mean(x, [0, 1, 2])
    variance = tf.reduce_mean((x - mean) ** 2, [0, 1, 2])
    return gamma * (x - mean) / tf.sqrt(variance + _EPSILON) + beta


def _written_down(x, gamma, beta):
    return batch_moments.normalised(x, gamma, beta, _EPSILON)


@pytest.fixture(scope="module")
def numbers():
    """x, gamma, beta, weights of y, and adjoints of the gradients by x, gamma and beta."""
    generator = np.random.default_rng(0)
    shapes = [(3, 4, 5, 2), (2,), (2,), (3, 4, 5, 2), (3, 4, 5, 2), (2,), (2,)]
    return [generator.normal(size=shape) + 0.5 for shape in shapes]


def _derivatives(function, numbers, dtype):
    """y, its gradients, and theirs, of a nonlinear function of y: all that a meta-gradient is made of."""
    x, gamma, beta, weights, *adjoints = (tf.convert_to_tensor(each, dtype) for each in numbers)
    inputs = [x, gamma, beta, weights]
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            y = function(x, gamma, beta)
            value = tf.reduce_sum(weights * tf.tanh(y))
        first = inner.gradient(value, inputs[:3])
        product = tf.add_n([tf.reduce_sum(g * a) for g, a in zip(first, adjoints, strict=True)])
    return [y, *first, *outer.gradient(product, inputs)]


def _assert_close(found, expected, tolerance):
    assert np.linalg.norm(found.numpy() - expected.numpy()) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float64, 1e-12), (tf.float32, 2e-5)])
def test_first_and_second_derivatives_are_those_of_elementary_operations(numbers, dtype, tolerance):
    expected = _derivatives(_elementary, numbers, tf.float64)
    found = _derivatives(_written_down, numbers, dtype)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        _assert_close(ours, theirs, tolerance)


def test_single_precision_in_a_graph_of_unknown_batch(numbers):
    expected = _derivatives(_elementary, numbers, tf.float64)
    x, *rest = numbers
    compiled = tf.function(
        lambda x: _derivatives(_written_down, [x, *rest], tf.float32),
        input_signature=[tf.TensorSpec([None, 4, 5, 2])],
        autograph=False,
    )
    for ours, theirs in zip(compiled(tf.constant(x, tf.float32)), expected, strict=True):
        _assert_close(ours, theirs, 2e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float64, 1e-10), (tf.float32, 2e-4)])
def test_forward_mode_over_a_tape_finds_the_same(numbers, dtype, tolerance):
    def along(function, dtype):
        x, gamma, beta, weights, *directions = (tf.constant(each, dtype) for each in numbers)
        inputs = [x, gamma, beta]
        with tf.autodiff.ForwardAccumulator(inputs, directions) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = tf.reduce_sum(weights * tf.tanh(function(*inputs)))
            gradients = tape.gradient(value, inputs)
        return [accumulator.jvp(gradient) for gradient in gradients]

    for ours, theirs in zip(along(_written_down, dtype), along(_elementary, tf.float64), strict=True):
        _assert_close(ours, theirs, tolerance)
