"""Which exemplars each inner step takes."""

from __future__ import annotations

import numpy as np

from mnemonics_tf import checks


def inner_plan(num_exemplars: int, num_steps: int, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Which exemplars each inner step takes: `[T, b]` int64, without repetition inside a step.

    Exemplars are taken in shuffled rounds, so that none is taken again before (nearly) all have been.

    Args:
      num_exemplars: n.
      num_steps: T.
      batch_size: b; n where that is smaller.
      generator: source of randomness.

    Raises:
      UsageError: one of the numbers is less than 1.
    """
    checks.check_positive_integer(num_exemplars=num_exemplars, num_steps=num_steps, batch_size=batch_size)
    batch_size = min(batch_size, num_exemplars)
    per_round = num_exemplars // batch_size
    rounds = -(-num_steps // per_round)
    order = np.stack([generator.permutation(num_exemplars)[: per_round * batch_size] for _ in range(rounds)])
    return order.reshape(-1, batch_size)[:num_steps].astype(np.int64)


def check_plan(plan: np.ndarray, num_exemplars: int) -> np.ndarray:
    """The plan as int64 `[T, b]`.

    Raises:
      ValueError: it is empty (T = 0) or no matrix of integers, or points beyond the exemplars.
    """
    plan = np.asarray(plan)
    if plan.ndim != 2 or not plan.size or plan.dtype.kind not in "iu":
        raise ValueError(
            f"plan is {plan.dtype} of shape {plan.shape}: expected integers [T, b] with T and b of at least 1, such as "
            "mnemonics_tf.bilevel.inner_plan makes."
        )
    if plan.min() < 0 or plan.max() >= num_exemplars:
        raise ValueError(
            f"plan names exemplars {plan.min()}..{plan.max()}: expected 0..{num_exemplars - 1}, as there are "
            f"{num_exemplars}."
        )
    return plan.astype(np.int64)
