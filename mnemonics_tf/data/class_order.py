"""In which order classes arrive, and how many in each phase."""

from __future__ import annotations

import dataclasses
import math

import gin
import numpy as np

from mnemonics_tf import checks


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a data set's classes are dealt out to phases.

    Attributes:
      num_phases: N, the number of phases after the initial one.
      initial_share: share of the classes in phase 0; 0 deals all classes evenly to N + 1 phases (known as B0).
      order_seed: seed of the class order, apart from the seed of training; None keeps the data set's own order.
    """

    num_phases: int = 5
    initial_share: float = 0.5
    order_seed: int | None = 1993

    def __post_init__(self):
        checks.check_non_negative_integer(**{"Protocol.num_phases": self.num_phases})
        if self.order_seed is not None:
            checks.check_non_negative_integer(**{"Protocol.order_seed": self.order_seed})
            if self.order_seed >= 2**32:
                raise checks.UsageError(f"Protocol.order_seed = {self.order_seed}: expected a number below 2^32.")
        share = self.initial_share
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise checks.UsageError(f"Protocol.initial_share = {share!r}: expected a number from 0 to 1.")

    def class_order(self, num_classes: int) -> np.ndarray:
        """Class ids in the order of their arrival, `[num_classes]` int64."""
        return class_order(num_classes, self.order_seed)

    def phase_sizes(self, num_classes: int) -> list[int]:
        """Number of new classes in each of the N + 1 phases.

        Raises:
          UsageError: the classes cannot be dealt out evenly.
        """
        if self.num_phases == 0:
            return [num_classes]
        if self.initial_share == 0:
            return _even(num_classes, self.num_phases + 1, num_classes)
        initial = num_classes * self.initial_share
        if not math.isclose(initial, round(initial)) or not 0 < round(initial) < num_classes:
            raise checks.UsageError(
                f"Protocol.initial_share = {self.initial_share} of {num_classes} classes is {initial:g}: expected a "
                f"whole number from 1 to {num_classes - 1}."
            )
        rest = num_classes - round(initial)
        return [round(initial), *_even(rest, self.num_phases, num_classes)]


def class_order(num_classes: int, seed: int | None) -> np.ndarray:
    """The field's class order: `arange` shuffled by NumPy's legacy generator.

    Args:
      num_classes: how many.
      seed: 1993 in the literature; None for no shuffling.

    Returns:
      `[num_classes]` int64. For 100 classes and seed 1993 it starts 68, 56, 78, 8, 23.
    """
    order = np.arange(num_classes)
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    return order.astype(np.int64)


def _even(count: int, parts: int, num_classes: int) -> list[int]:
    if count % parts:
        fitting = [n for n in range(1, count + 1) if count % n == 0]
        raise checks.UsageError(
            f"{count} of the {num_classes} classes cannot be dealt evenly to {parts} phases. Numbers of phases that "
            f"divide them: {', '.join(map(str, fitting))} (see Protocol.num_phases and Protocol.initial_share)."
        )
    return [count // parts] * parts
