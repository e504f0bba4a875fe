"""Figures of several groups of runs beside one another."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from mnemonics_tf.evaluation import metrics
from mnemonics_tf.report.groups import Group
from mnemonics_tf.report.page.drawing import COLOURS, INK, Sketch, legend_outside, look
from mnemonics_tf.report.page.phase_figures import map_legend, map_of_groups, phase_ticks
from mnemonics_tf.results import Results
from mnemonics_tf.system import screen


def curves(
    sketch: Sketch,
    groups: Sequence[tuple[str, Group]],
    found: Mapping[str, Results],
    references: Sequence[tuple[int, str, float]],
) -> list[tuple[int, str]]:
    """Accuracy by phase, the mean over seeds with its 95 % interval as a ribbon (Figures 4 and S1).

    Args:
      sketch: is drawn on.
      groups: runs of the same data and phases, with the name of each group.
      found: the results of every run by its folder.
      references: averages of the paper: series that each belongs to, name, value; drawn at the right end.

    Returns:
      Number and name of each series.
    """
    axes = sketch.figure.subplots()
    for series, (name, group) in enumerate(groups):
        classifier = group.setup.primary_classifier
        seeds = np.array([[phase.accuracy[classifier] for phase in found[run.folder].phases] for run in group.runs])
        means, phases = seeds.mean(axis=0), np.arange(seeds.shape[1])
        colour, line = look(series)
        axes.plot(phases, means, line, color=colour, label=_short(name), gid=sketch.part(series))
        half = np.zeros(len(phases))
        if len(seeds) > 1:
            half = np.array([metrics.confidence_interval(column) for column in seeds.T.tolist()])
            axes.fill_between(
                phases, means - half, means + half, color=colour, alpha=0.2, linewidth=0, gid=sketch.part(series)
            )
        for phase, mean in enumerate(means.tolist()):
            interval = f" ± {half[phase]:.2f}" if len(seeds) > 1 else ""
            tip = f"{name}, phase {phase}: {mean:.2f}{interval} % ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})"
            axes.plot([phase], [mean], "o", color=colour, gid=sketch.part(series, tip))
    end = groups[0][1].setup.num_phases
    for series, name, value in references:
        left = max(-0.2, end - max(1.0, 0.3 * end))
        tip = f"{name}: {value:.2f} %"
        axes.plot([left, end + 0.2], [value] * 2, ":", color=look(series)[0], gid=sketch.part(series, tip))
    if references:
        axes.plot([], [], ":", color=INK, label="the paper's average")
    first = next(iter(groups))[1].runs[0].folder
    phase_ticks(axes, found[first])
    axes.set_ylabel("accuracy (%)")
    legend_outside(axes)
    return [(series, name) for series, (name, _) in enumerate(groups)]


def averages(sketch: Sketch, groups: Sequence[tuple[str, Group]]) -> list[tuple[int, str]]:
    """Average accuracy against forgetting, a small point for each seed and a large one for their mean."""
    axes = sketch.figure.subplots()
    for series, (name, group) in enumerate(groups):
        classifier = group.setup.primary_classifier
        points = [
            [run.figures[which, classifier] for which in ("forgetting", "average_accuracy")] for run in group.runs
        ]
        colour, _ = look(series)
        for (lost, average), run in zip(points, group.runs, strict=True):
            tip = f"{name}, seed {run.seed}: average {average:.2f} %, forgetting {lost:.2f} %"
            axes.plot([lost], [average], "o", color=colour, alpha=0.4, markersize=4, gid=sketch.part(series, tip))
        lost, average = (statistics.fmean(values) for values in zip(*points, strict=True))
        tip = f"{name}: average {average:.2f} %, forgetting {lost:.2f} %"
        marker = "oDs^"[series // len(COLOURS) % 4]
        axes.plot(
            [lost], [average], marker, color=colour, markersize=8, label=_short(name), gid=sketch.part(series, tip)
        )
    axes.set_xlabel("forgetting (%), less is better")
    axes.set_ylabel("average accuracy (%)")
    legend_outside(axes)
    return [(series, name) for series, (name, _) in enumerate(groups)]


def maps(sketch: Sketch, groups: Sequence[tuple[str, Group]], found: Mapping[str, Results], columns: int) -> None:
    """A heat map of the first seed of each group: accuracy on the classes of each phase, after each phase.

    Args:
      sketch: is drawn on.
      groups: runs with the name of each group.
      found: the results of every run by its folder.
      columns: maps in a row.
    """
    rows = -(-len(groups) // columns)
    grid = sketch.figure.subplots(rows, columns, squeeze=False).flat
    used = []
    for axes, (name, group) in zip(grid, groups, strict=False):
        run = group.runs[0]
        phases, what = found[run.folder].phases, f"{name}, seed {run.seed}, "
        map_of_groups(sketch, axes, phases, group.setup.primary_classifier, what)
        axes.set_title(_short(name), fontsize=8)
        used.append(axes)
    for axes in list(sketch.figure.axes)[len(used) :]:
        axes.set_visible(False)
    map_legend(sketch, used)


def _short(name: str) -> str:
    """A name that leaves room for the curves."""
    return screen.shortened(name, 42)  # in the middle: the budget stands at the end
