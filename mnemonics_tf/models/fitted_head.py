"""A head that is fitted in closed form: fixed random units of the backbone's pooled stages, and a linear read-out."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.models.heads import Head, cosines

_GRID = 2  # cells a side to which the map of a stage is pooled


class FittedHead(Head):
    """Classifier by ridge regression on random units (RanPAC, ACIL): u = ReLU(x P), logits = gain * u w_k.

    x is what `pooled` makes of the backbone's stages and embedding. P is drawn once, from a normal distribution, and
    never changes; the columns w_k and the scalar gain are set by whoever fits the head, from 0 and 1. No gradient
    trains any of them. Scores are the cosines of u and w_k.

    Args:
      num_old_classes: K, 0 in the initial phase.
      num_new_classes: M, at least 1.
      num_units: U, the number of random units.

    Raises:
      UsageError: a number of classes is out of its range.
    """

    def __init__(self, num_old_classes: int, num_new_classes: int, num_units: int, **kwargs):
        super().__init__(num_old_classes, num_new_classes, **kwargs)
        self.num_units = num_units

    def _add_weights(self, width: int) -> None:
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.projection = self.add_weight(
            name="projection", shape=(width, self.num_units), initializer=normal, trainable=False
        )
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones", trainable=False)
        self._add_by_class("kernel", (self.num_units,), 1, keras.initializers.Zeros, trainable=False)

    def units(self, pooled_stages: tf.Tensor) -> tf.Tensor:
        """The random units u, `[B, U]`, of pooled stages `[B, D]`."""
        return tf.nn.relu(tf.matmul(pooled_stages, self.projection))

    def call(self, pooled_stages: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pooled stages `[B, D]` to `(scores, logits)`."""
        units, kernel = self.units(pooled_stages), self.by_class("kernel")
        return cosines(units, kernel), self.gain * tf.matmul(units, kernel)

    def set_fitted(self, kernel: np.ndarray, gain: float) -> None:
        """Sets the weights of all classes, `[U, K + M]`, and the gain of their logits."""
        if self.old_kernel is not None:
            self.old_kernel.assign(kernel[:, : self.num_old_classes])
        self.new_kernel.assign(kernel[:, self.num_old_classes :])
        self.gain.assign(gain)

    def take_from(self, source: Head) -> None:
        super().take_from(source)
        self.take_units(source)

    def take_units(self, source: Head) -> None:
        """Copies the random units of another fitted head, and the gain, whatever its classes are."""
        self.projection.assign(source.projection)
        self.gain.assign(source.gain)


def pooled(features: tf.Tensor, maps: Sequence[tf.Tensor]) -> tf.Tensor:
    """What a fitted head reads: the embedding and the stages' maps, pooled to 2 x 2 cells, side by side.

    Each part is brought to length 1, so that none outweighs the others. Where a side of a map does not halve, the cells
    share its middle row or column; a side of one pixel has one cell.

    Args:
      features: embeddings, `[B, d]`.
      maps: output of each stage before its ReLU, `[B, h, w, c]` each. The ReLU is applied here.

    Returns:
      `[B, D]`, where D is d and the channels of each stage times its cells.
    """
    parts = [features, *(_cells(tf.nn.relu(each)) for each in maps)]
    return tf.concat([tf.math.l2_normalize(part, axis=1) for part in parts], axis=1)


def pooled_width(width: int, map_shapes: Sequence[Sequence[int]]) -> int:
    """D, the width of what `pooled` returns, for embeddings of a width and maps of shapes `(h, w, c)`."""
    return width + sum(len(_windows(height)) * len(_windows(breadth)) * c for height, breadth, c in map_shapes)


def _cells(stage: tf.Tensor) -> tf.Tensor:
    means = [
        tf.reduce_mean(stage[:, rows, columns], axis=[1, 2])
        for rows in _windows(stage.shape[1])
        for columns in _windows(stage.shape[2])
    ]
    return tf.concat(means, axis=1)


def _windows(side: int) -> list[slice]:
    """The pixels of each cell along a side."""
    count = min(_GRID, side)
    return [slice(index * side // count, -(-(index + 1) * side // count)) for index in range(count)]
