"""Means and confidence intervals of percentages over the seeds of one experiment."""

from __future__ import annotations

import dataclasses
import statistics

from mnemonics_tf.evaluation import metrics
from mnemonics_tf.report.groups import Group


@dataclasses.dataclass(frozen=True)
class Figure:
    """A percentage, averaged over seeds.

    Attributes:
      mean: mean over the seeds, in percent.
      half_interval: half the width of the mean's 95 % confidence interval (Student's t), in percentage points; None
        with one seed.
    """

    mean: float
    half_interval: float | None


def figure(group: Group, measure: str, classifier: str) -> Figure | None:
    """Averages a measure over the seeds of a group.

    Args:
      group: runs that differ in nothing but their seed.
      measure: `average_accuracy`, `last_accuracy` or `forgetting`.
      classifier: `cnn` or `nme`.

    Returns:
      The figure; None if some run of the group has none of that classifier.
    """
    if any((measure, classifier) not in run.figures for run in group.runs):
        return None
    values = [run.figures[measure, classifier] for run in group.runs]
    return Figure(statistics.fmean(values), metrics.confidence_interval(values) if len(values) > 1 else None)
