"""Figures over seeds."""

from __future__ import annotations

import dataclasses
import statistics

from mnemonics_tf.evaluation import metrics
from mnemonics_tf.report.groups import Group


@dataclasses.dataclass(frozen=True)
class Figure:
    """A percentage.

    Attributes:
      mean: over the seeds.
      half_interval: half the width of its 95 % confidence interval (Student's t); None with one seed.
    """

    mean: float
    half_interval: float | None


def figure(group: Group, measure: str, classifier: str) -> Figure | None:
    """A figure of a group over its seeds.

    Args:
      group: runs that differ in their seed.
      measure: `average_accuracy`, `last_accuracy` or `forgetting`.
      classifier: `cnn` or `nme`.

    Returns:
      None if the group's runs do not have that classifier.
    """
    if any((measure, classifier) not in run.figures for run in group.runs):
        return None
    values = [run.figures[measure, classifier] for run in group.runs]
    return Figure(statistics.fmean(values), metrics.confidence_interval(values) if len(values) > 1 else None)
