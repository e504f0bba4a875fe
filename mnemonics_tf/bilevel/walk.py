"""The engines that walk back over the steps of the temporary training.

Forwards only the states (theta_t, m_t) are kept. Backwards each step is differentiated on its own, from its state, by
the adjoint of SGD (theta', m' the adjoints that arrive from the step after it):

    p = m' - rate * theta'                 adjoint of the step's gradient g
    theta = theta' + H p + decay * p       m = momentum * p
    E += (dg/dE)^T p                       rate -= <theta', direction>

Two compiled functions under a Python loop do this, so neither memory (but for the states) nor tracing grows with T. The
last steps can keep their activations, which makes them a quarter cheaper (see `recording`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from mnemonics_tf import runtime
from mnemonics_tf.bilevel.inner_sgd import InnerSGD, Params, State
from mnemonics_tf.bilevel.pieces import gradients_in_pieces, scaled, second_order_in_pieces
from mnemonics_tf.bilevel.problem import Loss, MetaGradient, MetaStep
from mnemonics_tf.bilevel.recording import Recorder, Recording
from mnemonics_tf.bilevel.second_derivatives import SecondOrderCheck
from mnemonics_tf.bilevel.second_order import SecondOrder


class Walk:
    """Differentiates the last `window` steps of a training, all of them without a window.

    Args:
      inner_loss: of the temporary training.
      outer_loss: of the validation.
      sgd: the temporary training's optimiser.
      second_order: how one step is differentiated.
      window: W, the last steps that are differentiated; None for all steps.
      checkpoint_every: keep the state of every k-th step only and train the steps between once more on the way back;
        T states become T / k + k. None keeps all.
      images_at_once: a replica's part of a batch is worked on in pieces of at most so many images; None for all.
      keep_activations: the last steps that keep their activations for the way back; None for none. Where several
        replicas share the batches no step keeps them.
      strategy: every batch is split among its replicas, which add up their shares of each gradient.
    """

    def __init__(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        second_order: Callable[..., SecondOrder],
        window: int | None,
        checkpoint_every: int | None,
        images_at_once: int | None,
        keep_activations: int | None,
        strategy: tf.distribute.Strategy,
    ):
        self._sgd = sgd
        self._window = window
        self._checkpoint_every = checkpoint_every or 1
        self._num_recorded = (keep_activations or 0) if strategy.num_replicas_in_sync == 1 else 0
        self._recorder = Recorder(inner_loss, sgd)
        self._strategy = strategy
        self._check = SecondOrderCheck(inner_loss, second_order)

        gradients = gradients_in_pieces(images_at_once)
        self._step = self._on_replicas(_step(inner_loss, sgd, gradients))
        self._outer = self._on_replicas(_outer(outer_loss, sgd, gradients))
        derivatives = second_order_in_pieces(second_order, images_at_once)
        self._step_back = self._on_replicas(_step_back(inner_loss, sgd, derivatives))
        self._gradient_adjoint = self._on_replicas(sgd.gradient_adjoint)
        self._handed_back = self._on_replicas(functools.partial(_handed_back, sgd))

    def __call__(self, step: MetaStep) -> MetaGradient:
        """Trains by the plan and walks back; see `MetaGradientEngine`."""
        self._check(step)
        num_steps = len(step.plan)
        first = max(0, num_steps - self._window) if self._window else 0
        first_recorded = max(first, num_steps - self._num_recorded)

        def batch(t: int) -> tuple[Any, Any, Any]:
            return self._split(step.exemplars, step.labels, step.plan[t])

        def train(state: State, t: int) -> State:
            return self._step(state, step.rates[t], *batch(t))

        kept: dict[int, State] = {}
        recorded: list[Recording] = []
        state = self._sgd.start(step.params)
        for t in range(num_steps):
            if t >= first_recorded:
                recording, state = self._recorder.step(state, step.rates[t], *batch(t)[:2])
                recorded.append(recording)
                continue
            if t >= first and (t - first) % self._checkpoint_every == 0:
                kept[t] = state
            state = train(state, t)
        outer_batch = self._split(step.outer_images, step.outer_labels, np.arange(step.outer_images.shape[0]))
        loss, adjoint, norm = self._outer(state.params, *outer_batch)
        del state

        def back_through(t: int) -> _StepBack:
            if t >= first_recorded:
                return self._step_back_recorded(recorded.pop(), adjoint, step.rates[t], step.learns_rates)
            for u in range(t - (t - first) % self._checkpoint_every, t):
                if u + 1 not in kept:
                    kept[u + 1] = train(kept[u], u)
            return self._step_back(kept.pop(t), adjoint, step.rates[t], *batch(t), step.learns_rates)

        sums = _Sums(step)
        norms = [self._one(norm)]
        for t in reversed(range(first, num_steps)):
            back = back_through(t)
            adjoint = back.before
            norms.append(self._one(back.norm))
            sums.add(t, step.plan[t], self._joined(back.images), self._joined(back.labels), self._one(back.rate))
        return MetaGradient(self._one(loss), sums.exemplars, sums.labels, sums.stacked_rates(), tf.stack(norms))

    def _step_back_recorded(self, recording: Recording, after: State, rate: tf.Tensor, learns_rates: bool) -> _StepBack:
        """`_step_back` of a step that has kept its activations."""
        p = self._gradient_adjoint(after, rate)
        at = self._recorder.second_order(recording, p)
        return self._handed_back(recording.state, after, p, at, learns_rates)

    def _on_replicas(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Without autograph errors in a user's loss keep their types.
        return tf.function(lambda *args: self._strategy.run(function, args=args), autograph=False)

    def _split(self, images: tf.Tensor, labels: tf.Tensor, indices: np.ndarray) -> tuple[Any, Any, Any]:
        """Images and labels at `indices`, and the share of them that each replica gets."""
        parts = runtime.split(indices, self._strategy)
        dtype = images.dtype
        return (
            runtime.on_each_replica(self._strategy, [tf.gather(images, part) for part in parts]),
            runtime.on_each_replica(self._strategy, [tf.gather(labels, part) for part in parts]),
            runtime.on_each_replica(self._strategy, [tf.constant(len(part) / len(indices), dtype) for part in parts]),
        )

    def _joined(self, rows: Any) -> tf.Tensor | None:
        """The rows of all replicas: they have consecutive parts of the batch."""
        return None if rows is None else runtime.concatenated(self._strategy, rows)

    def _one(self, value: Any) -> tf.Tensor | None:
        """The value of a tensor that is the same on all replicas."""
        return self._strategy.experimental_local_results(value)[0]


class _Sums:
    """Gradients with respect to all exemplars, soft labels and rates, to which each step adds its share."""

    def __init__(self, step: MetaStep):
        self.exemplars = tf.zeros_like(step.exemplars)
        self.labels = tf.zeros_like(step.labels) if step.labels.dtype.is_floating else None
        self._rates = [tf.zeros([], step.rates.dtype)] * len(step.rates) if step.learns_rates else None

    def add(
        self, t: int, indices: np.ndarray, images: tf.Tensor, labels: tf.Tensor | None, rate: tf.Tensor | None
    ) -> None:
        rows = indices[:, None]
        self.exemplars = tf.tensor_scatter_nd_add(self.exemplars, rows, images)
        if self.labels is not None:
            self.labels = tf.tensor_scatter_nd_add(self.labels, rows, labels)
        if self._rates is not None:
            self._rates[t] = rate

    def stacked_rates(self) -> tf.Tensor | None:
        return None if self._rates is None else tf.stack(self._rates)


class _StepBack(NamedTuple):
    """Adjoints that one step hands back: of the state before it, of its images, labels and rate, and a norm."""

    before: State
    images: tf.Tensor
    labels: tf.Tensor | None
    rate: tf.Tensor | None
    norm: tf.Tensor


def _step(inner_loss: Loss, sgd: InnerSGD, gradients_of: Callable[..., Any]) -> Callable[..., State]:
    def step(state, rate, images, labels, share):
        _, gradients = gradients_of(scaled(inner_loss, share), state.params, images, labels, "inner loss")
        return sgd.step(state, runtime.sum_over_replicas(gradients), rate)

    return step


def _outer(
    outer_loss: Loss, sgd: InnerSGD, gradients_of: Callable[..., Any]
) -> Callable[..., tuple[tf.Tensor, State, tf.Tensor]]:
    def outer(params, images, labels, share):
        loss, gradients = gradients_of(scaled(outer_loss, share), params, images, labels, "outer loss")
        loss, *gradients = runtime.sum_over_replicas([loss, *gradients])
        # The last velocity has no influence on the loss but through theta: its adjoint starts from zero.
        return loss, sgd.start(gradients), tf.linalg.global_norm(gradients)

    return outer


def _step_back(inner_loss: Loss, sgd: InnerSGD, second_order: Callable[..., SecondOrder]) -> Callable[..., _StepBack]:
    def step_back(state, after, rate, images, labels, share, learns_rates):
        p = sgd.gradient_adjoint(after, rate)
        at = second_order(scaled(inner_loss, share), state.params, p, images, labels)
        return _handed_back(sgd, state, after, p, at, learns_rates)

    return step_back


def _handed_back(
    sgd: InnerSGD, state: State, after: State, p: Params, at: SecondOrder, learns_rates: bool
) -> _StepBack:
    before = sgd.step_adjoint(after, p, runtime.sum_over_replicas(at.hessian_p))
    by_rate = None
    if learns_rates:
        direction = sgd.direction(state, runtime.sum_over_replicas(at.gradients))
        by_rate = -tf.add_n([tf.reduce_sum(a * d) for a, d in zip(after.params, direction, strict=True)])
    return _StepBack(before, at.images, at.labels, by_rate, tf.linalg.global_norm(before.params))
