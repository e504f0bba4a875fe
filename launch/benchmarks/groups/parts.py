"""Where the time of LUCIR's step goes."""

from __future__ import annotations

import statistics

import inputs
from harness.cases import TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Measured, Results

_WHOLE = "the whole step, `train_model`"

_NOTE = f"""\
LUCIR's step of the group `steps` taken to pieces: each part is a traced function of its own, {inputs.TRAINING_STEPS}
calls a turn. `losses and backward` is what the student's step takes beyond its pass forward and the updates
(`optimiser`, called with gradients that are there already). The whole step prepares its input while it computes, so
that it can be shorter than the sum."""


def heats(quick: bool) -> list[Heat]:
    """The parts beside the whole."""
    cases = (
        Case(TENSORFLOW, "parts", "parts.parts_of_a_step"),
        Case(TENSORFLOW, _WHOLE, "training.method_step", {"method": "lucir"}),
    )
    return [Heat("LUCIR's step in parts", 2 if quick else 4, cases)]


def watched(results: Results) -> list[Line]:
    """None: the step as a whole is watched by `steps`."""
    return []


def _milliseconds(measured: Measured) -> dict[str, float]:
    """The median of each part over the turns after the first, which traces."""
    turns = [answer["parts"] for answer in measured.answers[1:]]
    return {name: 1e3 * statistics.median(turn[name] for turn in turns) for name in turns[0]} if turns else {}


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row a part, their sum, and the whole."""
    rows: list[tuple[str, ...]] = []
    for each in results.all:
        if not each.seconds:
            rows.append((each.case.name, each.reason or "", ""))
        elif each.case.name == _WHOLE:
            rows.append((_WHOLE, f"{1e3 * each.median / inputs.TRAINING_STEPS:.1f}", ""))
        else:
            parts = _milliseconds(each)
            total = sum(parts.values())
            rows += [(name, f"{value:.1f}", f"{value / total:.0%}") for name, value in parts.items()]
            rows.append(("sum of the parts", f"{total:.1f}", "100%"))
    return ("part", "milliseconds a step", "share of the sum"), rows


GROUP = Group("parts", "Model level: where the time of a step goes", _NOTE, heats, table, watched)
