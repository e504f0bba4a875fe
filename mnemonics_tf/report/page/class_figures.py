"""Figures over the classes of one run: what is taken for what, and what is forgotten of each class."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np

from mnemonics_tf.report.page.drawing import COLOURS, INK, Sketch
from mnemonics_tf.system import screen

_MOST_NAMES = 30  # classes whose names have room at an axis
_LETTERS = 28  # of such a name: longer ones would leave no room for the figure
_MOST_TIPS = 200  # classes of which each has a bar that the pointer can find
_MAP = "viridis"


def confusion(sketch: Sketch, counts: np.ndarray, sizes: Sequence[int], names: Sequence[str]) -> None:
    """A confusion matrix in the order in which classes arrived, with lines between the phases that brought them.

    Args:
      sketch: is drawn on.
      counts: `[k, k]`, rows by true class.
      sizes: number of classes of each phase so far.
      names: of the classes, in their order.
    """
    axes = sketch.figure.subplots()
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The square root keeps rare confusions visible beside a strong diagonal.
    scale = matplotlib.colors.PowerNorm(0.5, 0, 100)
    shown = axes.imshow(share, cmap=_MAP, norm=scale, interpolation="nearest")
    for edge in np.cumsum(sizes)[:-1] - 0.5:
        axes.axhline(edge, color="#ffffff", linewidth=0.6, alpha=0.7)
        axes.axvline(edge, color="#ffffff", linewidth=0.6, alpha=0.7)
    if len(names) <= _MOST_NAMES:
        places, labels = list(range(len(names))), [screen.shortened(name, _LETTERS) for name in names]
        axes.set_xticks(places, labels, rotation=90, fontsize=7)
        axes.set_yticks(places, labels, fontsize=7)
    else:
        ends = np.cumsum(sizes)
        places = (ends - np.array(sizes) / 2 - 0.5).tolist()
        labels = [f"phase {phase}" for phase in range(len(sizes))]
        step = max(1, -(-len(sizes) // 13))
        axes.set_xticks(places[::step], labels[::step], rotation=90, fontsize=7)
        axes.set_yticks(places[::step], labels[::step], fontsize=7)
    axes.grid(False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("test images of")
    sketch.figure.colorbar(shown, ax=axes, label="share of the class (%)", shrink=0.8)


def classes(
    sketch: Sketch, at_end: np.ndarray, at_arrival: np.ndarray | None, group_of: np.ndarray, names: Sequence[str]
) -> None:
    """Accuracy on each class at the end, and what it was when the class arrived; old classes in one colour, new in
    another.

    Args:
      sketch: is drawn on.
      at_end: percentages after the last phase, `[k]`.
      at_arrival: percentages after the phase that brought the class, `[k]`; None where they are not known.
      group_of: the phase that brought each class, `[k]`.
      names: of the classes.
    """
    axes = sketch.figure.subplots()
    last = group_of.max(initial=0)
    for index, (value, group) in enumerate(zip(at_end, group_of, strict=True)):
        before = "" if at_arrival is None else f", {at_arrival[index]:.0f} % when it arrived"
        tip = f"{names[index]} (phase {group}): {value:.0f} % at the end{before}" if len(names) <= _MOST_TIPS else ""
        (bar,) = axes.bar([index], [value], 0.9, color=COLOURS[1] if group == last else COLOURS[0], linewidth=0)
        bar.set_gid(sketch.part(None, tip))
        if index == len(names) - 1 or (index == 0 and last > 0):  # one of each kind
            bar.set_label("new classes, at the end" if group == last else "old classes, at the end")
    if at_arrival is not None:
        width = float(np.clip(240 / len(names), 2, 14))
        axes.plot(at_arrival, "_", color=INK, markersize=width, clip_on=False, label="when it arrived")
    for edge in np.flatnonzero(np.diff(group_of)) + 0.5:
        axes.axvline(edge, color=INK, linewidth=0.4, alpha=0.5)
    if len(names) <= _MOST_NAMES:
        labels = [screen.shortened(name, _LETTERS) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=7)
    else:
        axes.set_xlabel("classes in the order in which they arrived; lines stand between phases")
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=3)


def shares_correct(counts: np.ndarray) -> np.ndarray:
    """Accuracy on each class in percent, `[k]`, of a confusion matrix `[k, k]` whose rows are true classes."""
    return 100 * np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
