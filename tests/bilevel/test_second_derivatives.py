"""Models that TensorFlow does not differentiate twice, or not rightly: made right, or refused with a reason."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from mnemonics_tf.bilevel import InnerSGD, MetaGradientEngine
from mnemonics_tf.bilevel.kinds import Adjoint
from mnemonics_tf.losses import cross_entropy
from mnemonics_tf.models.functional import functional_call, parameters

_PLAN = np.array([[0, 1, 2, 3], [2, 3, 4, 5]])
_LABELS = tf.constant([0, 1, 2, 0, 1, 2], tf.int64)
_WALKS = ("adjoint", "adjoint_forward", "unrolled")


def _images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, 6, 6, 2)).astype(np.float32)


def _network(layer):
    """A smooth network with `layer` behind its convolution: `(loss, theta_0)`."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3, padding="same", activation="tanh"),
            layer,
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )

    def loss(params, images, labels):
        return tf.reduce_mean(cross_entropy(functional_call(model, params, images), labels))

    return loss, parameters(model)


def _meta_gradient(engine, loss, params):
    engine = MetaGradientEngine(loss, loss, InnerSGD(0.3), engine)
    return engine(params, tf.constant(_images(0)), _LABELS, _PLAN, tf.constant(_images(1)), _LABELS)


def _outer_loss(loss, params, exemplars):
    for rows in _PLAN:
        with tf.GradientTape() as tape:
            tape.watch(params)
            value = loss(params, tf.gather(exemplars, rows), tf.gather(_LABELS, rows))
        params = [param - 0.3 * g for param, g in zip(params, tape.gradient(value, params), strict=True)]
    return float(loss(params, tf.constant(_images(1)), _LABELS))


@pytest.mark.parametrize(
    ("layer", "engines"),
    [
        # Activations that are kept are differentiated by TensorFlow's gradients of functions, which know no tapes.
        (keras.layers.UpSampling2D(interpolation="bilinear"), (Adjoint(keep_activations=2), "adjoint_forward")),
        (keras.layers.Resizing(9, 4), ("adjoint", "unrolled")),
    ],
    ids=["UpSampling2D", "Resizing"],
)
def test_bilinear_resizing_is_differentiated_twice(layer, engines):
    # Without the derivative that TensorFlow lacks all engines are 30 % off here, and agree.
    loss, params = _network(layer)
    direction = np.random.default_rng(2).normal(size=_images(0).shape).astype(np.float32)
    plus, minus = (_outer_loss(loss, params, _images(0) + sign * 0.02 * direction) for sign in (1, -1))
    for engine in engines:
        analytic = float(np.sum(_meta_gradient(engine, loss, params).exemplars * direction))
        assert analytic == pytest.approx((plus - minus) / 0.04, rel=0.01), engine


def test_bilinear_resizing_leaves_nothing_in_the_list_of_gradients():
    loss, params = _network(keras.layers.UpSampling2D(interpolation="bilinear"))
    MetaGradientEngine(loss, loss, InnerSGD(0.3))
    before = len(ops.gradient_registry._registry)
    with tf.GradientTape() as outer:
        outer.watch(params)
        with tf.GradientTape() as inner:
            inner.watch(params)
            value = loss(params, tf.constant(_images(0)), _LABELS)
        gradients = inner.gradient(value, params)
    assert all(each is not None for each in outer.gradient(gradients, params))
    assert len(ops.gradient_registry._registry) == before


def test_first_derivative_of_bilinear_resizing_is_what_it_was():
    # The layer's Jacobian in NumPy: resizing is linear, so its columns are the resized unit images.
    MetaGradientEngine(*_network(keras.layers.Flatten())[:1] * 2, InnerSGD(0.3))
    columns = tf.image.resize(tf.reshape(tf.eye(12), [12, 4, 3, 1]), (7, 5)).numpy().reshape(12, 35)
    upstream = np.random.default_rng(0).normal(size=(1, 7, 5, 1)).astype(np.float32)
    images = tf.ones([1, 4, 3, 1])
    with tf.GradientTape() as tape:
        tape.watch(images)
        resized = tf.image.resize(images, (7, 5))
    gradient = tape.gradient(resized, images, output_gradients=tf.constant(upstream))
    np.testing.assert_allclose(np.ravel(gradient), columns @ upstream.ravel(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", _WALKS)
def test_missing_derivative_inside_a_layer_is_explained_alike_by_every_engine(engine):
    with pytest.raises(
        ValueError, match=r"cannot be differentiated twice \(gradient registry .*ResizeNearestNeighborGrad\)"
    ):
        _meta_gradient(engine, *_network(keras.layers.Resizing(5, 5, interpolation="nearest")))


def _dense_loss(hidden):
    """The loss of a network of two dense layers with `hidden` between them."""

    def loss(params, images, labels):
        values = hidden(tf.tanh(tf.reshape(images, [-1, 72]) @ params[0]))
        return tf.reduce_mean(cross_entropy(tf.sin(values) @ params[1], labels))

    generator = np.random.default_rng(0)
    return loss, [tf.constant(generator.normal(size=shape) / 4, tf.float32) for shape in ((72, 5), (5, 3))]


@tf.custom_gradient
def _straight_through(values):
    return tf.identity(values), tf.stop_gradient


@pytest.mark.parametrize(
    ("hidden", "named"),
    [
        (tf.quantization.fake_quant_with_min_max_args, "FakeQuantWithMinMaxArgsGradient"),
        (_straight_through, "look for custom gradients"),
    ],
    ids=["declared", "custom"],
)
@pytest.mark.parametrize("engine", _WALKS)
def test_operation_that_is_taken_for_a_constant_is_refused_by_every_engine(engine, hidden, named):
    with pytest.raises(ValueError, match=f"second derivatives of the inner loss are wrong: .*{named}.*'head'"):
        _meta_gradient(engine, *_dense_loss(hidden))


@tf.custom_gradient
def _quantised(values):
    """Right for tapes: the operation that TensorFlow takes for a constant has a derivative by what comes in."""

    @tf.custom_gradient
    def passed(upstream):
        return _pass(upstream), _pass

    def _pass(upstream):
        return tf.raw_ops.FakeQuantWithMinMaxArgsGradient(gradients=upstream, inputs=values)

    return tf.quantization.fake_quant_with_min_max_args(values), passed


def test_forward_mode_that_loses_tangents_is_refused():
    with pytest.raises(ValueError, match=r"'adjoint_forward' is wrong .*% off") as raised:
        _meta_gradient("adjoint_forward", *_dense_loss(_quantised))
    assert "FakeQuantWithMinMaxArgsGradient for a constant" in str(raised.value)
    assert "Use the engine 'adjoint'" in str(raised.value)


@pytest.mark.parametrize(
    "hidden",
    [
        lambda values: tf.map_fn(tf.sin, values),
        lambda values: tf.scatter_nd(tf.range(values.shape[0])[:, None], tf.sin(values), tf.shape(values)),
    ],
    ids=["map_fn", "scatter_nd"],
)
def test_operation_unknown_to_forward_mode_is_no_riddle(hidden):
    loss, params = _dense_loss(hidden)
    with pytest.raises(ValueError, match=r"forward mode fails .*Use the engine 'adjoint'"):
        _meta_gradient("adjoint_forward", loss, params)
    expected = _meta_gradient("adjoint", *_dense_loss(tf.sin)).exemplars
    np.testing.assert_allclose(_meta_gradient("adjoint", loss, params).exemplars, expected, rtol=1e-3, atol=1e-8)


def test_half_precision_is_no_wrong_derivative():
    def halved(values):
        return tf.cast(tf.sin(tf.cast(values, tf.bfloat16)), tf.float32)

    assert np.isfinite(_meta_gradient("adjoint_forward", *_dense_loss(halved)).exemplars).all()


@pytest.mark.parametrize("engine", ["adjoint", "adjoint_forward"])
def test_network_that_is_sure_of_its_exemplars_is_not_refused(engine):
    # Probabilities within rounding of 0 and 1: the curvature of cross-entropy is rounding, too.
    loss, params = _dense_loss(tf.sin)
    labels = tf.argmax(tf.sin(tf.tanh(tf.reshape(_images(0), [-1, 72]) @ params[0])) @ params[1], axis=1)
    for scale in (30.0, 100.0, 300.0):
        sure = [params[0], scale * params[1]]
        compute = MetaGradientEngine(loss, loss, InnerSGD(0.1), engine)
        compute(sure, tf.constant(_images(0)), labels, _PLAN, tf.constant(_images(1)), _LABELS)


def test_model_is_looked_at_once():
    calls = []
    loss, params = _dense_loss(tf.sin)

    def counted(*arguments):
        calls.append(tf.executing_eagerly())
        return loss(*arguments)

    engine = MetaGradientEngine(counted, loss, InnerSGD(0.3))
    arguments = (params, tf.constant(_images(0)), _LABELS, _PLAN, tf.constant(_images(1)), _LABELS)
    engine(*arguments)
    engine(*arguments)
    assert sum(calls) == 1
