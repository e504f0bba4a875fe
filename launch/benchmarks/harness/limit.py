"""The machine's arithmetic limit: how fast it multiplies large matrices, which nothing else exceeds.

A step's additions and multiplications over that rate are the seconds that it would take if it did nothing else, and did
that as fast as the machine can. What share of the limit a step reaches is those seconds over its own.
"""

from __future__ import annotations

import inputs

from harness.cases import PYTORCH, TENSORFLOW, Case
from harness.measured import Measured, Results

MATRIX_MULTIPLY = "matrix multiply"
_WORK = "matrix.multiply"


def cases() -> tuple[Case, ...]:
    """A large product of matrices in both frameworks, to take turns with what it is the limit of."""
    operations = 2.0 * inputs.MATRIX_SIDE**3 * inputs.MATRIX_REPEATS
    return tuple(
        Case(framework, f"{MATRIX_MULTIPLY}, {framework}", _WORK, repeats=1, operations=operations)
        for framework in (TENSORFLOW, PYTORCH)
    )


def rate_of(results: Results) -> float | None:
    """Operations a second of the faster framework's matrix multiply, at the median; None if neither has numbers."""
    rates = [
        each.case.operations / each.median
        for each in results.all
        if each.case.work == _WORK and each.seconds and each.case.operations
    ]
    return max(rates, default=None)


def share_of_limit(measured: Measured, rate: float | None) -> float | None:
    """Seconds of the work at the limit over those that it takes; None where its operations were not counted.

    Args:
      measured: with seconds.
      rate: operations a second, or None if that is not known.
    """
    if rate is None or measured.case.operations is None or not measured.seconds:
        return None
    return measured.case.operations / rate / measured.median


def network_operations(multiply_adds: int, images: int, forward: float, backward: float = 0.0) -> float:
    """Additions and multiplications of convolutions.

    Args:
      multiply_adds: of one image on its way forward.
      images: how many there are.
      forward: passes forward: 1, or 2 with a teacher.
      backward: passes backward: 2 for gradients of values and of weights, 1 for those of values alone.
    """
    return 2.0 * multiply_adds * images * (forward + backward)
