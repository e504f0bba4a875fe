"""Tables of results as plain text: one of all runs, and the paper's with our figures beside its own."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence

from mnemonics_tf.report.aggregate import Figure, figure
from mnemonics_tf.report.conditions import conditions
from mnemonics_tf.report.grids import Grid, lines_of
from mnemonics_tf.report.groups import Group
from mnemonics_tf.report.labels import WITH_OURS, WITHOUT_OURS, Variation, row_key
from mnemonics_tf.report.paper import CONDITIONS, Column, Row, Table

_GAP = "  "  # before notes
_Line = tuple[int, str]  # of measured figures: number of the variation, label of the data
_NONE = f"{'-':>6}"
_LEGEND_WIDTH = 120

MEASURES = {"average_accuracy": "average accuracy", "last_accuracy": "last phase", "forgetting": "forgetting"}
_CLASSIFIERS = {"cnn": "CNN", "nme": "NME"}

_METHODS = {"lwf": "LwF", "icarl": "iCaRL", "bic": "BiC", "lucir": "LUCIR"}
_DATASETS = {"cifar100": "CIFAR-100", "imagenet_subset": "ImageNet-Subset", "imagenet": "ImageNet"}
_TITLES = {
    "1": "Table 1 of the paper: base methods without and with ours, 20 exemplars a class",
    "2": "Table 2 of the paper: exemplars of LUCIR, adjusted or not, 20 a class",
    "S1": "Table S1 of the paper: LUCIR w/ ours without and with distillation, 20 exemplars a class",
    "S2": "Table S2 of the paper: base methods without and with ours, 2000 exemplars in all",
}


def general_table(groups: Sequence[Group], variations: Mapping[Group, Variation]) -> str:
    """`general_grid` as text."""
    grid = general_grid(groups, variations)
    return "\n".join([*lines_of(grid), "", *grid.notes])


def general_grid(groups: Sequence[Group], variations: Mapping[Group, Variation]) -> Grid:
    """A table with a row for each group and all of its figures, and notes on how to read them.

    Args:
      groups: the groups to show, at least one.
      variations: variations of the groups, as `labels.variations` numbers them; those of a group mark its row.
    """
    rows = [["dataset", "method", "exemplars", "budget", " N", "seeds", *[f"{'CNN':>6}", f"{'NME':>6}"] * 3]]
    learned = any(run.movement for group in groups for run in group.runs)
    counted = any(run.kept_bytes is not None for group in groups for run in group.runs)
    if learned:
        rows[0] += ["moved", "still real"]
    if counted:
        rows[0] += [f"{'bytes':>13}"]
    by_row = sorted(groups, key=lambda each: (*row_key(each.setup), each.setup.num_phases, _number(each, variations)))
    for group in by_row:
        dataset, method, exemplars, budget = row_key(group.setup)
        exemplars += _suffix(_number(group, variations))
        figures = [
            _marked(figure(group, measure, classifier), classifier == group.setup.primary_classifier)
            for measure in MEASURES
            for classifier in _CLASSIFIERS
        ]
        numbers = [f"{group.setup.num_phases:2d}", f"{len(group.runs):5d}"]
        moved = [_moved(group, "mean", ""), _moved(group, "unmoved", " %")] if learned else []
        kept = [_kept(group)] if counted else []
        rows.append([dataset, method, exemplars, budget, *numbers, *figures, *moved, *kept])
    notes = ["Percentages: mean ± half of the 95 % interval over seeds. * the classifier that is reported."]
    if learned:
        notes += ["Learned exemplars: mean change of a pixel in grey levels; how many learning left as real images."]
    if counted:
        notes += ["Bytes: what is kept of all images in the end, exemplars with labels and a method's statistics."]
    if variations:
        notes += ["What else differs between runs of the same data:", *_legend(variations)]
    headings = [("", 6), *((title, 2) for title in MEASURES.values())]
    headings += [("learned exemplars", 2)] if learned else []
    headings += [("kept", 1)] if counted else []
    return Grid("runs", "All runs, over seeds", tuple(headings), tuple(map(tuple, rows)), tuple(notes))


def paper_table(table: Table, groups: Sequence[Group], variations: Mapping[Group, Variation]) -> str:
    """`paper_grid` as text."""
    grid = paper_grid(table, groups, variations)
    return "\n".join([grid.title, "", *lines_of(grid), *grid.notes])


def paper_grid(table: Table, groups: Sequence[Group], variations: Mapping[Group, Variation]) -> Grid:
    """A table of the paper with what we measured below each of its rows; without groups, the paper's figures alone.

    Lines below the table say what each variation was measured with.

    Args:
      table: the table of the paper.
      groups: groups of runs; those that have no place in the table are passed over. Each is shown by the classifier
        that it reports.
      variations: variations of the groups, as `labels.variations` numbers them; each has a line of its own in a row.
    """
    # By row, then by number of the variation and label of the data, of which each has a line.
    measured: dict[Row, dict[_Line, dict[Column, Group]]] = {}
    for group in groups:
        cell = table.cell(group.setup)
        if cell is not None:
            row, column = cell
            line = (_number(group, variations), group.setup.data_label)
            measured.setdefault(row, {}).setdefault(line, {})[column] = group
    columns = table.columns
    rows = [["", "", *(f"{f'N={column.num_phases}':>6}" for column in columns)]]
    for measure, cells in table.figures.items():
        rows.append([f"{MEASURES[measure]} (%)", *[""] * (len(columns) + 1)])
        for row in table.rows:
            rows.append([_row_label(table, row), "paper", *(f"{cells[row, column]:6.2f}" for column in columns)])
            for line, shown in sorted(measured.get(row, {(0, ""): {}} if groups else {}).items()):
                figures = [_reported(shown.get(column), measure) for column in columns]
                rows.append(["", f"measured{_line_suffix(line)}", *figures])
    datasets = list(dict.fromkeys(column.dataset for column in columns))
    counts = {dataset: sum(column.dataset == dataset for column in columns) for dataset in datasets}
    headings = [("", 2), *((_DATASETS[dataset], counts[dataset]) for dataset in datasets)]
    notes = _conditions(table, measured)
    name = f"table_{table.name.lower()}"
    return Grid(name, _TITLES[table.name], tuple(headings), tuple(map(tuple, rows)), tuple(notes))


def _conditions(table: Table, measured: Mapping[Row, Mapping[_Line, Mapping[Column, Group]]]) -> list[str]:
    """What the paper and each variation measured with, one data set after the other."""
    found: dict[tuple[str, _Line], list[tuple[str, Group]]] = {}
    for row in table.rows:
        for line, cells in measured.get(row, {}).items():
            for column, group in cells.items():
                found.setdefault((column.dataset, line), []).append((_row_label(table, row), group))
    lines = []
    for dataset in _DATASETS:
        own = sorted(line for name, line in found if name == dataset)
        if own:
            lines += ["", f"{_DATASETS[dataset]} was measured with"]
            lines += _wrapped(f"paper  {CONDITIONS[dataset]}")
        for line in own:
            lines += _wrapped(f"measured{_line_suffix(line)}  {conditions(found[dataset, line])}")
    return lines


def _number(group: Group, variations: Mapping[Group, Variation]) -> int:
    """The number of the group's variation; 0 if it has none."""
    return variations[group].number if group in variations else 0


def _suffix(number: int) -> str:
    return f" #{number}" if number else ""


def _line_suffix(line: _Line) -> str:
    number, data_label = line
    return _suffix(number) + (f" (data {data_label})" if data_label else "")


def _row_label(table: Table, row: Row) -> str:
    """What the paper calls a row."""
    if table.name == "S1":
        return "w/ distill." if row.distillation else "w/o distill."
    if table.name == "2":
        return f"{'ours' if row.exemplars == 'mnemonics' else row.exemplars}{'' if row.adjusted else ' w/o adj.'}"
    return f"{_METHODS[row.method]} {WITH_OURS if row.exemplars == 'mnemonics' else WITHOUT_OURS}"


def _reported(group: Group | None, measure: str) -> str:
    """A figure by the classifier that the group reports, or a dash."""
    return _text(None if group is None else figure(group, measure, group.setup.primary_classifier))


def _marked(value: Figure | None, reported: bool) -> str:
    return _text(value, "*" if reported else " ")


def _text(value: Figure | None, mark: str = "") -> str:
    """Decimal points stand below one another for 0 to 100 %."""
    if value is None:
        return _NONE
    interval = "" if value.half_interval is None else f" ± {value.half_interval:.2f}"
    return f"{value.mean:6.2f}{mark}{interval}"


def _kept(group: Group) -> str:
    """Bytes of what is kept, as a mean over seeds: codes of other images have other lengths."""
    counts = [run.kept_bytes for run in group.runs if run.kept_bytes is not None]
    return f"{round(statistics.fmean(counts)):13,}" if counts else f"{'-':>13}"


def _moved(group: Group, name: str, unit: str) -> str:
    """How far the learned exemplars of a group moved, the mean over its runs; a dash if none were learned."""
    values = [run.movement[name] for run in group.runs if run.movement]
    return f"{statistics.fmean(values):5.1f}{unit}" if values else f"{'-':>5}"


def _legend(variations: Mapping[Group, Variation]) -> list[str]:
    """A number and its settings, in the order of the numbers."""
    settings = {variation.number: variation.settings for variation in variations.values()}
    lines = []
    for number, pairs in sorted(settings.items()):
        lines += _wrapped(f"#{number}  {', '.join(f'{name} = {value}' for name, value in pairs)}")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _LEGEND_WIDTH, initial_indent=_GAP, subsequent_indent=" " * 6)
