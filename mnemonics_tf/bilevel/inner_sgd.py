"""The temporary model's SGD, and the adjoint of one of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

Params: TypeAlias = list[tf.Tensor]


@dataclasses.dataclass(frozen=True)
class InnerSGD:
    """Gradient descent on parameters theta with velocity m (Eq. 8, where momentum and weight decay are 0).

        m' = momentum * m + g + weight_decay * theta
        theta' = theta - learning_rate * m'

    Attributes:
      learning_rate: alpha_2.
      momentum: 0 for plain gradient descent.
      weight_decay: L2 penalty, added to the gradient.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def step(self, params: Sequence[tf.Tensor], velocity: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]):
        """Returns `(params', velocity')`."""
        new_velocity = [
            self.momentum * m + g + self.weight_decay * p for p, m, g in zip(params, velocity, gradients, strict=True)
        ]
        return [p - self.learning_rate * m for p, m in zip(params, new_velocity, strict=True)], new_velocity

    def gradient_adjoint(self, params_adjoint: Sequence[tf.Tensor], velocity_adjoint: Sequence[tf.Tensor]) -> Params:
        """The adjoint p of the gradient g of a step, from the adjoints of theta' and m': p = m' - alpha theta'."""
        return [m - self.learning_rate * p for p, m in zip(params_adjoint, velocity_adjoint, strict=True)]

    def step_adjoint(self, params_adjoint: Sequence[tf.Tensor], p: Sequence[tf.Tensor], hessian_p: Sequence[tf.Tensor]):
        """Adjoints of theta and m, from that of theta', from p and from the Hessian times p."""
        before = [
            adjoint + product + self.weight_decay * part
            for adjoint, product, part in zip(params_adjoint, hessian_p, p, strict=True)
        ]
        return before, [self.momentum * part for part in p]
