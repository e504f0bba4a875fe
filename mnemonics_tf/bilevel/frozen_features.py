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

from mnemonics_tf.bilevel.problem import Loss, MetaGradient, MetaStep, connected
from mnemonics_tf.bilevel.walk import Walk

# Maps images `[B, H, W, C]` to embeddings `[B, d]`.
Features: TypeAlias = Callable[[tf.Tensor], tf.Tensor]

# Images that go through the network at once: bounds the memory for activations.
_PIECE = 256


class _FrozenNetwork:
    """Embeddings, and vectors times their Jacobian, a piece of the images at a time.

    How many exemplars a plan names differs from plan to plan, so traces for any number of images are reused.
    """

    def __init__(self, features: Features):
        def pull_back(images: tf.Tensor, adjoint: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                embeddings = features(images)
            gradient = tape.gradient(embeddings, images, output_gradients=adjoint)
            return connected([gradient], "network", "the exemplars")[0]

        self._features, self._pull_back = (
            tf.function(function, autograph=False, reduce_retracing=True) for function in (features, pull_back)
        )

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return tf.concat([self._features(piece) for piece in _pieces(images)], axis=0)

    def pull_back(self, images: tf.Tensor, adjoint: tf.Tensor) -> tf.Tensor:
        """The gradient with respect to images `[n, H, W, C]`, from that with respect to embeddings `[n, d]`."""
        pairs = zip(_pieces(images), _pieces(adjoint), strict=True)
        return tf.concat([self._pull_back(*pair) for pair in pairs], axis=0)


class HeadTraining:
    """Trains a classifier on the features: `walk` does it, with features in the place of images.

    Args:
      walk: of losses `(params of the classifier, features, labels)`.
      features: the frozen network.
    """

    def __init__(self, walk: Walk, features: Features):
        self._walk, self._network = walk, _FrozenNetwork(features)

    def __call__(self, step: MetaStep) -> MetaGradient:
        """Trains by the plan; see `MetaGradientEngine`."""
        count = len(step.exemplars)
        used, compact_plan = np.unique(step.plan, return_inverse=True)
        images = tf.gather(step.exemplars, used)
        result = self._walk(
            step._replace(
                exemplars=self._network(images),
                labels=tf.gather(step.labels, used),
                plan=compact_plan.reshape(step.plan.shape),
                outer_images=self._network(step.outer_images),
            )
        )
        by_label = None if result.labels is None else _scatter(result.labels, used, count)
        by_exemplar = _scatter(self._network.pull_back(images, result.exemplars), used, count)
        return result._replace(exemplars=by_exemplar, labels=by_label)


class ClassMeans:
    """Nearest class mean in place of a training: `outer_loss` gets the class means as its only parameter.

    Args:
      outer_loss: called with `[means [d, classes]]`, features `[B, d]` and labels `[B]`. Means are those of normalised
        features, weighted by soft labels, and have length 1. Classes, which labels number anew, are those of exemplars
        and real images; one without exemplars in the plan has a mean of zeros.
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

        self._network = _FrozenNetwork(features)
        self._differentiate = tf.function(differentiate, autograph=False, reduce_retracing=True)

    def __call__(self, step: MetaStep) -> MetaGradient:
        """Uses the exemplars that the plan names; no parameters and no rates. See `MetaGradientEngine`."""
        count = len(step.exemplars)
        used = np.unique(step.plan)
        images, labels = tf.gather(step.exemplars, used), tf.gather(step.labels, used)
        is_soft, outer_labels = labels.dtype.is_floating, step.outer_labels.numpy()
        # A class that nothing here is of would be a mean of zeros, which takes a share of every softmax.
        own = np.flatnonzero(step.labels.numpy().any(axis=0)) if is_soft else step.labels.numpy()
        classes = np.union1d(own, outer_labels)
        if is_soft:
            weights = tf.gather(labels, classes, axis=1)
        else:
            weights = tf.one_hot(np.searchsorted(classes, labels.numpy()), len(classes), dtype=images.dtype)
        loss, by_embedding, by_weight = self._differentiate(
            self._network(images),
            weights,
            self._network(step.outer_images),
            tf.constant(np.searchsorted(classes, outer_labels)),
        )
        by_exemplar = _scatter(self._network.pull_back(images, by_embedding), used, count)
        if not is_soft:
            return MetaGradient(loss, by_exemplar, None)
        by_label = tf.transpose(_scatter(tf.transpose(by_weight), classes, labels.shape[1]))
        return MetaGradient(loss, by_exemplar, _scatter(by_label, used, count))


def _pieces(values: tf.Tensor) -> list[tf.Tensor]:
    return [values[start : start + _PIECE] for start in range(0, len(values), _PIECE)]


def _scatter(rows: tf.Tensor, positions: np.ndarray, count: int) -> tf.Tensor:
    """`[count, ...]`, zero but for `rows` at `positions`."""
    return tf.scatter_nd(positions[:, None], rows, [count, *rows.shape[1:]])
