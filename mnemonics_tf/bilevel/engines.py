"""The meta-gradient: how the loss after a temporary training changes with the images it was trained on.

Inner steps, t = 0 .. T-1, each on a batch of exemplars E_t:

    theta_{t+1} = SGD(theta_t, grad_theta L_inner(theta_t; E_t))          Eq. 8

and the outer loss on real data D, whose gradient with respect to all exemplars is wanted:

    d L_outer(theta_T(E); D) / d E                                        Eq. 9 and 10

`kinds` lists the engines: what each differentiates, and what it needs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.bilevel.frozen_features import Features
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.kinds import Engine, engine_of
from mnemonics_tf.bilevel.plan import check_plan
from mnemonics_tf.bilevel.problem import (
    Loss,
    MetaGradient,
    MetaStep,
    check_exemplars,
    check_label_gradient,
    check_outer_batch,
)
from mnemonics_tf.bilevel.resizing import mend_bilinear_resizing
from mnemonics_tf.bilevel.second_derivatives import explaining_missing_derivatives


class MetaGradientEngine:
    """Computes meta-gradients for one pair of losses. Compiled at the first call, once for each shape of the batches.

    Args:
      inner_loss: `(params, images, labels) -> scalar` mean over the batch; must be twice differentiable, in
        TensorFlow's operations (Python's `if` and `for` over tensors are not converted). `head` passes features in the
        place of images, and the parameters are those of the classifier.
      outer_loss: `(params, images, labels) -> scalar` mean over the validation batch; differentiated once. `prototype`
        passes `[class means [d, classes]]` as parameters.
      sgd: the temporary training's optimiser.
      engine: one of `ENGINES`, or an object such as `Truncated(window=10)` that has its options. `adjoint` by default:
        it is exact and its memory hardly grows with T.
      features: `images -> [B, d]`, the frozen network; `head` and `prototype` need it.
      window: W, the last steps that `truncated` differentiates. Only beside a name, as the next three.
      checkpoint_every: engines that walk back keep the parameters of every k-th step only and train the steps between
        once more: T / k + k copies in the place of T, for one more training. None keeps all.
      images_at_once: engines that walk back work on so many images of a batch at a time, at most, and add up: memory
        for activations no longer grows with the batch. The same gradient, as long as the loss of an image does not
        depend on the rest of its batch (batch statistics do). None works on all at once.
      keep_activations: K: `adjoint` and `truncated` keep the activations of the last K steps from the training, in the
        place of computing them once more: 9 passes through the convolutions in the place of 11 for each. Several
        devices keep none. None keeps none.
      strategy: its replicas share every batch of the engines that walk back, which gives what one device gives as long
        as the loss of an image does not depend on the rest of its batch (batch statistics do). `unrolled` and
        `prototype` use one device. None for the current strategy.

    Raises:
      UsageError: no such engine, or one without what it needs or with what it does not use.
    """

    def __init__(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        engine: str | Engine = "adjoint",
        *,
        features: Features | None = None,
        window: int | None = None,
        checkpoint_every: int | None = None,
        images_at_once: int | None = None,
        keep_activations: int | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        mend_bilinear_resizing()
        self._kind = kind = engine_of(engine, window, checkpoint_every, images_at_once, keep_activations)
        if (features is not None) != kind.needs_features:
            raise checks.UsageError(
                f"The engine {kind.name!r} and features = {features!r}: 'head' and 'prototype' need the frozen "
                "network, a function images -> embeddings, and no other engine uses it."
            )
        self._sgd = sgd
        self._compute = kind.build(inner_loss, outer_loss, sgd, features, strategy or tf.distribute.get_strategy())

    def __call__(
        self,
        params: Sequence[tf.Tensor],
        exemplars: tf.Tensor | tf.Variable,
        labels: tf.Tensor,
        plan: np.ndarray,
        outer_images: tf.Tensor,
        outer_labels: tf.Tensor,
        rates: tf.Tensor | tf.Variable | None = None,
    ) -> MetaGradient:
        """Trains the temporary model by `plan` and differentiates its outer loss.

        Args:
          params: theta_0. Not changed.
          exemplars: normalised, `[n, H, W, C]`, of the parameters' dtype.
          labels: class indices `[n]`, int64, or soft labels `[n, K + M]`, which are differentiated too.
          plan: positions of each inner step's exemplars, `[T, b]`, as `inner_plan` makes it.
          outer_images: real images, normalised, `[B, H, W, C]`.
          outer_labels: class indices, `[B]` int64.
          rates: the inner learning rate, one or `[T]`, which is differentiated too; None for that of `sgd`.

        Raises:
          ValueError: exemplars that are integers or not finite, labels, rates or real images of another shape, a plan
            that is empty or points beyond the exemplars, or losses without the derivatives that are needed.
          UsageError: a batch is smaller than the number of devices.
        """
        params = [tf.convert_to_tensor(param) for param in params]
        outer_images, outer_labels = tf.convert_to_tensor(outer_images), tf.convert_to_tensor(outer_labels)
        exemplars, labels = tf.convert_to_tensor(exemplars), tf.convert_to_tensor(labels)
        check_exemplars(exemplars, labels, params[0].dtype if params else exemplars.dtype)
        check_outer_batch(outer_images, outer_labels, exemplars)
        plan = check_plan(plan, exemplars.shape[0])
        learns_rates = rates is not None
        step_rates = self._step_rates(rates, len(plan), exemplars.dtype)
        step = MetaStep(params, exemplars, labels, plan, outer_images, outer_labels, step_rates, learns_rates)
        with explaining_missing_derivatives():
            result = self._compute(step)
        if result.labels is not None:
            check_label_gradient(result.labels)
        shared_rate = learns_rates and not tf.convert_to_tensor(rates).shape.rank
        return result._replace(rates=tf.reduce_sum(result.rates)) if shared_rate else result

    def _step_rates(self, rates: tf.Tensor | None, num_steps: int, dtype: tf.DType) -> tf.Tensor:
        """`[T]`."""
        if rates is None:
            return tf.fill([num_steps], tf.constant(self._sgd.learning_rate, dtype))
        if self._kind.trains == "nothing":
            raise checks.UsageError(f"The engine {self._kind.name!r} trains nothing: it has no rates to learn.")
        rates = tf.cast(tf.convert_to_tensor(rates, dtype_hint=dtype), dtype)
        if not bool(tf.reduce_all(tf.math.is_finite(rates))):
            raise ValueError(f"rates hold NaN or infinite values ({rates.numpy()}): expected finite ones.")
        if rates.shape not in ((), (num_steps,)):
            raise ValueError(f"rates have shape {tuple(rates.shape)}: expected one rate, or [T] = [{num_steps}].")
        return tf.broadcast_to(rates, [num_steps])


def meta_gradient(
    inner_loss: Loss,
    outer_loss: Loss,
    params: Sequence[tf.Tensor],
    exemplars: tf.Tensor | tf.Variable,
    labels: tf.Tensor,
    plan: np.ndarray,
    outer_images: tf.Tensor,
    outer_labels: tf.Tensor,
    *,
    sgd: InnerSGD,
    engine: str | Engine = "adjoint",
    rates: tf.Tensor | tf.Variable | None = None,
    features: Features | None = None,
    window: int | None = None,
    checkpoint_every: int | None = None,
    images_at_once: int | None = None,
    keep_activations: int | None = None,
) -> MetaGradient:
    """The gradient of `outer_loss`, after training on exemplars, with respect to the exemplars.

    Calls with the same losses and options share what was compiled, so define the losses once and outside of loops:

        model = keras.Model(...)

        def loss(params, images, labels):
            logits = functional_call(model, params, images)
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

        plan = inner_plan(len(exemplars), num_steps=16, batch_size=64, generator=np.random.default_rng(0))
        result = meta_gradient(loss, loss, parameters(model), exemplars, labels, plan, images, image_labels,
                               sgd=InnerSGD(0.01))
        exemplars.assign_sub(0.1 * result.exemplars)

    What was compiled for the last eight combinations of losses and options is kept, and their models with it;
    `MetaGradientEngine` has the lifetime that its owner gives it.

    Args, result and errors: those of `MetaGradientEngine` and of its call.
    """
    compiled = _engine(
        inner_loss,
        outer_loss,
        sgd,
        engine_of(engine, window, checkpoint_every, images_at_once, keep_activations),
        features,
        tf.distribute.get_strategy(),
    )
    return compiled(params, exemplars, labels, plan, outer_images, outer_labels, rates)


@functools.lru_cache(maxsize=8)
def _engine(
    inner_loss: Loss,
    outer_loss: Loss,
    sgd: InnerSGD,
    engine: Engine,
    features: Features | None,
    strategy: tf.distribute.Strategy,
) -> MetaGradientEngine:
    return MetaGradientEngine(inner_loss, outer_loss, sgd, engine, features=features, strategy=strategy)
