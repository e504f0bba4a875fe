"""Passes over more images than a batch holds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.system.tracking import Tracker

_COUNT = 1111  # four batches and a part of one


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """Of a network whose embedding is the mean of each channel."""
    pixels = keras.Input((4, 4, 3))
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels))
    model = ClassifierFactory(Backbone(network, preprocess="data"), (4, 4, 3)).build(0, 2)
    return Predictor(model, PixelRange((0.25,) * 3, (0.5,) * 3), Tracker())


def _images() -> LabelledImages:
    images = np.random.default_rng(0).integers(0, 256, (_COUNT, 4, 4, 3)).astype(np.uint8)
    return LabelledImages(images, np.zeros(_COUNT, np.int64))


def _expected(data: LabelledImages) -> np.ndarray:
    return (data.array.mean(axis=(1, 2)) / 255 - 0.25) / 0.5


def test_every_image_is_answered_in_its_place(predictor):
    data = _images()
    features, logits = predictor(data, "evaluate")
    np.testing.assert_allclose(features, _expected(data), atol=1e-5)
    np.testing.assert_array_equal(logits, predictor(data, "evaluate")[1])
    np.testing.assert_array_equal(features, predictor.features(data, "evaluate"))


def test_an_error_of_a_later_batch_is_told(predictor, monkeypatch):
    function, calls = predictor._function, []

    def failing(*args):
        predict = function(*args)

        def call(images):
            calls.append(len(images))
            if len(calls) == 3:
                raise tf.errors.ResourceExhaustedError(None, None, "no memory is left")
            return predict(images)

        return call

    monkeypatch.setattr(predictor, "_function", failing)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="no memory is left"):
        predictor(_images(), "evaluate")
