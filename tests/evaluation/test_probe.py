"""Probes of exemplar sets on a small network."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.evaluation.probe import probe_exemplars
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loop import Trainer

FACTORY = ClassifierFactory(ResNet((1,), (8,)), (6, 6, 1))
TRAINER = Trainer(tf.distribute.get_strategy(), PixelRange((0.5,), (0.25,)), Augmentation(), Tracker())
PROBE = Probe(repeats=2, batch_size=6, epochs=20, learning_rate=0.5, scratch_epochs=20, scratch_learning_rate=0.1)


def _bright_rows(per_class: int, seed: int) -> LabelledImages:
    """Classes 2, 3 and 4 of a network with 2 old ones: a bright row at the top, in the middle, at the bottom."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([2, 3, 4], per_class)
    images = generator.normal(100, 20, (len(labels), 6, 6, 1))
    for label in (2, 3, 4):
        images[labels == label, 2 * (label - 2)] += 100
    return LabelledImages(np.clip(images, 0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return FACTORY.build(2, 3)


@pytest.fixture(scope="module")
def probed(model):
    return probe_exemplars(model, _bright_rows(8, 0), _bright_rows(50, 1), FACTORY, TRAINER, PROBE, seed=0)


def test_loss_and_accuracy_of_the_network_itself(model, probed):
    held_out = _bright_rows(50, 1)
    logits = model((held_out.images.astype(np.float32) / 255 - 0.5) / 0.25).logits.numpy().astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(150), held_out.labels]).mean()
    assert probed["network_loss"] == pytest.approx(loss, rel=1e-4)
    assert probed["network_accuracy"] == pytest.approx(100 * (logits.argmax(axis=1) == held_out.labels).mean())


def test_good_exemplars_train_good_models(probed):
    assert probed["finetuned_loss"] < probed["network_loss"] - 0.2
    assert probed["finetuned_accuracy"] > 80
    assert probed["scratch_accuracy"] > 80


def test_mislabelled_exemplars_are_found_out(model, probed):
    exemplars = _bright_rows(8, 0)
    wrong = LabelledImages(exemplars.images, (exemplars.labels - 1) % 3 + 2)
    probed_wrong = probe_exemplars(model, wrong, _bright_rows(50, 1), FACTORY, TRAINER, PROBE, seed=0)
    assert probed_wrong["finetuned_loss"] > probed["finetuned_loss"] + 0.2
    assert probed_wrong["scratch_accuracy"] < 20


def test_probing_leaves_the_network_alone(model):
    before = [weight.copy() for weight in model.get_weights()]
    short = dataclasses.replace(PROBE, repeats=1, epochs=1, scratch_epochs=0)
    results = probe_exemplars(model, _bright_rows(8, 0), _bright_rows(50, 1), FACTORY, TRAINER, short, seed=0)
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    # One repeat gives no interval, and zero epochs no probe from scratch.
    assert set(results) == {"network_loss", "network_accuracy", "finetuned_loss", "finetuned_accuracy"}


def test_soft_labels_are_what_is_trained_on(model, probed):
    exemplars = _bright_rows(8, 0)
    # Uniform over the three classes: nothing to learn from.
    uniform = np.tile(np.array([0, 0, 1, 1, 1], np.float32) / 3, (24, 1))
    soft = LabelledImages(exemplars.images, exemplars.labels, uniform)
    results = probe_exemplars(model, soft, _bright_rows(50, 1), FACTORY, TRAINER, PROBE, seed=0)
    # The best that can be learned is a loss of log 3.
    assert results["scratch_loss"] == pytest.approx(math.log(3), abs=0.1)
    assert results["finetuned_loss"] > probed["finetuned_loss"] + 0.2


@pytest.mark.parametrize(
    "settings", [{"repeats": 0}, {"epochs": 0}, {"scratch_epochs": -1}, {"learning_rate": 0.0}, {"enabled": 1}], ids=str
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match=rf"Probe\.{next(iter(settings))}"):
        Probe(**settings)
