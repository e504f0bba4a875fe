"""The temporary model of a classifier: which parameters are trained, and the losses of both levels."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel.engines import FROZEN_ENGINES, MetaGradientEngine
from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call, parameters


def engine_for(
    model: Classifier, settings: ExemplarLevel, strategy: tf.distribute.Strategy
) -> tuple[MetaGradientEngine, Params]:
    """The engine that `settings` name, with cross-entropy on both levels, and theta_0 for it.

    The temporary model starts from Θ_i. `head` trains the head alone, `prototype` nothing, the others all weights.

    Args:
      model: Θ_i; not changed.
      settings: of the exemplar level.
      strategy: whose replicas share the work.
    """

    def whole(params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = functional_call(model, params, images, settings.batch_norm).logits
        return tf.reduce_mean(losses.cross_entropy(logits, labels))

    def head(params: Sequence[tf.Tensor], features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        _, logits = functional_call(model.head, params, features)
        return tf.reduce_mean(losses.cross_entropy(logits, labels))

    def nearest_mean(params: Sequence[tf.Tensor], features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        cosines = tf.matmul(tf.math.l2_normalize(features, axis=1), params[0])
        return tf.reduce_mean(losses.cross_entropy(model.head.eta * cosines, labels))

    def features(images: tf.Tensor) -> tf.Tensor:
        return model.backbone(images, training=False)

    loss, trained = {"head": (head, model.head), "prototype": (nearest_mean, None)}.get(settings.engine, (whole, model))
    engine = MetaGradientEngine(
        loss,
        loss,
        settings.inner_sgd,
        settings.engine,
        features=features if settings.engine in FROZEN_ENGINES else None,
        window=settings.window,
        checkpoint_every=settings.checkpoint_every,
        images_at_once=settings.images_at_once,
        strategy=strategy,
    )
    return engine, [] if trained is None else parameters(trained)
