"""Inference over many images: embeddings and probabilities as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from mnemonics_tf import runtime
from mnemonics_tf.data import pipeline, pixels
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system.tracking import Tracker

_BATCH_SIZE = 250


class Predictor:
    """Runs a classifier in inference mode without augmentation. It is traced once and follows the weights.

    Args:
      model: the network. Which of its weights are trained must not change while this is in use, as that is part of the
        trace.
      pixel_range: how pixels 0..255 are normalised to be the network's input.
      tracker: shows progress.
      strategy: the one whose replicas share the images. None, the default, for the strategy in whose scope this is
        made.
    """

    def __init__(
        self,
        model: Classifier,
        pixel_range: PixelRange,
        tracker: Tracker,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.model = model
        self.pixel_range = pixel_range
        self._tracker = tracker
        self._strategy = strategy or tf.distribute.get_strategy()
        self._functions: dict[str, tf.types.experimental.PolymorphicFunction] = {}

    def __call__(self, data: LabelledImages, stage: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings and logits of images, in their order.

        Args:
          data: images, n of them; labels are not looked at.
          stage: what the progress bar is called.

        Returns:
          Embeddings `[n, d]` and logits `[n, K + M]`, float32.
        """
        count = len(data)
        features = np.zeros((count, self.model.backbone.output.shape[-1]), np.float32)
        logits = np.zeros((count, self.model.num_classes), np.float32)
        for rows, (batch_features, batch_logits) in self._batches(data, stage, False, self._outputs):
            features[rows], logits[rows] = batch_features, batch_logits
        features, logits = runtime.sum_over_workers(self._strategy, [features, logits])
        return features, logits

    def features(self, data: LabelledImages, stage: str, mirrored: bool = False) -> np.ndarray:
        """Embeddings of images, in their order.

        Args:
          data: images, n of them; labels are not looked at.
          stage: what the progress bar is called.
          mirrored: whether the images are mirrored, left to right, before the network sees them. False by default.

        Returns:
          `[n, d]`, float32.
        """
        features = np.zeros((len(data), self.model.backbone.output.shape[-1]), np.float32)
        for rows, (batch_features, _) in self._batches(data, stage, mirrored, self._outputs):
            features[rows] = batch_features
        return runtime.sum_over_workers(self._strategy, [features])[0]

    def units(
        self, data: LabelledImages, stage: str, mirrored: bool = False
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
        """The units that the model's fitted head reads, batch by batch, as there may be too many for memory.

        Several workers have a part of the images each: what is made of them is to be added up (`sum_over_workers`).

        Args:
          data: images; labels are not looked at.
          stage: what the progress bar is called.
          mirrored: whether the images are mirrored, left to right, before the network sees them. False by default.

        Yields:
          Positions of b images, `[b]`, and of each its units, `[b, U]` float32, and its pixels, `[b, H, W, C]`.
        """
        return self._batches(data, stage, mirrored, self._units_and_pixels)

    def sum_over_workers(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Adds each array up over the workers that share images with this one. All of them must call it."""
        return runtime.sum_over_workers(self._strategy, arrays)

    def _outputs(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self.model(pixels.normalise(images, self.pixel_range), training=False)
        return outputs.features, outputs.logits

    def _units_and_pixels(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.model.units(pixels.normalise(images, self.pixel_range)), images

    def _batches(
        self, data: LabelledImages, stage: str, mirrored: bool, tell: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
        """Positions of images and what `tell` says of their pixels, for the replicas of this process."""
        share = runtime.share_of(self._strategy)
        batches = runtime.distribute(
            self._strategy, lambda own: pipeline.evaluation_batches(data, _BATCH_SIZE, own, mirrored)
        )
        predict = self._function(batches.element_spec, tell)
        with self._tracker.progress(stage, len(data), "images") as bar:
            for step, images in enumerate(batches):
                start = step * _BATCH_SIZE
                size = min(_BATCH_SIZE, len(data) - start)
                each = -(-size // share.num_replicas)
                results = runtime.local_values(self._strategy, predict(images))
                for replica, (first, second) in enumerate(results, share.first):
                    rows = np.arange(start + replica * each, start + min((replica + 1) * each, size))
                    yield rows, (first.numpy()[: len(rows)], second.numpy()[: len(rows)])
                bar.update(size)

    def _function(
        self, spec: tf.TypeSpec, tell: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    ) -> tf.types.experimental.PolymorphicFunction:
        """Runs a batch on all replicas: traced once for images of uint8, and once for exemplars kept as floats."""
        name = f"{tell.__name__} {spec}"
        if name not in self._functions:
            self._functions[name] = tf.function(
                lambda images: self._strategy.run(tell, args=(images,)), input_signature=[spec], autograph=False
            )
        return self._functions[name]
