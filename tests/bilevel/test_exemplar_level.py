"""Learning and adjusting exemplars on a small network."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.bilevel.exemplar_level import ExemplarLevel, ExemplarOptimiser, split_within_classes
from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.tracking import Tracker
from mnemonics_tf.types import LabelledImages, PixelRange

PIXELS = PixelRange((0.5,), (0.25,))
SETTINGS = ExemplarLevel(
    epochs=15,
    learning_rate=20.0,
    adjust_learning_rate=20.0,
    batch_size=90,
    inner_steps=3,
    inner_batch_size=4,
    inner_learning_rate=0.1,
)


def three_classes(per_class: int, seed: int) -> LabelledImages:
    """Noisy 6x6 images of three classes: a bright row at the top, in the middle or at the bottom."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    images = generator.normal(110, 40, (len(labels), 6, 6, 1))
    for label in range(3):
        images[labels == label, 2 * label] += 60
    return LabelledImages(np.clip(images, 0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(0, 3)


@pytest.fixture(scope="module")
def optimiser(model):
    return ExemplarOptimiser(model, PIXELS, SETTINGS, Tracker())


def loss_after_training_on(model, exemplars, held_out):
    """Held-out loss after plain gradient descent on the exemplars, without the code under test."""
    copy = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(0, 3)
    copy.set_weights(model.get_weights())

    def loss(data):
        logits = copy((data.images.astype(np.float32) / 255 - 0.5) / 0.25).logits
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(data.labels, logits))

    for step in range(SETTINGS.inner_steps):
        batch = exemplars.take(np.arange(step, 12, SETTINGS.inner_steps))
        with tf.GradientTape() as tape:
            value = loss(batch)
        for variable, gradient in zip(
            copy.trainable_variables, tape.gradient(value, copy.trainable_variables), strict=True
        ):
            variable.assign_sub(0.1 * gradient)
    return float(loss(held_out))


def test_learned_exemplars_train_a_better_model(optimiser, model):
    initial = three_classes(4, seed=1)
    learned = optimiser.learn(initial, three_classes(60, seed=2), np.random.default_rng(0))
    held_out = three_classes(100, seed=3)
    before, after = (loss_after_training_on(model, exemplars, held_out) for exemplars in (initial, learned))
    assert after < before - 0.01


def test_learned_exemplars_are_storable_and_the_network_is_untouched(optimiser, model):
    weights = [weight.copy() for weight in model.get_weights()]
    initial = three_classes(4, seed=1)
    learned = optimiser.learn(initial, three_classes(60, seed=2), np.random.default_rng(0))
    assert learned.images.dtype == np.float32
    assert learned.images.min() >= 0
    assert learned.images.max() <= 255
    np.testing.assert_array_equal(learned.labels, initial.labels)
    assert np.abs(learned.images - initial.images).max() > 1  # survives rounding to uint8
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_adjusting_changes_every_class_and_keeps_the_order(optimiser):
    old = three_classes(4, seed=1)
    adjusted = optimiser.adjust(old, np.random.default_rng(0))
    np.testing.assert_array_equal(adjusted.labels, old.labels)
    change = np.abs(adjusted.images - old.images).max(axis=(1, 2, 3))
    assert (change > 0.1).all()


def test_same_seed_gives_the_same_exemplars(optimiser):
    initial, data = three_classes(4, seed=1), three_classes(60, seed=2)
    first, second = (optimiser.learn(initial, data, np.random.default_rng(7)).images for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_parts_hold_every_class_and_are_disjoint():
    labels = np.array([0] * 5 + [1] * 4 + [2] * 7)
    parts = split_within_classes(labels, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(16))
    # 5 = 2+2+1, 4 = 2+1+1, 7 = 3+2+2: shares of a class differ by one at most.
    for part in parts:
        counts = np.bincount(labels[part], minlength=3)
        assert (counts >= [1, 1, 2]).all()
        assert (counts <= [2, 2, 3]).all()


def test_class_with_too_few_exemplars_cannot_be_split():
    with pytest.raises(ValueError, match="Class index 1 has 1 exemplars"):
        split_within_classes(np.array([0, 0, 1]), 2, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", "adjont"), ("inner_steps", 0), ("learning_rate", 0.0), ("num_parts", 1), ("inner_momentum", 1.0)],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(UsageError, match=f"ExemplarLevel.{name}"):
        ExemplarLevel(**{name: value})
