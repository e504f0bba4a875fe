"""What tracing costs over many phases, in time and in memory."""

from __future__ import annotations

from typing import Any

import inputs
from harness.cases import TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Results, single

_PHASES, _QUICK_PHASES = 26, 4
_NEW = 2
_GB = 1e9

_NOTE = f"""\
LUCIR with herding, ResNet-20, {inputs.OLD_CLASSES} classes and then {_NEW} at a time, with so few images that a phase
is tracing and little else. `traced` is the time in which Python functions became graphs, those of input pipelines among
them. `fixed` is what a phase takes beyond its {inputs.TRACED_EPOCHS} epochs at the pace of the last ones: tracing,
building networks, what TensorFlow does to a graph before its first run, and passes over the few images. The short
schedule's seconds are reckoned from the same pace: {inputs.SHORT_EPOCHS} epochs over the phase's
{_NEW * inputs.IMAGES_A_CLASS:,} new images and {inputs.EXEMPLARS_A_CLASS} exemplars of every old class. Shares are of
those seconds with the fixed ones, and upper bounds, as learning exemplars, herding and evaluation would come on top.
Memory is resident memory after the phase."""


def heats(quick: bool) -> list[Heat]:
    """One process that goes through all phases in its first turn."""
    case = Case(TENSORFLOW, "phases", "phases.many_phases", {"num_phases": _QUICK_PHASES if quick else _PHASES})
    return [Heat("tracing over many phases", 0, (case,))]


def phases(results: Results) -> list[dict[str, Any]]:
    """What the process has told of each phase, with its fixed seconds and those of the short schedule's training.

    Records of earlier versions do not have the seconds of tracing, and are taken for none.
    """
    told = [answer["phases"] for each in results.all for answer in each.answers if "phases" in answer]
    found = []
    for phase in told[-1] if told and "traced" in told[-1][0] else []:
        pace = phase["seconds_of_an_epoch"] / phase["images"]
        short = _NEW * inputs.IMAGES_A_CLASS + (phase["classes"] - _NEW) * inputs.EXEMPLARS_A_CLASS
        fixed = phase["seconds"] - inputs.TRACED_EPOCHS * phase["seconds_of_an_epoch"]
        found.append({**phase, "fixed": fixed, "schedule": inputs.SHORT_EPOCHS * short * pace})
    return found


def share(found: list[dict[str, Any]], name: str) -> float:
    """Seconds of all phases, `fixed` or `traced`, over those of the short schedule with the fixed ones."""
    fixed, schedule, asked = (sum(phase[each] for phase in found) for each in ("fixed", "schedule", name))
    return asked / (fixed + schedule)


def growth_a_phase(found: list[dict[str, Any]]) -> float:
    """Bytes by which resident memory grows from a phase to the next, on average of the later half of them."""
    later = found[len(found) // 2 :]
    return (later[-1]["resident"] - later[0]["resident"]) / max(1, len(later) - 1)


def watched(results: Results) -> list[Line]:
    """The share of tracing, and what it leaves in memory."""
    found = phases(results)
    if not found:
        return []
    over = f"over {len(found) + 1} phases"
    grown = growth_a_phase(found) / 1e6
    return [
        Line(f"time of tracing / that of the short schedule, {over}", single(share(found, "traced")), "", "under 0.03"),
        Line(f"fixed time of phases / that of the short schedule, {over}", single(share(found, "fixed")), "", ""),
        Line(f"memory that a later phase leaves, {over}", single(grown), " MB", "none"),
    ]


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for some of the phases."""
    found = phases(results)
    rows = [(each.case.name, each.reason, *[""] * 6) for each in results.all if each.reason]
    for number, phase in enumerate(found, 1):
        if number in (1, 2, 3, len(found)) or number % 5 == 0:
            rows.append(
                (
                    str(number),
                    str(phase["classes"]),
                    f"{phase['traced']:.1f}",
                    f"{phase['fixed']:.1f}",
                    f"{phase['schedule']:.0f}",
                    f"{share([phase], 'traced'):.1%}",
                    f"{share([phase], 'fixed'):.1%}",
                    f"{phase['resident'] / _GB:.2f}",
                )
            )
    head = ("phase", "classes", "traced, s", "fixed, s", "short schedule, s", "traced", "fixed", "memory after it, GB")
    return head, rows


GROUP = Group("tracing", "Tracing over many phases", _NOTE, heats, table, watched)
