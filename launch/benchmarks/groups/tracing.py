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
is tracing and little else. `fixed` is what a phase takes beyond its {inputs.TRACED_EPOCHS} epochs at the pace of the
last ones: building and tracing every function of the phase, and passes over the few images, so it is more than
tracing. The short schedule's seconds are reckoned from the same pace: {inputs.SHORT_EPOCHS} epochs over the phase's
{_NEW * inputs.IMAGES_A_CLASS:,} new images and {inputs.EXEMPLARS_A_CLASS} exemplars of every old class; learning
exemplars, herding and evaluation would come on top, so the share is an upper bound. Memory is resident memory after the
phase."""


def heats(quick: bool) -> list[Heat]:
    """One process that goes through all phases in its first turn."""
    case = Case(TENSORFLOW, "phases", "phases.many_phases", {"num_phases": _QUICK_PHASES if quick else _PHASES})
    return [Heat("tracing over many phases", 0, (case,))]


def phases(results: Results) -> list[dict[str, Any]]:
    """What the process has told of each phase, with its fixed seconds and those of the short schedule's training."""
    told = [answer["phases"] for each in results.all for answer in each.answers if "phases" in answer]
    found = []
    for phase in told[-1] if told else []:
        pace = phase["seconds_of_an_epoch"] / phase["images"]
        short = _NEW * inputs.IMAGES_A_CLASS + (phase["classes"] - _NEW) * inputs.EXEMPLARS_A_CLASS
        fixed = phase["seconds"] - inputs.TRACED_EPOCHS * phase["seconds_of_an_epoch"]
        found.append({**phase, "fixed": fixed, "schedule": inputs.SHORT_EPOCHS * short * pace})
    return found


def share(found: list[dict[str, Any]]) -> float:
    """Fixed seconds of all phases over those of the short schedule with them."""
    fixed, schedule = (sum(phase[name] for phase in found) for name in ("fixed", "schedule"))
    return fixed / (fixed + schedule)


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
        Line(f"fixed seconds of phases / those of the short schedule, {over}", single(share(found)), "", "under 0.03"),
        Line(f"memory that a later phase leaves, {over}", single(grown), " MB", "none"),
    ]


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for some of the phases."""
    found = phases(results)
    rows = [(each.case.name, each.reason, "", "", "", "") for each in results.all if each.reason]
    for number, phase in enumerate(found, 1):
        if number in (1, 2, 3, len(found)) or number % 5 == 0:
            rows.append(
                (
                    str(number),
                    str(phase["classes"]),
                    f"{phase['fixed']:.1f}",
                    f"{phase['schedule']:.0f}",
                    f"{share([phase]):.1%}",
                    f"{phase['resident'] / _GB:.2f}",
                )
            )
    return ("phase", "classes", "fixed, s", "short schedule, s", "share", "memory after it, GB"), rows


GROUP = Group("tracing", "Tracing over many phases", _NOTE, heats, table, watched)
