"""What was measured, and the ratios that follow from it."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, NamedTuple

from harness.cases import PYTORCH, Case, Heat


class Ratio(NamedTuple):
    """Median of the rounds' ratios, the least and the greatest; all the same where there is one."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """One of the figures that the project watches.

    Attributes:
      what: is measured.
      ratio: or a time, with a unit.
      unit: behind the number, such as ` s`; empty for a ratio.
      wanted: the bound that it should keep, in words; may be empty.
    """

    what: str
    ratio: Ratio
    unit: str
    wanted: str


@dataclasses.dataclass
class Measured:
    """A case and what came out.

    Attributes:
      case: what was done.
      heat: with which others it took turns.
      about: what the process told of itself when it was ready.
      first_seconds: of the first turn, tracing included.
      seconds: of each later turn.
      answers: what each turn told beside its seconds and the memory, the first one's included.
      peak_memory: bytes of resident memory at most, libraries included.
      reason: why there are no numbers, or not all.
    """

    case: Case
    heat: Heat
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    first_seconds: float | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    answers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    peak_memory: int | None = None
    reason: str | None = None

    @property
    def median(self) -> float:
        """Seconds of a later turn."""
        return statistics.median(self.seconds)

    @property
    def tracing_seconds(self) -> float:
        """What the first turn took longer than later ones: tracing in TensorFlow, getting memory in PyTorch."""
        return (self.first_seconds or 0.0) - self.median

    @property
    def spread(self) -> Ratio:
        """Seconds of a later turn: the median, the fastest and the slowest."""
        return Ratio(self.median, min(self.seconds), max(self.seconds))

    def add(self, answer: dict[str, Any], first: bool) -> None:
        """Takes down what a turn told."""
        told = dict(answer)
        seconds, self.peak_memory = told.pop("seconds"), told.pop("peak_memory")
        if first:
            self.first_seconds = seconds
        else:
            self.seconds.append(seconds)
        if told:
            self.answers.append(told)


class Results:
    """All that was measured of a group.

    Args:
      measured: cases without numbers among them.
    """

    def __init__(self, measured: list[Measured]):
        self.all = measured

    @property
    def heats(self) -> list[str]:
        """Titles of the heats, in their order."""
        return list(dict.fromkeys(each.heat.title for each in self.all))

    def of(self, title: str) -> list[Measured]:
        """The cases of a heat."""
        return [each for each in self.all if each.heat.title == title]

    def in_heat(self, title: str, name: str) -> Measured | None:
        """The case of that name in the heat of that title; None if it has no numbers."""
        return next((each for each in self.of(title) if each.case.name == name and each.seconds), None)

    def fastest(self, title: str, framework: str = PYTORCH, work: str | None = None) -> Measured | None:
        """The case of a framework that is the fastest in a heat, by its median; None if it has none with numbers.

        Args:
          title: of the heat.
          framework: whose.
          work: only cases that do this work; None for any.
        """
        cases = [each for each in self.of(title) if each.case.framework == framework and each.seconds]
        return min((each for each in cases if work in (None, each.case.work)), key=lambda m: m.median, default=None)

    def find(self, name: str, inner_steps: int | None = None, batch_norm: str = "frozen") -> Measured | None:
        """The case of that name in a heat of that T; None if it has no numbers."""
        for each in self.all:
            if (each.case.name, each.heat.inner_steps, each.heat.batch_norm) == (name, inner_steps, batch_norm):
                return each if each.seconds else None
        return None


def time_ratio(measured: Measured | None, other: Measured | None) -> Ratio | None:
    """Seconds of one over those of another: round by round if they took turns, else of the medians."""
    if measured is None or other is None or not measured.seconds or not other.seconds:
        return None
    if measured.heat.title == other.heat.title and len(measured.seconds) == len(other.seconds):
        return of_rounds(measured.seconds, other.seconds)
    return single(measured.median / other.median)


def memory_ratio(measured: Measured | None, other: Measured | None) -> Ratio | None:
    """Peak memory of one over that of another."""
    if measured is None or other is None or not measured.peak_memory or not other.peak_memory:
        return None
    return single(measured.peak_memory / other.peak_memory)


def predicted_memory(case: Case, heat: Heat, measured: list[Measured]) -> float | None:
    """Bytes at a new T, on the line through those at the last two T; None if there are not two."""
    points = [
        (other.heat.inner_steps, other.peak_memory)
        for other in measured
        if other.case.name == case.name and other.case.grows and other.heat.batch_norm == heat.batch_norm
        if other.peak_memory and other.heat.inner_steps
    ][-2:]
    if heat.inner_steps is None or len(points) < 2 or points[0][0] == points[1][0]:
        return None
    (steps, memory), (more_steps, more_memory) = points
    return more_memory + (more_memory - memory) / (more_steps - steps) * (heat.inner_steps - more_steps)


def of_rounds(numerators: list[float], denominators: list[float]) -> Ratio:
    """What one list is over another, entry by entry."""
    ratios = [one / other for one, other in zip(numerators, denominators, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def single(value: float) -> Ratio:
    """A ratio, or a time, that was found once."""
    return Ratio(value, value, value)
