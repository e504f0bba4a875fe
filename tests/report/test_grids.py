"""Forms of tables: what stands in a cell means nothing to the reader of any of them."""

from __future__ import annotations

import csv
import io

import pytest

from mnemonics_tf.report import grids
from mnemonics_tf.report.grids import Grid

_UNFRIENDLY = 'a|b & 50% #1 $x$ {y} ~^ \\z <b> *c* [d](e) `f` "g"'
_GRID = Grid(
    name="t",
    title="Table & <title>",
    headings=(("", 1), ("average accuracy", 2)),
    rows=(("method", " N=5", " N=10"), ("=HYPERLINK(1)", " 60.50", " -1.25"), (_UNFRIENDLY, "-", "60.50 ± 0.25")),
    notes=("", "  paper  ResNet-32,", "      epochs 160", "  measured #1  a = 1"),
)


def test_screen_shows_equal_columns():
    lines = grids.lines_of(Grid("t", "", (("", 1), ("top", 1)), (("a", "b"), ("long", "c"))))
    assert lines == ["      top", "a     b", "long  c"]


def test_csv_is_read_back_and_nothing_in_it_is_computed():
    rows = list(csv.reader(io.StringIO(grids.comma_separated(_GRID))))
    assert rows[0] == ["method", "average accuracy N=5", "average accuracy N=10"]
    # A number stays one, and so does a negative number.
    assert rows[1] == ["'=HYPERLINK(1)", "60.50", "-1.25"]
    assert rows[2] == [_UNFRIENDLY, "-", "60.50 ± 0.25"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_cells_that_begin_like_formulas_are_inert(start):
    assert grids.inert(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"
    assert grids.inert("-3.5") == "-3.5"


def test_markdown_has_as_many_columns_in_every_row():
    text = grids.markdown(_GRID)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    # Bars that are escaped end no cell.
    assert [line.replace("\\|", "").count("|") for line in rows] == [4, 4, 4, 4]
    assert "a\\|b \\& 50%" in text
    assert "\\<b\\> \\*c\\* \\[d\\](e) \\`f\\`" in text
    assert "\\#1" in rows[3]
    assert "\n\npaper  ResNet-32, epochs 160\n".replace("  ", " ") in text.replace("  ", " ")


def test_latex_prints_what_stands_in_cells():
    text = grids.latex(_GRID)
    row = next(line for line in text.splitlines() if "50" in line and "#1" in line and line.endswith("\\\\"))
    assert row.startswith(
        r"a\textbar{}b \& 50\% \#1 \$x\$ \{y\} \textasciitilde{}\textasciicircum{} \textbackslash{}z \textless{}b"
    )
    assert row.endswith(r"& - & 60.50 $\pm$ 0.25 \\")
    # All fonts have two apostrophes, and those that LaTeX begins with no straight quotes.
    assert "f` ''g'' &" in row
    # Columns are separated by what is not escaped.
    assert row.replace(r"\&", "").count("&") == 2
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
