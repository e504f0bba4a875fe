"""Figures of what the memory holds: how far exemplars move while they are learned, where they lie, what they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from mnemonics_tf.report.page.curves import Curve
from mnemonics_tf.report.page.drawing import COLOURS, INK, Sketch, legend_below, legend_outside, whole_numbers
from mnemonics_tf.report.page.embedding import Embedded

_MOST_TIPS = 60  # points of a curve that the pointer can find


def over_epochs(sketch: Sketch, panels: Sequence[tuple[str, str, Mapping[int, Curve]]]) -> list[tuple[int, str]]:
    """Curves over the epochs of an optimisation, a panel for each quantity and a line for each phase.

    Args:
      sketch: is drawn on.
      panels: title, label of the axis, and curves by phase.

    Returns:
      Number and name of each series, which are phases.
    """
    row = sketch.figure.subplots(1, len(panels), squeeze=False)[0]
    phases = sorted({phase for _, _, curves in panels for phase in curves})
    colours = _shades(len(phases))
    for axes, (title, label, curves) in zip(row, panels, strict=True):
        for phase, values in curves.items():
            place = phases.index(phase)
            name = f"phase {phase}"
            axes.plot(list(values), list(values.values()), color=colours[place], label=name, gid=sketch.part(place))
            for epoch, value in _thinned(values):
                tip = f"{name}, epoch {epoch}: {value:.4g}"
                axes.plot([epoch], [value], "o", color=colours[place], markersize=3, gid=sketch.part(place, tip))
        axes.set_title(title)
        whole_numbers(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
    legend_outside(row[-1])
    return [(place, f"phase {phase}") for place, phase in enumerate(phases)]


def _thinned(values: Curve) -> list[tuple[int, float]]:
    points = list(values.items())
    return points[:: max(1, -(-len(points) // _MOST_TIPS))]


def _shades(count: int) -> list:
    """A colour for each phase or class; of many, early ones are at one end of a scale."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    scale = matplotlib.colormaps["turbo"]
    return [matplotlib.colors.to_hex(scale(0.1 + 0.8 * place / max(1, count - 1))) for place in range(count)]


def embeddings(sketch: Sketch, rows: Sequence[tuple[str, Sequence[tuple[str, Embedded, str]]]]) -> None:
    """t-SNE of features, as in Figures 1 and 5 of the paper: data pale, exemplars deep, a cross for each other class.

    Args:
      sketch: is drawn on.
      rows: a title, and panels from left to right: title, what is shown, and which of its exemplars.
    """
    columns = max(len(panels) for _, panels in rows)
    grid = sketch.figure.subplots(len(rows), columns, squeeze=False)
    # A class has one colour in all rows, where others may have come first.
    names = dict.fromkeys(name for _, panels in rows for _, embedded, _ in panels for name in embedded.names)
    colours = dict(zip(names, _shades(len(names)), strict=True))
    for line, (title, panels) in zip(grid, rows, strict=True):
        for axes in line[len(panels) :]:
            axes.set_visible(False)
        for place, (axes, (name, embedded, which)) in enumerate(zip(line, panels, strict=False)):
            _embedding(axes, embedded, which, colours)
            axes.set_title(name)
            if place == 0:
                axes.set_ylabel(title)
    named: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    legend_below(sketch.figure, named)


def _embedding(axes: Axes, embedded: Embedded, which: str, colours: Mapping[str, str]) -> None:
    if len(embedded.others):
        across, up = embedded.others.T
        axes.scatter(across, up, marker="x", s=16, color="#8a8a8a", linewidth=0.8, label="other classes")
    points, owners = embedded.exemplars[which]
    for place, name in enumerate(embedded.names):
        colour = colours[name]
        across, up = embedded.data[embedded.data_owners == place].T
        axes.scatter(across, up, s=9, color=colour, alpha=0.28, linewidth=0, rasterized=True)
        across, up = points[owners == place].T
        # The ring, which is of the page's ink, keeps deep colours apart from a dark page too.
        axes.scatter(across, up, s=20, color=_deep(colour), edgecolor=INK, linewidth=0.9, label=name, zorder=3)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _deep(colour: str) -> str:
    """The colour at three quarters of its brightness."""
    return matplotlib.colors.to_hex(np.array(matplotlib.colors.to_rgb(colour)) * 0.75)


def sizes(sketch: Sketch, by_part: Mapping[str, Mapping[int, float]]) -> list[tuple[int, str]]:
    """Bytes kept after each phase, by what they are of, in a unit that fits.

    Returns:
      Number and name of each series.
    """
    axes = sketch.figure.subplots()
    most = max(value for values in by_part.values() for value in values.values())
    unit, size = ("MB", 1e6) if most >= 1e6 else ("kB", 1e3)
    for series, (name, in_bytes) in enumerate(by_part.items()):
        values = {phase: value / size for phase, value in in_bytes.items()}
        colour = COLOURS[series % len(COLOURS)]
        axes.plot(list(values), list(values.values()), color=colour, label=name, gid=sketch.part(series))
        for phase, value in values.items():
            tip = f"{name}, phase {phase}: {value:,.1f} {unit}"
            axes.plot([phase], [value], "o", color=colour, gid=sketch.part(series, tip))
    whole_numbers(axes)
    axes.set_xlabel("phase")
    axes.set_ylabel(unit)
    axes.set_ylim(0, 1.08 * most / size or 1)
    legend_outside(axes)
    return list(enumerate(by_part))
