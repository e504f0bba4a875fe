"""The temporary model's SGD, and the adjoint of one of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from mnemonics_tf import checks
from mnemonics_tf.system.lazy import tf

Params: TypeAlias = "list[tf.Tensor]"


class State(NamedTuple):
    """The temporary model between two steps, or the adjoint of it.

    Attributes:
      params: theta.
      velocity: m; empty without momentum, where it has no influence.
    """

    params: Params
    velocity: Params


@dataclasses.dataclass(frozen=True)
class InnerSGD:
    """Gradient descent on parameters theta with velocity m (Eq. 8, where momentum and weight decay are 0).

        m' = momentum * m + g + weight_decay * theta
        theta' = theta - rate * m'

    Attributes:
      learning_rate: alpha_2, the rate of every step for which no other is given.
      momentum: 0 for plain gradient descent.
      weight_decay: L2 penalty, added to the gradient.

    Raises:
      UsageError: a value out of range.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        checks.check_positive(**{"InnerSGD.learning_rate": self.learning_rate})
        checks.check_fraction(**{"InnerSGD.momentum": self.momentum})
        checks.check_non_negative(**{"InnerSGD.weight_decay": self.weight_decay})

    def start(self, params: Sequence[tf.Tensor]) -> State:
        """The state before the first step."""
        return State(list(params), [tf.zeros_like(param) for param in params] if self.momentum else [])

    def direction(self, state: State, gradients: Sequence[tf.Tensor]) -> Params:
        """m' of a step."""
        steps = list(gradients)
        if self.weight_decay:
            steps = [step + self.weight_decay * param for step, param in zip(steps, state.params, strict=True)]
        if self.momentum:
            steps = [step + self.momentum * m for step, m in zip(steps, state.velocity, strict=True)]
        return steps

    def step(self, state: State, gradients: Sequence[tf.Tensor], rate: tf.Tensor) -> State:
        """One step: theta' and m'."""
        steps = self.direction(state, gradients)
        params = [param - rate * step for param, step in zip(state.params, steps, strict=True)]
        return State(params, steps if self.momentum else [])

    def gradient_adjoint(self, after: State, rate: tf.Tensor) -> Params:
        """The adjoint p of a step's gradient, from the adjoint of the state after it: p = m' - rate * theta'."""
        p = [-rate * adjoint for adjoint in after.params]
        return [m + part for m, part in zip(after.velocity, p, strict=True)] if self.momentum else p

    def step_adjoint(self, after: State, p: Sequence[tf.Tensor], hessian_p: Sequence[tf.Tensor]) -> State:
        """The adjoint of the state before a step, from that after it, from p and from the Hessian times p."""
        params = [adjoint + product for adjoint, product in zip(after.params, hessian_p, strict=True)]
        if self.weight_decay:
            params = [adjoint + self.weight_decay * part for adjoint, part in zip(params, p, strict=True)]
        return State(params, [self.momentum * part for part in p] if self.momentum else [])
