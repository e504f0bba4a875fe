"""Accuracy over the number of training steps, a curve for each memory."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Sequence

import numpy as np

from instrument.outcomes import Outcome, by_seed
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.report.page import drawing

NAME = "curves"  # of the files
_PANEL, _HEIGHT = 4.4, 3.2  # inches


def draw(outcomes: Sequence[Outcome], folder: pathlib.Path) -> None:
    """Writes `curves.png`, `.svg` and `.pdf`: a panel for each method and N, means over seeds, with 95 % intervals."""
    panels: dict[tuple, dict[str, dict[float, list[Outcome]]]] = {}
    for outcome in outcomes:
        memories = panels.setdefault((outcome.method, outcome.num_phases), {})
        memories.setdefault(outcome.memory, collections.defaultdict(list))[outcome.length].append(outcome)
    # A memory has one look in all panels.
    names = list(dict.fromkeys(name for memories in panels.values() for name in memories))
    looks = {name: drawing.look(place) for place, name in enumerate(names)}
    handles = {}
    with drawing.sketch(_PANEL * len(panels), _HEIGHT + 0.25 * (len(names) // 4)) as sketch:
        row = sketch.figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, ((method, num_phases), memories) in zip(row, panels.items(), strict=True):
            marked: dict[float, float] = {}  # steps by length
            for name, by_length in memories.items():
                steps, means, halves = np.array([_point(by_length[length]) for length in sorted(by_length)]).T
                marked |= zip(sorted(by_length), steps, strict=True)
                colour, line = looks[name]
                (handles[name],) = axes.plot(steps, means, f"o{line}", color=colour)
                axes.fill_between(steps, means - halves, means + halves, color=colour, alpha=0.15, linewidth=0)
            axes.set_xscale("log", base=2)
            places = sorted(marked.values())
            axes.set_xticks(places, [f"{place:,.0f}" for place in places])
            axes.minorticks_off()
            axes.set(title=f"{method}, N = {num_phases}", xlabel="training steps")
        row[0].set_ylabel("all classes (%)")
        drawing.legend_below(sketch.figure, handles)
        drawing.finish(sketch, NAME, str(folder), "Accuracy on all classes over the number of training steps.")


def _point(members: list[Outcome]) -> tuple[float, float, float]:
    """Steps, mean and half of the interval; 0 for the interval of one run."""
    values = by_seed((member.seed, member.of_all) for member in members)
    half = metrics.confidence_interval(values) if len(values) > 1 else 0.0
    return float(np.mean([member.steps for member in members])), float(np.mean(values)), half
