"""Calls with given parameters, and gradients through trainings that are made of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel import InnerSGD, inner_plan, meta_gradient
from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call, parameters
from mnemonics_tf.models.heads import HEADS, CosineHead
from mnemonics_tf.models.layers import ConvNorm, FusedBatchNormalization
from mnemonics_tf.models.resnet import ResNet

_PLAN = np.array([[0, 1, 2], [3, 4, 0]])


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_model_of_ones_own_need_not_tell_training_from_inference():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    images = _normal(3, 4).astype(np.float32)
    expected = model(images)
    np.testing.assert_allclose(functional_call(model, parameters(model), images), expected, rtol=1e-6)


def _sequential(*layers: keras.Layer) -> keras.Model:
    """A smooth network in float64: `[B, 5, 5, 1]` to three logits, with `layers` after its convolution."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5, 5, 1), dtype="float64"),
            keras.layers.Conv2D(3, 3, dtype="float64"),
            *layers,
            keras.layers.Activation("gelu", dtype="float64"),
            keras.layers.GlobalAveragePooling2D(dtype="float64"),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )


def _stock_norm() -> keras.Layer:
    return keras.layers.BatchNormalization(dtype="float64", name="stock")


def _set_statistics(norm: keras.layers.BatchNormalization) -> None:
    """Off their defaults, as they are in a network that was trained."""
    generator = np.random.default_rng(7)
    norm.moving_mean.assign(generator.normal(size=norm.moving_mean.shape) * 0.1)
    norm.moving_variance.assign(generator.uniform(0.5, 2, size=norm.moving_variance.shape))


@pytest.fixture(scope="module")
def normalised_model():
    model = _sequential(FusedBatchNormalization(dtype="float64"))
    _set_statistics(model.layers[1])
    return model


def test_call_with_the_present_parameters_is_that_of_the_model(normalised_model):
    images = _normal(4, 5, 5, 1)
    outputs = functional_call(normalised_model, parameters(normalised_model), tf.constant(images))
    np.testing.assert_allclose(outputs, normalised_model(images), rtol=1e-12)


@pytest.mark.parametrize("batch_norm", ["frozen", "batch"])
def test_call_with_other_parameters_is_that_of_a_model_which_has_them_and_changes_nothing(batch_norm):
    model, changed = (_sequential(FusedBatchNormalization(dtype="float64")) for _ in range(2))
    for each in (model, changed):
        _set_statistics(each.layers[1])
    params = [tf.constant(_normal(*param.shape, seed=index)) for index, param in enumerate(parameters(model))]
    for variable, param in zip(changed.trainable_variables, params, strict=True):
        variable.assign(param)
    before = model.get_weights()
    images = _normal(4, 5, 5, 1)
    outputs = functional_call(model, params, tf.constant(images), batch_norm)
    np.testing.assert_allclose(outputs, changed(images, training=batch_norm == "batch"), rtol=1e-8)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_batch_norm_alone_works_as_in_training():
    # Dropout that drops (nearly) everything would leave no output standing.
    model = _sequential(FusedBatchNormalization(dtype="float64"), keras.layers.Dropout(0.999, dtype="float64"))
    without = _sequential(FusedBatchNormalization(dtype="float64"))
    images = tf.constant(_normal(4, 5, 5, 1))
    for batch_norm in ("frozen", "batch"):
        outputs, expected = (functional_call(each, parameters(model), images, batch_norm) for each in (model, without))
        np.testing.assert_allclose(outputs, expected, rtol=1e-12)


def test_parameters_are_the_trainable_variables_in_order(normalised_model):
    # Convolution and dense layer have a kernel and a bias each, batch norm gamma and beta.
    values = parameters(normalised_model)
    assert [value.shape for value in values] == [(3, 3, 1, 3), (3,), (3,), (3,), (3, 3), (3,)]
    np.testing.assert_array_equal(values[4], normalised_model.layers[-1].kernel)


def test_single_layer_can_be_called():
    head = CosineHead(0, 4)
    head.build((None, 3))
    kernel, features = _normal(3, 4).astype(np.float32), _normal(5, 3, seed=1).astype(np.float32)
    scores, logits = functional_call(head, [tf.constant(kernel), tf.constant(2.0)], tf.constant(features))
    lengths = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(scores, features @ kernel / lengths, atol=1e-6)
    np.testing.assert_allclose(logits, 2 * features @ kernel / lengths, atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_call_of_a_classifier_tells_all_that_the_classifier_does(head):
    network = ResNet(blocks=(1, 1), widths=(3, 4))
    keras.utils.set_random_seed(0)
    model, other = (
        Classifier(network.build((6, 6, 1), dtype="float64"), 2, 1, head, True, network.stage_outputs) for _ in range(2)
    )
    images = tf.constant(_normal(4, 6, 6, 1))
    outputs, expected = functional_call(model, parameters(other), images), other(images)
    for output, value in zip(outputs[:4], expected[:4], strict=True):
        np.testing.assert_allclose(output, value, rtol=1e-12)
    assert len(outputs.maps) == 2
    for output, value in zip(outputs.maps, expected.maps, strict=True):
        np.testing.assert_allclose(output, value, rtol=1e-12)


def test_single_layer_can_use_the_statistics_of_the_batch():
    layer = ConvNorm(2, 1, dtype="float64")
    layer.build((None, 4, 4, 3))
    kernel, images = _normal(1, 1, 3, 2), _normal(3, 4, 4, 3, seed=1)
    values = images @ kernel[0, 0]
    expected = (values - values.mean(axis=(0, 1, 2))) / np.sqrt(values.var(axis=(0, 1, 2)) + 1e-5)
    params = [tf.constant(kernel), tf.ones([2], tf.float64), tf.zeros([2], tf.float64)]
    np.testing.assert_allclose(functional_call(layer, params, tf.constant(images), "batch"), expected, rtol=1e-10)


def test_unknown_kind_of_statistics_names_the_nearest(normalised_model):
    with pytest.raises(UsageError, match=r"batch_norm = 'frozn': .* Did you mean 'frozen'"):
        functional_call(normalised_model, parameters(normalised_model), tf.zeros([1, 5, 5, 1], tf.float64), "frozn")


@pytest.mark.parametrize("nested", [False, True])
def test_stock_batch_norm_on_the_statistics_of_the_batch_is_refused(nested):
    inner = _sequential(_stock_norm())
    model = keras.Sequential([inner, keras.layers.Dense(2, dtype="float64")]) if nested else inner
    model.build((None, 5, 5, 1))
    images = tf.zeros([2, 5, 5, 1], tf.float64)
    with pytest.raises(
        UsageError, match=r"Layer 'stock' is Keras's .* second derivatives are wrong .*batch_norm='froz"
    ):
        functional_call(model, parameters(model), images, "batch")
    assert functional_call(model, parameters(model), images).shape == (2, 2 if nested else 3)


def _outer_loss(loss, params, exemplars, labels, images, image_labels, plan, rate):
    """Plain gradient descent on the exemplars, then the loss on images: written without the code under test."""
    theta = list(params)
    for indices in plan:
        with tf.GradientTape() as tape:
            tape.watch(theta)
            value = loss(theta, tf.gather(exemplars, indices), tf.gather(labels, indices))
        theta = [w - rate * gradient for w, gradient in zip(theta, tape.gradient(value, theta), strict=True)]
    return float(loss(theta, images, image_labels))


def _relative_error(loss, params, step, plan=_PLAN, size=5):
    """How far the meta-gradient is from a central difference of `step`, in a random direction."""
    exemplars, direction = _normal(5, size, size, 1, seed=2), _normal(5, size, size, 1, seed=3)
    labels, image_labels = tf.constant([0, 1, 2, 0, 1], tf.int64), tf.constant([0, 1, 2, 1], tf.int64)
    images = tf.constant(_normal(4, size, size, 1, seed=4))
    result = meta_gradient(
        loss, loss, params, tf.constant(exemplars), labels, plan, images, image_labels, sgd=InnerSGD(0.5)
    )
    plus, minus = (
        _outer_loss(loss, params, exemplars + sign * step * direction, labels, images, image_labels, plan, 0.5)
        for sign in (1, -1)
    )
    return abs((plus - minus) / (2 * step) / np.sum(result.exemplars * direction) - 1)


def _loss_of(call):
    """Mean cross-entropy of the logits that `call(params, images)` gives."""
    return lambda params, images, labels: tf.reduce_mean(losses.cross_entropy(call(params, images), labels))


@pytest.mark.parametrize("batch_norm", ["frozen", "batch"])
def test_meta_gradient_of_residual_network_agrees_with_finite_differences(batch_norm):
    keras.utils.set_random_seed(0)
    model = Classifier(ResNet(blocks=(1, 1), widths=(3, 4)).build((6, 6, 1), dtype="float64"), 0, 3)
    norms = [layer.norm for layer in model.backbone.layers if isinstance(layer, ConvNorm)]
    assert len(norms) == 6
    for norm in norms:
        _set_statistics(norm)
    loss = _loss_of(lambda params, images: functional_call(model, params, images, batch_norm).logits)
    # ReLUs have kinks, which a step this small does not cross.
    assert _relative_error(loss, parameters(model), step=1e-6, size=6) < 1e-6


def test_meta_gradient_through_batch_statistics_is_right_and_through_those_of_keras_wrong():
    # The trap: tf.nn.moments, which Keras's batch norm trains with, holds the mean inside the variance constant. That
    # is right for first derivatives alone.
    model, stock = _sequential(FusedBatchNormalization(dtype="float64")), _sequential(_stock_norm())
    states = [tf.convert_to_tensor(variable) for variable in stock.non_trainable_variables]

    def stock_call(params, images):
        return stock.stateless_call(params, states, images, training=True)[0]

    params, images = parameters(model), tf.constant(_normal(4, 5, 5, 1))
    ours = functional_call(model, params, images, "batch")
    np.testing.assert_allclose(ours, stock_call(params, images), rtol=1e-10, atol=1e-12)
    loss = _loss_of(lambda params, images: functional_call(model, params, images, "batch"))
    assert _relative_error(loss, params, step=1e-4) < 1e-6
    assert _relative_error(_loss_of(stock_call), params, step=1e-4) > 1e-5


def test_users_own_model_is_differentiated_as_the_docstring_shows():
    model = _sequential()
    params = parameters(model)

    def loss(params, images, labels):
        logits = functional_call(model, params, images)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    plan = inner_plan(5, num_steps=3, batch_size=2, generator=np.random.default_rng(0))
    assert _relative_error(loss, params, step=1e-4, plan=plan) < 1e-6


def test_exemplars_that_follow_their_gradient_train_a_better_model():
    model = _sequential()
    loss = _loss_of(lambda params, images: functional_call(model, params, images))
    exemplars = tf.Variable(_normal(5, 5, 5, 1, seed=2))
    labels = tf.constant([0, 1, 2, 0, 1], tf.int64)
    images = tf.constant(_normal(5, 5, 5, 1, seed=4))
    values = []
    for _ in range(3):
        result = meta_gradient(
            loss, loss, parameters(model), exemplars, labels, _PLAN, images, labels, sgd=InnerSGD(0.5)
        )
        exemplars.assign_sub(result.exemplars)
        values.append(float(result.loss))
    assert values[0] > values[1] > values[2]
