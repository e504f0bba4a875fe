"""Markdown of what was measured."""

from __future__ import annotations

from harness.cases import PYTORCH
from harness.limit import rate_of, share_of_limit
from harness.measured import Measured, Ratio, Results, time_ratio

_GB = 1e9

WORK_COLUMNS = ("work", "case", "seconds", "images a second", "first turn, s", "peak memory, GB")
WORK_COLUMNS += ("time / best of PyTorch", "share of the limit")


def text(ratio: Ratio | None) -> str:
    """`0.68 (0.66 to 0.71)`."""
    if ratio is None:
        return ""
    value, low, high = (f"{number:,.{0 if number >= 100 else 2 if number >= 0.1 else 3}f}" for number in ratio)
    return value if low == high else f"{value} ({low} to {high})"


def gigabytes(measured: Measured) -> str:
    """Peak memory of a case, in GB."""
    return f"{measured.peak_memory / _GB:.2f}" if measured.peak_memory else ""


def work_table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows for cases of both frameworks that do the same work: a row a case.

    PyTorch's best case is set in bold: the one that others are compared with.
    """
    return WORK_COLUMNS, [_work_row(results, each) for each in results.all]


def _work_row(results: Results, measured: Measured) -> tuple[str, ...]:
    case, title = measured.case, measured.heat.title
    if not measured.seconds:
        return (title, case.name, measured.reason or "", *[""] * (len(WORK_COLUMNS) - 3))
    best = results.fastest(title, PYTORCH)
    share = share_of_limit(measured, rate_of(results))
    return (
        title,
        f"**{case.name}**" if measured is best else case.name,
        text(measured.spread) + (f"; {measured.reason}" if measured.reason else ""),
        text(_images_a_second(measured)),
        f"{measured.first_seconds:.1f}",
        gigabytes(measured),
        "" if case.framework == PYTORCH else text(time_ratio(measured, best)),
        "" if share is None else f"{share:.0%}",
    )


def _images_a_second(measured: Measured) -> Ratio | None:
    images = measured.case.images
    if images is None:
        return None
    return Ratio(images / measured.median, images / max(measured.seconds), images / min(measured.seconds))


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table whose columns are aligned, so that it can be read as it is."""
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    lines = [columns, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
