"""Figures over the phases of one run: accuracy, new against old classes, groups, time, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mnemonics_tf.report.page.drawing import COLOURS, INK, Sketch, legend_outside
from mnemonics_tf.report.page.record import Record
from mnemonics_tf.results import PhaseResult, Results

CLASSIFIERS = {"cnn": "CNN (head)", "nme": "NME (nearest mean)"}
_MOST_LABELS = 13  # of phases below an axis
_MOST_WRITTEN = 11  # phases whose heat map has room for figures
_MAP = "viridis"


def phase_ticks(axes: Axes, results: Results) -> None:
    """Labels phases, with the number of classes known after each."""
    classes = np.cumsum(results.phase_sizes)
    step = max(1, -(-len(classes) // _MOST_LABELS))
    shown = range(0, len(classes), step)
    axes.set_xticks(list(shown), [f"{phase}\n{classes[phase]}" for phase in shown])
    axes.set_xlim(-0.3, len(classes) - 0.7)
    axes.set_xlabel("phase, and classes known after it")


def curve(sketch: Sketch, axes: Axes, series: int, name: str, values: Mapping[int, float]) -> None:
    """A curve with a point for each phase, which tells its figure to the pointer."""
    colour = COLOURS[series % len(COLOURS)]
    phases = sorted(values)
    axes.plot(phases, [values[each] for each in phases], color=colour, label=name, gid=sketch.part(series))
    for phase in phases:
        tip = f"{name}, phase {phase}: {values[phase]:.2f} %"
        axes.plot([phase], [values[phase]], "o", color=colour, gid=sketch.part(series, tip))


def accuracy(sketch: Sketch, results: Results, references: Sequence[tuple[str, float]]) -> list[tuple[int, str]]:
    """Accuracy on all classes so far, phase by phase (Figures 4 and S1), by both classifiers.

    Args:
      sketch: is drawn on.
      results: the phases so far.
      references: averages of the paper, each with what it is of; drawn at the right end, beside our average.

    Returns:
      Number and name of each series.
    """
    axes = sketch.figure.subplots()
    names = []
    for series, classifier in enumerate(results.average_accuracy):
        name = CLASSIFIERS.get(classifier, classifier)
        values = {phase.phase: phase.accuracy[classifier] for phase in results.phases}
        curve(sketch, axes, series, name, values)
        names.append((series, name))
    end = len(results.phase_sizes) - 1
    average = results.average_accuracy[results.primary_classifier]
    _average_mark(sketch, axes, end, average, f"average of this run {average:.2f}", INK)
    for index, (name, value) in enumerate(references):
        _average_mark(sketch, axes, end, value, f"{name} {value:.2f}", COLOURS[(3 + index) % len(COLOURS)])
    phase_ticks(axes, results)
    axes.set_ylabel("accuracy (%)")
    legend_outside(axes)
    return names


def _average_mark(sketch: Sketch, axes: Axes, end: int, value: float, name: str, colour: str) -> None:
    left = max(-0.2, end - max(1.0, 0.3 * end))
    axes.plot(
        [left, end + 0.2], [value] * 2, "--", color=colour, linewidth=1.1, label=name, gid=sketch.part(None, name)
    )


def new_and_old(sketch: Sketch, record: Record) -> list[tuple[int, str]]:
    """Accuracy on the classes that a phase brought, on all earlier ones, and on those of phase 0."""
    results, axes = record.results, sketch.figure.subplots()
    groups = {phase.phase: phase.group_accuracy[results.primary_classifier] for phase in results.phases}
    series = {
        "new classes": {phase: values[-1] for phase, values in groups.items()},
        "old classes": {phase: record.of_old_classes(phase) for phase in groups if phase},
        "classes of phase 0": {phase: values[0] for phase, values in groups.items()},
    }
    for number, (name, values) in enumerate(series.items()):
        curve(sketch, axes, number, name, values)
    phase_ticks(axes, results)
    axes.set_ylabel("accuracy (%)")
    legend_outside(axes)
    return list(enumerate(series))


def heat_map(sketch: Sketch, phases: Sequence[PhaseResult], classifier: str) -> None:
    """Accuracy on the classes of each phase, after each phase: what is forgotten fades from top to bottom."""
    axes = sketch.figure.subplots()
    map_of_groups(sketch, axes, phases, classifier)
    map_legend(sketch, [axes])


def map_of_groups(sketch: Sketch, axes: Axes, phases: Sequence[PhaseResult], classifier: str, what: str = "") -> None:
    """Draws such a map on some axes; `what` is what the pointer is told it is of."""
    colours = matplotlib.colormaps[_MAP]
    count = len(phases)
    for phase in phases:
        for group, value in enumerate(phase.group_accuracy[classifier]):
            tip = f"{what}after phase {phase.phase}, classes of phase {group}: {value:.1f} %"
            cell = Rectangle((group - 0.5, phase.phase - 0.5), 1, 1, color=colours(value / 100), linewidth=0.3)
            cell.set_gid(sketch.part(None, tip))
            axes.add_patch(cell)
            if count <= _MOST_WRITTEN:
                # Black on the light end of the map, white on its dark end, whatever the page's scheme is.
                ink = "#000000" if value > 60 else "#ffffff"
                axes.text(group, phase.phase, f"{value:.0f}", ha="center", va="center", color=ink, fontsize=8)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_aspect("equal")
    step = max(1, -(-count // _MOST_LABELS))
    axes.set_xticks(range(0, count, step))
    axes.set_yticks(range(0, count, step))
    axes.grid(False)
    axes.set_xlabel("classes of phase")
    axes.set_ylabel("after phase")


def map_legend(sketch: Sketch, axes: Sequence[Axes]) -> None:
    """The colours of maps, beside them."""
    shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 100), matplotlib.colormaps[_MAP])
    sketch.figure.colorbar(shades, ax=list(axes), label="accuracy (%)", shrink=0.8)


def stage_bars(
    sketch: Sketch, by_stage: Mapping[str, Mapping[int, float]], label: str, unit: str, stacked: bool
) -> list[tuple[int, str]]:
    """A bar for each phase, of stages upon one another, or a line for each stage.

    Args:
      sketch: is drawn on.
      by_stage: numbers by phase, by stage.
      label: of the axis.
      unit: of the numbers, for the pointer.
      stacked: whether they add up, as seconds do and peaks do not.

    Returns:
      Number and name of each series.
    """
    axes = sketch.figure.subplots()
    phases = sorted({phase for values in by_stage.values() for phase in values})
    bottom = dict.fromkeys(phases, 0.0)
    for series, (stage, values) in enumerate(by_stage.items()):
        colour, name = COLOURS[series % len(COLOURS)], stage.replace("_", " ")
        hatch = "///" if series >= len(COLOURS) else None
        for phase in phases if stacked else ():
            value = values.get(phase, 0.0)
            tip = f"{name}, phase {phase}: {value:,.1f} {unit}"
            (bar,) = axes.bar(
                [phase], [value], 0.7, bottom[phase], color=colour, hatch=hatch, edgecolor=INK, linewidth=0
            )
            bar.set_gid(sketch.part(series, tip))
            if phase == phases[0]:
                bar.set_label(name)
            bottom[phase] += value
        if not stacked:
            line = "-" if hatch is None else "--"
            axes.plot(list(values), list(values.values()), line, color=colour, label=name, gid=sketch.part(series))
            for phase, value in values.items():
                tip = f"{name}, phase {phase}: {value:,.0f} {unit}"
                axes.plot([phase], [value], "o", color=colour, gid=sketch.part(series, tip))
    step = max(1, -(-len(phases) // _MOST_LABELS))
    axes.set_xticks(phases[::step])
    axes.set_xlabel("phase")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    legend_outside(axes)
    return [(series, stage.replace("_", " ")) for series, stage in enumerate(by_stage)]
