"""Tables as plain data, and the forms they are written in: for the screen, Markdown, CSV and LaTeX.

Whatever stands in a cell, such as a name that a user has chosen, means nothing to the reader of any form.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Sequence

_GAP = "  "

# Programs that open CSV files take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # LaTeX's own fonts (OT1) have no \textquotedbl
    "±": r"$\pm$",
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~&$])")


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
      name: of its files, such as `table_1`.
      title: what stands above it.
      headings: titles from left to right, each with the number of columns that it stands above.
      rows: the cells of each row, as many as there are columns; the first row names the columns. Cells may have blanks
        around them, which align them on the screen.
      notes: lines below the table, wrapped; one that goes on from the line before is indented deeper.
    """

    name: str
    title: str
    headings: tuple[tuple[str, int], ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> list[list[str]]:
        """The cells of each row without the blanks around them."""
        return [[cell.strip() for cell in row] for row in self.rows]

    @property
    def sentences(self) -> list[str]:
        """The notes, each in one line."""
        found: list[str] = []
        for line in self.notes:
            if found and line.startswith(" " * 6):
                found[-1] += f" {line.strip()}"
            elif line.strip():
                found.append(line.strip())
        return found


def lines_of(grid: Grid) -> list[str]:
    """Lines of equal columns, for the screen: headings, then rows; without title and notes."""
    widths = [max(map(len, column)) for column in zip(*grid.rows, strict=True)]
    top, start = [], 0
    for title, count in grid.headings:
        width = sum(widths[start : start + count]) + len(_GAP) * (count - 1)
        start += count
        widths[start - 1] += max(0, len(title) - width)
        top.append(title.ljust(width))
    lines = [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in grid.rows
    ]
    return [_GAP.join(top).rstrip(), *lines]


def markdown(grid: Grid) -> str:
    """The table as GitHub shows it. Headings above several columns are put in front of the names of each."""
    header, *rows = grid.cells
    header = [f"{title} {cell}".strip() for title, cell in zip(_spread(grid), header, strict=True)]
    lines = [f"**{_in_markdown(grid.title)}**", ""]
    lines.append(_markdown_row(header))
    lines.append("|" + "|".join(" --- " for _ in header) + "|")
    lines += map(_markdown_row, rows)
    for note in grid.sentences:
        lines += ["", _in_markdown(note)]
    return "\n".join(lines) + "\n"


def comma_separated(grid: Grid) -> str:
    """The table as CSV, without its notes. A cell that a spreadsheet would compute begins with an apostrophe."""
    header, *rows = grid.cells
    header = [f"{title} {cell}".strip() for title, cell in zip(_spread(grid), header, strict=True)]
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([[inert(cell) for cell in row] for row in [header, *rows]])
    return written.getvalue()


def latex(grid: Grid) -> str:
    """The table as a `table` of LaTeX with the package booktabs, its notes below it."""
    columns = len(grid.rows[0])
    lines = [
        "% Needs \\usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{in_latex(grid.title)}}}",
        rf"\begin{{tabular}}{{{'l' * columns}}}",
        r"\toprule",
    ]
    if any(title for title, _ in grid.headings):
        top = [rf"\multicolumn{{{count}}}{{l}}{{{in_latex(title)}}}" for title, count in grid.headings]
        lines.append(" & ".join(top) + r" \\")
    for index, row in enumerate(grid.cells):
        # A row that begins with a bracket would be taken for an option of the line break before it.
        first, *others = map(in_latex, row)
        lines.append(" & ".join([f"{{}}{first}" if first.startswith(("[", "*")) else first, *others]) + r" \\")
        if index == 0:
            lines.append(r"\midrule")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {in_latex(note)}" for note in grid.sentences]
    return "\n".join([*lines, r"\end{table}", ""])


def inert(cell: str) -> str:
    """A cell of a CSV file that no spreadsheet computes; numbers stay numbers, and a dash alone a dash."""
    return f"'{cell}" if len(cell) > 1 and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


def in_latex(text: str) -> str:
    """A text as LaTeX prints it, in one line."""
    return "".join(_LATEX.get(each, each) for each in " ".join(text.split()))


def _in_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_in_markdown(cell) for cell in cells) + " |"


def _spread(grid: Grid) -> list[str]:
    """The heading above each column."""
    return [title for title, count in grid.headings for _ in range(count)]
