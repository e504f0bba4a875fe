"""What exemplars are optimised for: losses, and where the temporary training starts."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.optimising.objectives import HeadOnFeatures, NearestMean, WholeNetwork, objective_for
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet

IMAGES = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 2])


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(1, 2)


def _cross_entropy(logits: np.ndarray) -> float:
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), LABELS]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, WholeNetwork),
        ({"engine": "unrolled"}, WholeNetwork),
        ({"engine": "truncated", "window": 2}, WholeNetwork),
        ({"engine": "head"}, HeadOnFeatures),
        ({"engine": "prototype"}, NearestMean),
    ],
    ids=str,
)
def test_objective_is_chosen_by_what_the_engine_trains(model, settings, expected):
    assert type(objective_for(model, ExemplarLevel(**settings))) is expected


def test_whole_network_starts_from_the_network_and_its_cross_entropy(model):
    objective = WholeNetwork(model, "frozen")
    for loss in (objective.inner_loss, objective.outer_loss):
        value = float(loss(objective.start(), tf.constant(IMAGES), tf.constant(LABELS)))
        assert value == pytest.approx(_cross_entropy(model(IMAGES, training=False).logits.numpy()), rel=1e-5)
    assert len(objective.start()) == len(model.trainable_variables)
    assert objective.features is None


def test_head_on_features_is_the_same_loss_by_fewer_parameters(model):
    objective = HeadOnFeatures(model)
    features = objective.features(tf.constant(IMAGES))
    value = float(objective.inner_loss(objective.start(), features, tf.constant(LABELS)))
    assert value == pytest.approx(_cross_entropy(model(IMAGES, training=False).logits.numpy()), rel=1e-5)
    assert len(objective.start()) == len(model.head.trainable_variables)


def test_nearest_mean_compares_cosines_at_the_scale_of_the_head(model):
    objective = NearestMean(model)
    generator = np.random.default_rng(1)
    features, means = generator.normal(size=(5, 6)).astype(np.float32), generator.normal(size=(6, 3))
    value = float(objective.outer_loss([tf.constant(means, tf.float32)], tf.constant(features), tf.constant(LABELS)))
    cosines = features / np.linalg.norm(features, axis=1, keepdims=True) @ means
    assert value == pytest.approx(_cross_entropy(float(model.head.eta) * cosines), rel=1e-5)
    assert objective.start() == []


def test_all_data_validate(model):
    data = LabelledImages(IMAGES, LABELS)
    assert WholeNetwork(model, "frozen").validation(data) is data
