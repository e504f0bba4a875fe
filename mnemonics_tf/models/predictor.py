"""Inference over many images: embeddings and probabilities as NumPy arrays."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pipeline, pixels
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.tracking import Tracker
from mnemonics_tf.types import LabelledImages, PixelRange

_BATCH_SIZE = 250


class Predictor:
    """Runs a classifier in inference mode without augmentation. It is traced once and follows the weights.

    Args:
      model: must not change its trained set of weights (which is part of the trace) while this is in use.
      pixel_range: the normalisation of its input.
      tracker: shows progress.
    """

    def __init__(self, model: Classifier, pixel_range: PixelRange, tracker: Tracker):
        self.model = model
        self.pixel_range = pixel_range
        self._tracker = tracker
        shape = model.backbone.input_shape[1:]

        @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32)])
        def predict(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = model(images, training=False)
            return outputs.features, outputs.logits

        self._predict = predict

    def __call__(self, data: LabelledImages, stage: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings `[n, d]` and logits `[n, K + M]` of the images, in their order; `stage` names the progress bar."""
        features, logits = [], []
        with self._tracker.progress(stage, len(data), "images") as bar:
            for images in pipeline.evaluation_batches(data, _BATCH_SIZE):
                batch_features, batch_logits = self._predict(pixels.normalise(images, self.pixel_range))
                features.append(batch_features.numpy())
                logits.append(batch_logits.numpy())
                bar.update(len(batch_logits))
        return np.concatenate(features), np.concatenate(logits)

    def features(self, data: LabelledImages, stage: str) -> np.ndarray:
        """Embeddings `[n, d]`."""
        return self(data, stage)[0]
