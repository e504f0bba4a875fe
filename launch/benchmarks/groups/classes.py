"""How the seconds of a phase grow with the number of classes that came before."""

from __future__ import annotations

import inputs
from harness.cases import TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Measured, Results, single
from harness.tables import gigabytes, text

_OLD = (50, 100, 200, 500, 1000)

_NOTE = f"""\
{inputs.NEW_CLASSES} classes of {inputs.SMALL_IMAGES_A_CLASS} made-up images of {inputs.SMALL_SIDE} x
{inputs.SMALL_SIDE} come after so many old ones, of which {inputs.EXEMPLARS_A_CLASS} exemplars each are there: LUCIR
with herding, ResNet-8, one epoch, {inputs.SMALL_TESTS_A_CLASS} test images of every class. The network is that small so
that what is not its work shows. The data of a phase are the images that it trains on, new ones and exemplars; its
seconds should grow no faster than they do."""


def heats(quick: bool) -> list[Heat]:
    """A case for each number of old classes."""
    cases = tuple(
        Case(
            TENSORFLOW,
            str(old),
            "phases.after_many_classes",
            {"old_classes": old},
            images=inputs.NEW_CLASSES * inputs.SMALL_IMAGES_A_CLASS + old * inputs.EXEMPLARS_A_CLASS,
        )
        for old in ((50, 200) if quick else _OLD)
    )
    return [Heat("a phase after many classes", 1 if quick else 2, cases)]


def _with_numbers(results: Results) -> list[Measured]:
    return [each for each in results.all if each.seconds]


def watched(results: Results) -> list[Line]:
    """What the seconds grow by, over what the data do, from the fewest old classes to the most."""
    known = _with_numbers(results)
    if len(known) < 2:
        return []
    first, last = known[0], known[-1]
    growth = (last.median / first.median) / (last.case.images / first.case.images)
    what = f"seconds of a phase, {last.case.name} / {first.case.name} old classes, over the same of its data"
    return [Line(what, single(growth), "", "at most 1")]


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for each number of old classes, relative to the first."""
    known = _with_numbers(results)
    rows = [(each.case.name, f"{each.case.images:,}", each.reason or "", *[""] * 4)
            for each in results.all if not each.seconds]  # fmt: skip
    for each in known:
        rows.append(
            (
                each.case.name,
                f"{each.case.images:,}",
                text(each.spread),
                f"{each.first_seconds:.1f}",
                f"{each.case.images / known[0].case.images:.2f}",
                f"{each.median / known[0].median:.2f}",
                gigabytes(each),
            )
        )
    columns = ("old classes", "images of the phase", "seconds", "first turn, s", "times the data", "times the seconds")
    return (*columns, "peak memory, GB"), rows


GROUP = Group("classes", "Seconds of a phase against old classes", _NOTE, heats, table, watched)
