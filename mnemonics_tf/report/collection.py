"""Everything that is known of the runs in some folders, read once for text and page alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from mnemonics_tf.report import groups, labels, paper, runs, tables
from mnemonics_tf.report.grids import Grid
from mnemonics_tf.report.groups import Group
from mnemonics_tf.report.labels import Variation


@dataclasses.dataclass(frozen=True)
class Collection:
    """Runs, put together by experiment.

    Attributes:
      folders: of all runs that were found, finished or not.
      groups: finished runs that differ in nothing but their seed.
      variations: numbers of settings that the rows of tables do not tell.
      unfinished: a text for each run that has phases to do.
      unreadable: a line for each run that is damaged, or of another version.
      repeats: a line for each run that repeats another.
    """

    folders: Sequence[str]
    groups: Sequence[Group]
    variations: Mapping[Group, Variation]
    unfinished: Sequence[str]
    unreadable: Sequence[str]
    repeats: Sequence[str]

    @property
    def left_out(self) -> list[str]:
        """A line on each run that has no place in the tables, and why."""
        return [
            *(f"{each} is not finished" for each in self.unfinished),
            *(line.rstrip(".") for line in (*self.unreadable, *self.repeats)),
        ]

    def grids(self, chosen: Sequence[str] | None, every: str) -> list[Grid]:
        """The table of all runs, if there are any, and tables of the paper.

        Args:
          chosen: names of the paper's tables; None for those in which a run has a place.
          every: what stands for all of them among `chosen`.
        """
        found = [tables.general_grid(self.groups, self.variations)] if self.groups else []
        return found + [tables.paper_grid(table, self.groups, self.variations) for table in self._papers(chosen, every)]

    def text(self, chosen: Sequence[str] | None, every: str) -> str:
        """All tables for the screen, with a line on each run that was left out; arguments as those of `grids`."""
        parts = [tables.general_table(self.groups, self.variations)] if self.groups else []
        if self.unfinished:
            parts.append(f"Left out, for they are not finished: {', '.join(self.unfinished)}.")
        for why, lines in (("they cannot be read", self.unreadable), ("another run counts", self.repeats)):
            if lines:
                parts.append("\n".join([f"Left out, for {why}:", *(f"  {line}" for line in lines)]))
        notes = [f"  {run.name}, {note}" for group in self.groups for run in group.runs for note in run.notes]
        if notes:
            parts.append("\n".join(["What did not go as configured:", *notes]))
        parts += [tables.paper_table(table, self.groups, self.variations) for table in self._papers(chosen, every)]
        return "\n\n".join(parts)

    def _papers(self, chosen: Sequence[str] | None, every: str) -> list[paper.Table]:
        if chosen is None:
            return [table for table in paper.tables().values() if any(table.cell(each.setup) for each in self.groups)]
        return [table for name, table in paper.tables().items() if {name, every} & set(chosen)]


def collect(folders: Sequence[str]) -> Collection:
    """Reads the runs in folders and below them.

    Raises:
      UsageError: there is no such folder or no run in it, a run that was named cannot be read, or two runs contradict
        each other.
    """
    run_folders = runs.find_runs(folders)
    read = runs.read_runs(run_folders, folders)
    kept, repeats = groups.leave_out_repeats(groups.with_data_told_apart(read.finished))
    found = groups.group_seeds(kept)
    return Collection(run_folders, found, labels.variations(found), read.unfinished, read.unreadable, repeats)
