"""The training loop: its updates, its traces, its seeds."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.checks import DivergedError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.methods.gradient_noise import GradientNoise
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loop import CompiledStep, Trainer
from mnemonics_tf.training.settings import ModelLevel

PIXELS = PixelRange((0.0,), (1.0,))


@pytest.fixture(scope="module")
def strategy():
    return devices.Devices().create_strategy()


@pytest.fixture
def model(strategy):
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        return ClassifierFactory(ResNet((1,), (2,)), (4, 4, 1), "per_neuron").build(2, 1)


def some_data(count):
    generator = np.random.default_rng(0)
    return LabelledImages(generator.integers(0, 256, (count, 4, 4, 1), np.uint8), generator.integers(0, 3, count))


def trainer(strategy):
    return Trainer(strategy, PIXELS, Augmentation(), Tracker())


def cross_entropy_in_inference_mode(model, traces=None):
    def batch_losses(images, labels):
        if traces is not None:
            traces.append(images.shape)
        logits = model(images, training=False).logits
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(logits, labels))}

    return batch_losses


def test_steps_are_those_of_sgd_with_momentum_and_l2_penalty(model, strategy):
    data = some_data(5)
    model.train_all()
    expected = [variable.numpy() for variable in model.trainable_variables]
    velocity = [np.zeros_like(value) for value in expected]
    reference = ClassifierFactory(ResNet((1,), (2,)), (4, 4, 1), "per_neuron").build(2, 1)
    reference.set_weights(model.get_weights())
    reference.train_all()
    for rate in (0.1, 0.1, 0.05):  # one batch an epoch; the rate halves after two
        with tf.GradientTape() as tape:
            logits = reference(data.images.astype(np.float32) / 255).logits
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(data.labels, logits))
        for i, gradient in enumerate(tape.gradient(loss, reference.trainable_variables)):
            velocity[i] = 0.9 * velocity[i] - rate * (gradient.numpy() + 0.01 * expected[i])
            expected[i] = expected[i] + velocity[i]
            reference.trainable_variables[i].assign(expected[i])
    settings = ModelLevel(
        epochs=3, batch_size=8, learning_rate=0.1, milestones=(2,), decay=0.5, momentum=0.9, weight_decay=0.01
    )
    trainer(strategy).fit(model, cross_entropy_in_inference_mode(model), data, settings, "train_model", seed=0)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, atol=1e-5)


def test_step_is_traced_once_though_the_last_batch_is_smaller(model, strategy):
    traces = []
    settings = ModelLevel(epochs=2, batch_size=4, milestones=())
    batch_losses = cross_entropy_in_inference_mode(model, traces)
    trainer(strategy).fit(model, batch_losses, some_data(10), settings, "train_model", seed=0)
    assert len(traces) == 1


def test_a_compiled_step_is_taken_over_and_all_else_begins_anew(model, strategy):
    traces, compiled = [], CompiledStep()
    start, data = model.get_weights(), some_data(10)
    batch_losses = cross_entropy_in_inference_mode(model, traces)
    # Momentum and a falling rate would be seen, if they were taken over.
    settings = ModelLevel(epochs=2, batch_size=4, learning_rate=0.1, milestones=(1,), decay=0.1)
    found = []
    for seed, kept in ((0, compiled), (1, compiled), (1, None)):
        model.set_weights(start)
        trainer(strategy).fit(model, batch_losses, data, settings, "train_model", seed, compiled=kept)
        found.append(model.get_weights())
    assert len(traces) == 2
    for _, second, alone in zip(*found, strict=True):
        np.testing.assert_array_equal(second, alone)
    # Another seed is another order of batches.
    assert any(not np.array_equal(first, second) for first, second, _ in zip(*found, strict=True))


def test_nothing_keeps_the_traced_step_once_the_training_is_over(model, strategy):
    graphs = []
    plain = cross_entropy_in_inference_mode(model)

    def batch_losses(images, labels):
        graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
        return plain(images, labels)

    settings = ModelLevel(epochs=1, batch_size=8, milestones=())
    trainer(strategy).fit(model, batch_losses, some_data(8), settings, "train_model", seed=0)
    gc.collect()
    assert [graph() for graph in graphs] == [None]


def test_weight_transfer_trains_scales_without_pulling_them_to_zero(model, strategy):
    model.train_phase(transferring=True, old_head=False)
    kernels = [layer.kernel.numpy() for layer in model.scale_shift_layers]
    old_kernel = model.head.old_kernel.numpy()
    settings = ModelLevel(epochs=1, batch_size=16, learning_rate=1e-9, weight_decay=1e8, milestones=())
    batch_losses = cross_entropy_in_inference_mode(model)
    trainer(strategy).fit(model, batch_losses, some_data(8), settings, "train_model", seed=0)
    for layer, kernel in zip(model.scale_shift_layers, kernels, strict=True):
        np.testing.assert_array_equal(layer.kernel.numpy(), kernel)
        # Rate times decay is 0.1: a penalised scale would be at 0.9 now.
        np.testing.assert_allclose(layer.scale.numpy(), 1.0, atol=1e-6)
    np.testing.assert_array_equal(model.head.old_kernel.numpy(), old_kernel)
    assert abs(float(model.head.eta.numpy()) - 0.9) < 1e-5  # eta is penalised


def test_nan_stops_training_and_names_the_stage(model, strategy):
    settings = ModelLevel(epochs=3, batch_size=4, milestones=())

    def batch_losses(images, labels):
        total = runtime.global_mean(losses.cross_entropy(model(images).logits, labels))
        return {"cross_entropy": total * np.nan}

    with pytest.raises(DivergedError, match="cross_entropy became nan in stage train_model, epoch 1 of 3"):
        trainer(strategy).fit(model, batch_losses, some_data(8), settings, "train_model", seed=0)


def test_gradient_noise_is_added_to_every_gradient_before_the_step(model, strategy):
    model.train_all()
    weights = model.get_weights()
    noise = GradientNoise(0.3, 0.55)
    # One step of plain gradient descent: the weights differ by rate times noise.
    settings = ModelLevel(epochs=1, batch_size=8, learning_rate=0.5, milestones=(), momentum=0.0, weight_decay=0.0)
    moved = []
    for added in (None, noise):
        model.set_weights(weights)
        batch_losses = cross_entropy_in_inference_mode(model)
        trainer(strategy).fit(model, batch_losses, some_data(8), settings, "train_model", 3, added)
        moved.append([variable.numpy() for variable in model.trainable_variables])
    draws = noise.add([tf.zeros(value.shape) for value in moved[0]], tf.constant(0, tf.int64), 3)
    for without, with_noise, draw in zip(*moved, draws, strict=True):
        np.testing.assert_allclose(without - with_noise, 0.5 * draw.numpy(), atol=1e-5)
