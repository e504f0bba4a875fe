"""What exemplars are optimised for: a temporary training on them, and a loss on real images after it."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel.engines import MetaGradientEngine
from mnemonics_tf.bilevel.frozen_features import Features
from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call, parameters


class Objective:
    """The bilevel program of one network: what engines differentiate, without how they do it.

    Args:
      model: Θ_i; not changed.

    Attributes:
      features: the frozen network, images -> embeddings, for engines that keep it so; None where all of it is trained.
    """

    features: Features | None = None

    def __init__(self, model: Classifier):
        self._model = model

    def start(self) -> Params:
        """theta_0, from which the temporary training of a meta-step starts; these are the parameters that it trains."""
        raise NotImplementedError

    def inner_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """What the temporary training lowers: a scalar, the mean over a batch of exemplars.

        Args:
          params: shaped as `start()`.
          images: normalised `[B, H, W, C]`, or their features `[B, d]` where there are `features`.
          labels: class indices `[B]` or soft labels `[B, K + M]`.
        """
        raise NotImplementedError

    def outer_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """What exemplars lower: a scalar, the mean over a batch of real images, by the parameters after the training.

        Args: those of `inner_loss`; labels are class indices `[B]`. The same loss by default, as in Eq. 8 and 9.
        """
        return self.inner_loss(params, images, labels)

    def validation(self, data: LabelledImages) -> LabelledImages:
        """What batches of the outer loss are drawn from.

        Args:
          data: D_i where new exemplars are learned, the other part of the exemplars where old ones are adjusted. All of
            it is used by default, as in Eq. 9 and 10.
        """
        return data


class WholeNetwork(Objective):
    """The paper's: Θ_i with all its weights is trained on exemplars by cross-entropy, and validated by it.

    Args:
      model: Θ_i; not changed.
      batch_norm: of the temporary model: `frozen` statistics, or those of each `batch`.
    """

    def __init__(self, model: Classifier, batch_norm: str):
        super().__init__(model)
        self._batch_norm = batch_norm

    def start(self) -> Params:
        """Θ_i."""
        return parameters(self._model)

    def inner_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of the network's logits."""
        logits = functional_call(self._model, params, images, self._batch_norm).logits
        return tf.reduce_mean(losses.cross_entropy(logits, labels))


class HeadOnFeatures(Objective):
    """The head of Θ_i alone is trained, on features of the frozen backbone, by cross-entropy."""

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Embeddings `[B, d]` of images `[B, H, W, C]`."""
        return self._model.backbone(images, training=False)

    def start(self) -> Params:
        """The weights of the head."""
        return parameters(self._model.head)

    def inner_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of the head's logits."""
        _, logits = functional_call(self._model.head, params, images)
        return tf.reduce_mean(losses.cross_entropy(logits, labels))


class NearestMean(HeadOnFeatures):
    """Nothing is trained: real images are compared with the class means of the exemplars' features."""

    def start(self) -> Params:
        """No parameters."""
        return []

    def inner_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of cosines with the means `params[0]` `[d, classes]`, at the head's learned scale."""
        cosines = tf.matmul(tf.math.l2_normalize(images, axis=1), params[0])
        return tf.reduce_mean(losses.cross_entropy(self._model.head.eta * cosines, labels))


def objective_for(model: Classifier, settings: ExemplarLevel) -> Objective:
    """The objective that goes with the engine of `settings`, by what that engine trains."""
    trains = settings.engine_object.trains
    if trains == "network":
        return WholeNetwork(model, settings.batch_norm)
    return HeadOnFeatures(model) if trains == "head" else NearestMean(model)


def compiled(objective: Objective, settings: ExemplarLevel, strategy: tf.distribute.Strategy) -> MetaGradientEngine:
    """The engine of `settings` for an objective; compiled at its first call.

    Args:
      objective: what is differentiated.
      settings: the engine, and the optimiser of the temporary training.
      strategy: whose replicas share the work.
    """
    return MetaGradientEngine(
        objective.inner_loss,
        objective.outer_loss,
        settings.inner_sgd,
        settings.engine_object,
        features=objective.features,
        strategy=strategy,
    )
