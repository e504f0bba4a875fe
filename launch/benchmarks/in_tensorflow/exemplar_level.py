"""Meta-steps of the exemplar level, and the plain gradients from which their floors are reckoned."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import numpy as np
import tensorflow as tf
from harness.turns import Turns

from in_tensorflow.networks import batch, build
from mnemonics_tf import losses
from mnemonics_tf.memory.optimising import objectives
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call, parameters
from mnemonics_tf.system import devices


def meta_gradient(
    model: Classifier,
    strategy: tf.distribute.Strategy,
    exemplars: tuple[tf.Tensor, tf.Tensor],
    outer: tuple[tf.Tensor, tf.Tensor],
    inner_steps: int,
    **switches: str | int | None,
) -> Callable[[], tuple[float, np.ndarray]]:
    """A function that gives the outer loss and its gradient with respect to the exemplars, computed as in a run.

    Args:
      model: where the temporary training starts.
      strategy: the model's.
      exemplars: images and labels; every inner step takes all.
      outer: images and labels that validate.
      inner_steps: T.
      switches: further fields of `ExemplarLevel`.
    """
    count = len(exemplars[0])
    settings = ExemplarLevel(
        inner_steps=inner_steps, inner_batch_size=count, inner_learning_rate=inputs.INNER_RATE, **switches
    )
    objective = objectives.objective_for(model, settings)
    compute, params = objectives.compiled(objective, settings, strategy), objective.start()
    plan = np.tile(np.arange(count), (inner_steps, 1))

    def work() -> tuple[float, np.ndarray]:
        result = compute(params, *exemplars, plan, *outer)
        return float(result.loss), result.exemplars.numpy()

    return work


def meta_step(
    start: Callable[[], Turns],
    inner_steps: int,
    blocks: tuple[int, ...] = inputs.RESNET20,
    **switches: str | int | None,
) -> None:
    """One gradient with respect to the exemplars a turn."""
    strategy = devices.Devices().create_strategy()
    exemplars, outer = batch(inputs.EXEMPLARS, seed=0), batch(inputs.OUTER_BATCH, seed=1)
    work = meta_gradient(build(blocks, strategy), strategy, exemplars, outer, inner_steps, **switches)
    start().serve(work)


def gradient(start: Callable[[], Turns], count: int, batch_norm: str = "frozen") -> None:
    """The gradient of a batch of `count` with respect to the parameters."""
    model = build(inputs.RESNET20, tf.distribute.get_strategy())
    params = parameters(model)
    images, labels = batch(count, seed=0)

    @tf.function
    def step(params: list[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            logits = functional_call(model, params, images, batch_norm).logits
            loss = tf.reduce_mean(losses.cross_entropy(logits, labels))
        return tape.gradient(loss, params)

    def work() -> None:
        step(params, images, labels)[-1].numpy()

    start().serve(work)
