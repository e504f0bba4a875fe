"""The page of several runs: groups of seeds beside one another, data by data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mnemonics_tf.report import paper
from mnemonics_tf.report.grids import Grid
from mnemonics_tf.report.groups import Group, differing_settings, setting
from mnemonics_tf.report.page import memory_figures, set_figures
from mnemonics_tf.report.page.blocks import Block, Listing, MissingError, Section, TableBlock, Text, present
from mnemonics_tf.report.page.drawing import Draw, drawn
from mnemonics_tf.report.page.embedding import embed
from mnemonics_tf.report.page.record import Record
from mnemonics_tf.report.page.words import title, verdict

_MOST_EMBEDDED = 3  # groups whose features are shown: each takes a while
_MOST_MAPS = 6  # groups that have a heat map each


class SetPage:
    """What the page of several runs is made of.

    Args:
      groups: finished runs, by experiment.
      records: a run's record by its folder, of all finished ones.
      left_out: a line on each run that is not shown, and why.
      grids: tables of all of them.
      figures: the folder that the figures' files are written to.
      looks_at_data: whether data and networks are loaded, for t-SNE.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        records: Mapping[str, Record],
        left_out: Sequence[str],
        grids: Sequence[Grid],
        figures: str,
        looks_at_data: bool,
    ):
        self._groups, self._records, self._left_out, self._grids = groups, records, left_out, grids
        self._figures, self._looks_at_data = figures, looks_at_data
        by_data: dict[tuple, list[Group]] = {}
        for group in groups:
            setup = group.setup
            by_data.setdefault((setup.data, setup.phase_sizes), []).append(group)
        self._by_data = [by_data[key] for key in sorted(by_data, key=lambda key: (key[0], len(key[1]), key[1]))]

    def sections(self, command: str) -> list[Section]:
        """All sections, from top to bottom; `command` makes this page."""
        sections = [Section("summary", "What they came to", tuple(self._summary()))]
        for index, groups in enumerate(self._by_data):
            name = _data_name(groups[0])
            sections.append(Section(f"data-{index}", name, tuple(self._beside_one_another(index, groups))))
        tail = [
            Section("features", "Exemplars among the data", tuple(present(self._features))),
            Section("tables", "Tables", tuple(map(TableBlock, self._grids))),
            Section("runs", "The runs", tuple(self._list())),
            Section("again", "This page again", tuple(_again(command))),
        ]
        return [*sections, *(tail if self._groups else tail[2:])]

    def _summary(self) -> list[Block]:
        blocks: list[Block] = []
        if not self._groups:
            blocks.append(Text("No run is finished yet, so there is nothing to compare.", missing=True))
        for groups in self._by_data:
            prefix = f"{_data_name(groups[0])}: " if len(self._by_data) > 1 else ""
            blocks.append(Text(prefix + " ".join(verdict(groups))))
        if len(self._by_data) > 1:
            blocks.append(Text(self._why_apart()))
        if self._left_out:
            blocks.append(Text("Left out: " + "; ".join(self._left_out) + ".", missing=True))
        return blocks

    def _why_apart(self) -> str:
        datasets = {groups[0].setup.data for groups in self._by_data}
        reason = "data" if len(datasets) == len(self._by_data) else "data or other numbers of classes in their phases"
        return (
            f"These runs do not all compare with one another: they have other {reason}, so that equal figures mean "
            "different things. Each kind of data has a section of its own."
        )

    def _beside_one_another(self, index: int, groups: Sequence[Group]) -> list[Block]:
        named = [(title(group, groups), group) for group in groups]
        found = {run.folder: self._records[run.folder].results for group in groups for run in group.runs}
        blocks: list[Block] = []
        orders = {found[run.folder].class_order for group in groups for run in group.runs}
        if len(orders) > 1:
            blocks.append(
                Text("Their classes arrive in different orders, which is part of the difference between them.")
            )
        if all(len(group.runs) == 1 for group in groups):
            blocks.append(Text("There is one seed of each: curves have no ribbons, and differences may be chance."))
        references = [
            (series, f"the paper's average for {name} ({table})", value)
            for series, (name, group) in enumerate(named)
            for table, value in paper.figures_for(group.setup, "average_accuracy")
        ]
        caption = (
            "Accuracy on the test images of all classes so far: mean over seeds, with its 95 % interval as a ribbon."
        )
        height = max(3.4, 0.2 * len(groups) + 1)
        shown = (named, found, references)
        blocks += self._drawn(f"curves_{index}", (9.5, height), caption, set_figures.curves, *shown)
        caption = "Average accuracy against what is forgotten of phase 0: best is the upper left corner."
        blocks += self._drawn(f"averages_{index}", (9.0, height), caption, set_figures.averages, named)
        mapped = named[:_MOST_MAPS]
        columns = min(3, len(mapped))
        side = min(4.5, 2.0 + 0.22 * len(groups[0].setup.phase_sizes))
        size = (columns * side + 1, -(-len(mapped) // columns) * side)
        caption = "Accuracy on the classes of each phase, after each phase, by the first seed of each kind."
        blocks += self._drawn(f"groups_{index}", size, caption, set_figures.maps, mapped, found, columns)
        if len(named) > _MOST_MAPS:
            blocks.append(Text(f"Maps of {len(named) - _MOST_MAPS} more kinds are left out.", missing=True))
        return blocks + self._differences(groups, named)

    def _differences(self, groups: Sequence[Group], named: Sequence[tuple[str, Group]]) -> list[Block]:
        names = differing_settings(groups)
        if not names:
            return []
        rows = [("setting", *(name for name, _ in named))]
        rows += [(name, *(_brief(setting(group, name)) for group in groups)) for name in names]
        return [TableBlock(Grid("settings", "What their settings differ in", (("", len(rows[0])),), tuple(rows)))]

    def _features(self) -> list[Block]:
        if not self._looks_at_data:
            raise MissingError("Left out, as --no_tsne asks for.")
        rows, missing = [], []
        groups = self._by_data[0]
        for group in groups[:_MOST_EMBEDDED]:
            record = self._records[group.runs[0].folder]
            try:
                phases = dict.fromkeys((0, record.last))
                rows.append(
                    (
                        title(group, groups),
                        [
                            (f"{record.results.phases[phase].num_classes} classes", embed(record, phase), "kept")
                            for phase in phases
                        ],
                    )
                )
            except MissingError as error:
                missing.append(Text(f"{record.name}: {error}", missing=True))
        if not rows:
            return list(missing)
        caption = (
            "t-SNE of features (Figures 1 and 5 of the paper): a row for each kind of run, early phase and late. Pale: "
            "training images of the classes that are named; deep: their exemplars; a grey cross: the mean of each "
            "other class."
        )
        size = (1.0 + 3.4 * len(rows[0][1]), 0.5 + 3.2 * len(rows))
        blocks = [*self._drawn("tsne", size, caption, memory_figures.embeddings, rows), *missing]
        if len(groups) > _MOST_EMBEDDED:
            blocks.append(Text(f"Of {len(groups)} kinds the first {_MOST_EMBEDDED} are shown.", missing=True))
        return blocks

    def _list(self) -> list[Block]:
        rows: list[tuple[str, ...]] = [("folder", "seed", "average (%)", "last phase (%)", "forgetting (%)")]
        for group in self._groups:
            name = group.setup.primary_classifier
            for run in group.runs:
                figures = [
                    f"{run.figures[each, name]:.2f}" for each in ("average_accuracy", "last_accuracy", "forgetting")
                ]
                rows.append((run.name, str(run.seed), *figures))
        grid = Grid("list", "Runs that are shown", (("", len(rows[0])),), tuple(rows))
        blocks: list[Block] = [TableBlock(grid)] if len(rows) > 1 else []
        notes = [f"{run.name}, {note}" for group in self._groups for run in group.runs for note in run.notes]
        return [*blocks, *(Text(line, missing=True) for line in (*notes, *self._left_out))]

    def _drawn(self, name: str, size: tuple[float, float], caption: str, draw: Draw, *arguments: Any) -> list[Block]:
        return drawn(name, size, caption, self._figures, draw, *arguments)


def _again(command: str) -> list[Block]:
    text = "A page of its own on one of these runs, with what its memory holds: name that run alone."
    return [Listing(command), Text(text)]


def _data_name(group: Group) -> str:
    sizes = group.setup.phase_sizes
    later = sorted(set(sizes[1:]))
    each = f"{later[0]}" if len(later) == 1 else f"{later[0]} to {later[-1]}" if later else "0"
    return f"{os.path.basename(group.setup.data)}: {sizes[0]} classes, then {len(sizes) - 1} phases of {each}"


def _brief(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
