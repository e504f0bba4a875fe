"""The head that is fitted in closed form: what it reads, and its random units."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.fitted_head import FittedHead, pooled, pooled_width
from mnemonics_tf.models.resnet import ResNet


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_each_part_is_pooled_to_cells_and_brought_to_length_1():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 5)).astype(np.float32)
    even, odd, single = (generator.normal(size=(2, *shape)).astype(np.float32) for shape in
                         ((4, 6, 3), (3, 2, 2), (1, 1, 4)))  # fmt: skip
    single[:, :, :, 0] += 5  # not all of it below 0
    rectified = [np.maximum(each, 0) for each in (even, odd, single)]
    halves = [rectified[0][:, rows, columns].mean(axis=(1, 2)) for rows in (slice(0, 2), slice(2, 4))
              for columns in (slice(0, 3), slice(3, 6))]  # fmt: skip
    # Three rows: both halves have the middle one.
    shared = [rectified[1][:, rows, column] for rows in ([0, 1], [1, 2]) for column in (0, 1)]
    expected = np.concatenate(
        [
            _unit(features),
            _unit(np.concatenate(halves, axis=1)),
            _unit(np.concatenate([each.mean(axis=1) for each in shared], axis=1)),
            _unit(rectified[2][:, 0, 0]),
        ],
        axis=1,
    )
    found = pooled(tf.constant(features), [tf.constant(each) for each in (even, odd, single)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert pooled_width(5, [(4, 6, 3), (3, 2, 2), (1, 1, 4)]) == found.shape[1] == 5 + 12 + 8 + 4


def test_logits_are_the_gain_times_a_linear_map_of_rectified_units():
    head = FittedHead(2, 1, 6)
    head.build((None, 4))
    kernel = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    head.set_fitted(kernel, 2.5)
    x = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    units = np.maximum(x @ head.projection.numpy(), 0)
    scores, logits = head(tf.constant(x))
    np.testing.assert_allclose(logits, 2.5 * units @ kernel, rtol=1e-4)
    np.testing.assert_allclose(scores, _unit(units) @ _unit(kernel.T).T, rtol=1e-4)
    assert head.trainable_variables == []


@pytest.mark.parametrize("network", [ResNet((1, 1), (4, 6)), ResNet((1,), (4,), "7x7", embedding_dim=3)])
def test_classifier_with_a_fitted_head_grows_and_is_copied_with_its_units(network):
    factory = ClassifierFactory(network, (8, 8, 3), num_units=5)
    assert not isinstance(factory.trained.build(0, 2).head, FittedHead)
    model = factory.build(0, 2)
    model.head.set_fitted(np.random.default_rng(3).normal(size=(5, 2)), 3.0)
    images = tf.constant(np.random.default_rng(4).normal(size=(2, 8, 8, 3)), tf.float32)
    units, logits = model.units(images), model(images).logits
    np.testing.assert_allclose(logits, 3 * units @ model.head.by_class("kernel"), rtol=1e-5)
    grown, copy = factory.grow(model, 2), factory.copy(model)
    np.testing.assert_array_equal(grown.units(images), units)
    np.testing.assert_array_equal(grown(images).logits, np.pad(logits, [(0, 0), (0, 2)]))
    np.testing.assert_array_equal(copy(images).logits, logits)
