"""The meta-gradient: how the loss after a temporary training changes with the images it was trained on.

Inner steps, t = 0 .. T-1, each on a batch of exemplars E_t:

    theta_{t+1} = SGD(theta_t, grad_theta L_inner(theta_t; E_t))          Eq. 8

and the outer loss on real data D, whose gradient with respect to all exemplars is wanted:

    d L_outer(theta_T(E); D) / d E                                        Eq. 9 and 10

Two engines give the same numbers. `unrolled` nests gradient tapes around the whole training; its memory and the time
of its trace grow with T. `adjoint` keeps only the parameters of each step and walks back over them with two compiled
functions of fixed shape, so neither grows (but for T copies of the parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.bilevel.inner_sgd import InnerSGD, Params

ENGINES = ("adjoint", "unrolled")

# Maps parameters, normalised images `[B, H, W, C]` and labels `[B]` to a scalar loss.
Loss = Callable[[Sequence[tf.Tensor], tf.Tensor, tf.Tensor], tf.Tensor]


class MetaGradient(NamedTuple):
    """Result of one meta-step.

    Attributes:
      loss: outer loss of the temporary model after T steps, a scalar.
      exemplars: its gradient with respect to the exemplars, `[n, H, W, C]`; zero for exemplars in no inner batch.
    """

    loss: tf.Tensor
    exemplars: tf.Tensor


class MetaGradientEngine:
    """Computes meta-gradients. Its functions are traced at the first call and then reused.

    Args:
      inner_loss: L_inner of the temporary training; must be twice differentiable.
      outer_loss: L_outer of the validation.
      inner_sgd: the temporary training's optimiser.
      params: tensors of the shapes and dtype that calls will have.
      image_shape: `(H, W, C)`.
      engine: `adjoint` or `unrolled`.

    Raises:
      UsageError: no such engine.
    """

    def __init__(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        inner_sgd: InnerSGD,
        params: Sequence[tf.Tensor],
        image_shape: Sequence[int],
        engine: str = "adjoint",
    ):
        checks.check_choice("engine", engine, ENGINES)
        self._sgd = inner_sgd
        self._engine = engine
        dtype = params[0].dtype
        param_specs = [tf.TensorSpec(param.shape, dtype) for param in params]
        batch_specs = [tf.TensorSpec([None, *image_shape], dtype), tf.TensorSpec([None], tf.int64)]

        def inner_gradients(theta: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> Params:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(theta)
                loss = inner_loss(theta, images, labels)
            return _connected(tape.gradient(loss, theta), "inner loss", "a parameter")

        @tf.function(input_signature=[param_specs, param_specs, *batch_specs])
        def inner_step(theta, velocity, images, labels):
            return inner_sgd.step(theta, velocity, inner_gradients(theta, images, labels))

        @tf.function(input_signature=[param_specs, *batch_specs])
        def outer_gradients(theta, images, labels):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(theta)
                loss = outer_loss(theta, images, labels)
            return loss, _connected(tape.gradient(loss, theta), "outer loss", "a parameter")

        @tf.function(input_signature=[param_specs, param_specs, param_specs, *batch_specs])
        def adjoint_step(theta, theta_adjoint, velocity_adjoint, images, labels):
            p = inner_sgd.gradient_adjoint(theta_adjoint, velocity_adjoint)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([theta, images])
                gradients = inner_gradients(theta, images, labels)
                # Its gradients are the Hessian times p, and the mixed derivative times p.
                product = tf.add_n([tf.reduce_sum(g * part) for g, part in zip(gradients, p, strict=True)])
            hessian_p, images_adjoint = tape.gradient(product, [theta, images])
            _connected([*hessian_p, images_adjoint], "gradient of the inner loss", "a parameter or the exemplars")
            return *inner_sgd.step_adjoint(theta_adjoint, p, hessian_p), images_adjoint

        @tf.function(input_signature=[param_specs, *batch_specs, tf.TensorSpec([None, None], tf.int64), *batch_specs])
        def unrolled(theta, exemplars, labels, plan, outer_images, outer_labels):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(exemplars)
                velocity = [tf.zeros_like(param) for param in theta]
                for t in range(self._unrolled_steps):
                    images = tf.gather(exemplars, plan[t])
                    gradients = inner_gradients(theta, images, tf.gather(labels, plan[t]))
                    theta, velocity = inner_sgd.step(theta, velocity, gradients)
                loss = outer_loss(theta, outer_images, outer_labels)
            (gradient,) = _connected([tape.gradient(loss, exemplars)], "outer loss", "the exemplars")
            return MetaGradient(loss, tf.convert_to_tensor(gradient))

        self._inner_step, self._outer_gradients, self._adjoint_step = inner_step, outer_gradients, adjoint_step
        self._unrolled, self._unrolled_steps = unrolled, 0

    def __call__(
        self,
        params: Sequence[tf.Tensor],
        exemplars: tf.Tensor | tf.Variable,
        labels: tf.Tensor,
        plan: np.ndarray,
        outer_images: tf.Tensor,
        outer_labels: tf.Tensor,
    ) -> MetaGradient:
        """Trains the temporary model by `plan` and differentiates its outer loss.

        Args:
          params: theta_0.
          exemplars: normalised, `[n, H, W, C]`.
          labels: their class indices, `[n]` int64.
          plan: positions of each inner step's exemplars, `[T, b]` int64.
          outer_images: normalised, `[B, H, W, C]`.
          outer_labels: class indices, `[B]` int64.

        Raises:
          ValueError: the plan is empty or points beyond the exemplars, or `unrolled` was traced for another T.
        """
        plan = np.asarray(plan, np.int64)
        if plan.ndim != 2 or not plan.size:
            raise ValueError(f"plan has shape {plan.shape}: expected [T, b] with T and b of at least 1.")
        if plan.min() < 0 or plan.max() >= exemplars.shape[0]:
            raise ValueError(f"plan names exemplars {plan.min()}..{plan.max()}, but there are {exemplars.shape[0]}.")
        exemplars = tf.convert_to_tensor(exemplars)
        params = list(params)
        if self._engine == "unrolled":
            if self._unrolled_steps not in (0, len(plan)):
                raise ValueError(f"This engine was unrolled for T = {self._unrolled_steps}, not for {len(plan)}.")
            self._unrolled_steps = len(plan)
            return self._unrolled(params, exemplars, labels, plan, outer_images, outer_labels)
        return self._walk_back(params, exemplars, labels, plan, outer_images, outer_labels)

    def _trajectory(self, theta: Params, exemplars: tf.Tensor, labels: tf.Tensor, plan: np.ndarray) -> list[Params]:
        velocity = [tf.zeros_like(param) for param in theta]
        trajectory = [theta]
        for indices in plan:
            theta, velocity = self._inner_step(theta, velocity, *_batch(exemplars, labels, indices))
            trajectory.append(theta)
        return trajectory

    def _walk_back(self, theta, exemplars, labels, plan, outer_images, outer_labels) -> MetaGradient:
        trajectory = self._trajectory(theta, exemplars, labels, plan)
        loss, theta_adjoint = self._outer_gradients(trajectory.pop(), outer_images, outer_labels)
        velocity_adjoint = [tf.zeros_like(adjoint) for adjoint in theta_adjoint]
        gradient = tf.zeros_like(exemplars)
        for indices in plan[::-1]:
            theta_adjoint, velocity_adjoint, images_adjoint = self._adjoint_step(
                trajectory.pop(), theta_adjoint, velocity_adjoint, *_batch(exemplars, labels, indices)
            )
            gradient = tf.tensor_scatter_nd_add(gradient, indices[:, None], images_adjoint)
        return MetaGradient(loss, gradient)


def inner_plan(num_exemplars: int, num_steps: int, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Which exemplars each inner step takes: `[T, b]` int64, without repetition inside a step.

    Exemplars are taken in shuffled rounds, so that none is taken again before (nearly) all have been.

    Args:
      num_exemplars: n.
      num_steps: T.
      batch_size: b; n where that is smaller.
      generator: source of randomness.
    """
    batch_size = min(batch_size, num_exemplars)
    per_round = num_exemplars // batch_size
    rounds = -(-num_steps // per_round)
    order = np.stack([generator.permutation(num_exemplars)[: per_round * batch_size] for _ in range(rounds)])
    return order.reshape(-1, batch_size)[:num_steps].astype(np.int64)


def _batch(exemplars: tf.Tensor, labels: tf.Tensor, indices: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.gather(exemplars, indices), tf.gather(labels, indices)


def _connected(gradients: Sequence[tf.Tensor | None], of: str, what: str) -> Params:
    """The gradients, none of which may be missing: reading a missing one as zero would hide a broken model."""
    if any(gradient is None for gradient in gradients):
        raise ValueError(
            f"The {of} does not depend on {what} in a way TensorFlow can differentiate. Leave parameters that play no "
            "part out, and use operations that have second derivatives."
        )
    return list(gradients)
