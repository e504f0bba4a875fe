"""The cheap engines: the network stays as it is, and only a classifier on its features is trained, or computed.

    `head`       T steps of SGD train the classifier on the features of the exemplars, as `adjoint` would
    `prototype`  the classifier's weights are the class means of those features

Either way the features of exemplars and real images are computed once a meta-step, and the gradient goes through the
network once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.bilevel.problem import Loss, MetaGradient, connected
from mnemonics_tf.bilevel.walk import Walk

# Maps images `[B, H, W, C]` to embeddings `[B, d]`.
Features: TypeAlias = Callable[[tf.Tensor], tf.Tensor]

# Images that go through the network at once: bounds the memory for activations.
_PIECE = 256


class _FrozenNetwork:
    """Embeddings, and vectors times their Jacobian, a piece of the images at a time."""

    def __init__(self, features: Features):
        def pull_back(images: tf.Tensor, adjoint: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                embeddings = features(images)
            return connected([tape.gradient(embeddings, images, output_gradients=adjoint)], "network", "the exemplars")[
                0
            ]

        self._features, self._pull_back = (tf.function(function, autograph=False) for function in (features, pull_back))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return tf.concat([self._features(piece) for piece in _pieces(images)], axis=0)

    def pull_back(self, images: tf.Tensor, adjoint: tf.Tensor) -> tf.Tensor:
        """The gradient with respect to images `[n, H, W, C]`, from that with respect to embeddings `[n, d]`."""
        pairs = zip(_pieces(images), _pieces(adjoint), strict=True)
        return tf.concat([self._pull_back(*pair) for pair in pairs], axis=0)


class Head:
    """Trains a classifier on the features: `walk` does it, with features in the place of images.

    Args:
      walk: of losses `(params of the classifier, features, labels)`.
      features: the frozen network.
    """

    def __init__(self, walk: Walk, features: Features):
        self._walk, self._network = walk, _FrozenNetwork(features)

    def __call__(
        self,
        params: Params,
        exemplars: tf.Tensor,
        labels: tf.Tensor,
        plan: np.ndarray,
        outer_images: tf.Tensor,
        outer_labels: tf.Tensor,
        rates: tf.Tensor,
        learns_rates: bool,
    ) -> MetaGradient:
        """Trains by `plan` with `rates` `[T]`; see `MetaGradientEngine`."""
        used, compact_plan = np.unique(plan, return_inverse=True)
        images = tf.gather(exemplars, used)
        result = self._walk(
            params,
            self._network(images),
            tf.gather(labels, used),
            compact_plan.reshape(plan.shape),
            self._network(outer_images),
            outer_labels,
            rates,
            learns_rates,
        )
        by_label = None if result.labels is None else _scatter(result.labels, used, len(exemplars))
        by_exemplar = _scatter(self._network.pull_back(images, result.exemplars), used, len(exemplars))
        return result._replace(exemplars=by_exemplar, labels=by_label)


class Prototype:
    """Nearest class mean in place of a training: `outer_loss` gets the class means as its only parameter.

    Args:
      outer_loss: called with `[means [d, classes]]`, features `[B, d]` and labels `[B]`. Means are those of normalised
        features, weighted by soft labels, and have length 1; a class without exemplars in the plan has a mean of zeros.
      features: the frozen network.
    """

    def __init__(self, outer_loss: Loss, features: Features):
        def differentiate(embeddings, labels, outer_embeddings, outer_labels):
            inputs = [embeddings, labels]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                sums = tf.matmul(tf.math.l2_normalize(embeddings, axis=1), labels, transpose_a=True)
                loss = outer_loss([tf.math.l2_normalize(sums, axis=0)], outer_embeddings, outer_labels)
            return loss, *connected(tape.gradient(loss, inputs), "outer loss", "the exemplars")

        self._network, self._differentiate = _FrozenNetwork(features), tf.function(differentiate, autograph=False)

    def __call__(
        self,
        params: Params,
        exemplars: tf.Tensor,
        labels: tf.Tensor,
        plan: np.ndarray,
        outer_images: tf.Tensor,
        outer_labels: tf.Tensor,
        rates: tf.Tensor,
        learns_rates: bool,
    ) -> MetaGradient:
        """Uses the exemplars that `plan` names; no parameters and no rates. See `MetaGradientEngine`."""
        used = np.unique(plan)
        images, used_labels = tf.gather(exemplars, used), tf.gather(labels, used)
        is_soft = labels.dtype.is_floating
        if not is_soft:
            num_classes = 1 + max(int(tf.reduce_max(labels)), int(tf.reduce_max(outer_labels)))
            used_labels = tf.one_hot(used_labels, num_classes, dtype=exemplars.dtype)
        loss, by_embedding, by_label = self._differentiate(
            self._network(images), used_labels, self._network(outer_images), outer_labels
        )
        by_exemplar = _scatter(self._network.pull_back(images, by_embedding), used, len(exemplars))
        return MetaGradient(loss, by_exemplar, _scatter(by_label, used, len(exemplars)) if is_soft else None)


def _pieces(values: tf.Tensor) -> list[tf.Tensor]:
    return [values[start : start + _PIECE] for start in range(0, len(values), _PIECE)]


def _scatter(rows: tf.Tensor, positions: np.ndarray, count: int) -> tf.Tensor:
    """`[count, ...]`, zero but for `rows` at `positions`."""
    return tf.scatter_nd(positions[:, None], rows, [count, *rows.shape[1:]])
