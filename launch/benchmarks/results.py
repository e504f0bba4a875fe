"""What was measured, and the ratios that follow from it."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, NamedTuple

import inputs
from cases import PYTORCH, TENSORFLOW, Case, Group, gradient_name


class Ratio(NamedTuple):
    """Median of the rounds' ratios, the least and the greatest; all the same where there is one."""

    value: float
    low: float
    high: float


@dataclasses.dataclass
class Measured:
    """A case and what came out.

    Attributes:
      case: what was done.
      group: with which others it took turns.
      about: what the process told of itself when it was ready.
      first_seconds: of the first turn, tracing included.
      seconds: of each later turn.
      peak_memory: bytes of resident memory at most, libraries included.
      reason: why there are no numbers, or not all.
    """

    case: Case
    group: Group
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    first_seconds: float | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak_memory: int | None = None
    reason: str | None = None

    @property
    def median(self) -> float:
        """Seconds of a later turn."""
        return statistics.median(self.seconds)

    @property
    def tracing_seconds(self) -> float:
        """What the first turn took longer than later ones: tracing in TensorFlow, getting memory in PyTorch."""
        return self.first_seconds - self.median


class Results:
    """All that was measured.

    Args:
      measured: cases without numbers among them.
    """

    def __init__(self, measured: list[Measured]):
        self.all = measured

    def find(self, name: str, inner_steps: int | None = None, batch_norm: str = "frozen") -> Measured | None:
        """The case of that name in a group of that T; None if it has no numbers."""
        for measured in self.all:
            group = measured.group
            if (measured.case.name, group.inner_steps, group.batch_norm) == (name, inner_steps, batch_norm):
                return measured if measured.seconds else None
        return None

    def pytorch(self, measured: Measured) -> Measured | None:
        """PyTorch's measurement of the same meta-step; None if there is none, or `measured` is PyTorch's."""
        group = measured.group
        if group.inner_steps is None or measured.case.framework == PYTORCH or measured.case.work != "meta_step":
            return None
        return self.find(PYTORCH, group.inner_steps, group.batch_norm)

    def over_floor(self, measured: Measured) -> Ratio | None:
        """Seconds over those of the passes that the case cannot do without: inner ones, and the outer gradient."""
        inner, outer = (self._gradient(count, measured.group) for count in (inputs.EXEMPLARS, inputs.OUTER_BATCH))
        if measured.case.passes is None or not measured.seconds or inner is None or outer is None:
            return None
        passes = measured.case.passes
        if measured.group is not inner.group or len({len(m.seconds) for m in (measured, inner, outer)}) > 1:
            return _single(measured.median / (passes * inner.median + outer.median))
        floors = [passes * one + two for one, two in zip(inner.seconds, outer.seconds, strict=True)]
        return _of_rounds(measured.seconds, floors)

    def _gradient(self, count: int, group: Group) -> Measured | None:
        """The plain gradient, from the group itself or from the other T that has it."""
        name = gradient_name(TENSORFLOW, count)
        found = [m for m in self.all if m.case.name == name and m.group.batch_norm == group.batch_norm and m.seconds]
        return min(found, key=lambda m: m.group is not group, default=None)


def time_ratio(measured: Measured | None, other: Measured | None) -> Ratio | None:
    """Seconds of one over those of another: round by round if they took turns, else of the medians."""
    if measured is None or other is None or not measured.seconds or not other.seconds:
        return None
    if measured.group is other.group and len(measured.seconds) == len(other.seconds):
        return _of_rounds(measured.seconds, other.seconds)
    return _single(measured.median / other.median)


def memory_ratio(measured: Measured | None, other: Measured | None) -> Ratio | None:
    """Peak memory of one over that of another."""
    if measured is None or other is None or not measured.peak_memory or not other.peak_memory:
        return None
    return _single(measured.peak_memory / other.peak_memory)


def predicted_memory(case: Case, group: Group, measured: list[Measured]) -> float | None:
    """Bytes at a new T, on the line through those at the last two T; None if there are not two."""
    points = [
        (other.group.inner_steps, other.peak_memory)
        for other in measured
        if other.case.name == case.name and other.case.grows and other.group.batch_norm == group.batch_norm
        if other.peak_memory and other.group.inner_steps
    ][-2:]
    if group.inner_steps is None or len(points) < 2 or points[0][0] == points[1][0]:
        return None
    (steps, memory), (more_steps, more_memory) = points
    return more_memory + (more_memory - memory) / (more_steps - steps) * (group.inner_steps - more_steps)


def _of_rounds(numerators: list[float], denominators: list[float]) -> Ratio:
    ratios = [one / other for one, other in zip(numerators, denominators, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _single(value: float) -> Ratio:
    return Ratio(value, value, value)
