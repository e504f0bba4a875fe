"""The page `benchmarks.md`, made of the records of all groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.cases import Group
from harness.record import Record
from harness.tables import table, text

BUSY_NOTE = (
    "PyTorch's threads wait for one another, so it suffers more than TensorFlow from a busy machine: its figures, and "
    "the ratios to them, hold on an idle one only."
)

_SECONDS_NOTE = """\
Seconds are the median of the turns after the first, the fastest and the slowest in brackets. Ratios of times are
medians over rounds of taking turns. Peak memory is that of the whole process, libraries included. Of PyTorch's cases
the fastest, set in **bold**, is the one that others are compared with. The limit is that of arithmetic: the additions
and multiplications that the work cannot do without, over what the machine does of them in a product of large
matrices."""


def page(records: dict[str, Record], groups: Iterable[Group], quick: bool) -> str:
    """All of it, in Markdown.

    Args:
      records: of groups by their names; those without one have no part.
      groups: in the order of their parts.
      quick: whether the last run was a quick one.
    """
    known = [(group, records[group.name]) for group in groups if group.name in records]
    command = "bash launch/benchmark.sh" + (" --quick" if quick else "")
    start = (
        f"# Benchmarks\n\nWritten whole by `{command}`: do not edit. Each case ran in a process of its own, on the "
        f"CPU;\nthe cases of a heat took turns. `--only` measures some groups anew and leaves the other parts as they "
        f"are.\n\n{_SECONDS_NOTE}\n\n{BUSY_NOTE}\n"
    )
    return "\n".join([start, _made(known), _ratios(known), *(_part(group, record) for group, record in known)])


def ratios(records: dict[str, Record], groups: Iterable[Group]) -> list[dict[str, Any]]:
    """The watched figures of all groups, for programs."""
    return [
        {"group": group.name, "what": line.what, **line.ratio._asdict(), "unit": line.unit.strip()}
        | {"wanted": line.wanted}
        for group in groups
        if group.name in records
        for line in group.watched(records[group.name].results)
    ]


def _made(known: list[tuple[Group, Record]]) -> str:
    """When and where each group was measured: a row a group, and the machines below."""
    machines: dict[str, str] = {}
    rows = []
    for group, record in known:
        described = "; ".join(f"{key} {value}" for key, value in record.facts.items() if key not in _OF_THE_RUN)
        letter = machines.setdefault(described, chr(ord("A") + len(machines)))
        rows.append((f"`{group.name}`", *(record.facts.get(key, "") for key in _OF_THE_RUN), letter))
    columns = ("group", *_OF_THE_RUN, "machine")
    told = "\n".join(f"- {letter}: {described}." for described, letter in machines.items())
    return f"## When and where\n\n{table(columns, rows)}\n\n{told}\n"


_OF_THE_RUN = ("made", "took", "used by others")


def _ratios(known: list[tuple[Group, Record]]) -> str:
    rows = [
        (f"`{group.name}`", line.what, text(line.ratio) + line.unit, line.wanted)
        for group, record in known
        for line in group.watched(record.results)
    ]
    return f"## Ratios\n\n{table(('group', 'what', 'measured', 'wanted'), rows)}\n"


def _part(group: Group, record: Record) -> str:
    columns, rows = group.table(record.results)
    short = "A few cases and rounds only (`--quick`).\n\n" if record.quick else ""
    made = f"Measured {record.facts.get('made', 'at an unknown time')}.\n\n"
    return f"## {group.title}\n\n{made}{short}{group.note}\n\n{table(columns, rows)}\n"
