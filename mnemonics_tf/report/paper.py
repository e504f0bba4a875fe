"""The paper's tables: their figures, and which of our runs belongs to which of their cells."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources

from mnemonics_tf.report.runs import Setup

# Table S1 and Table 2 ablate LUCIR w/ ours: weight transfer and balanced fine-tuning are on in all of their rows.
_ABLATIONS = ("2", "S1")

# The csv names the paper's data; results.json has TFDS's name for the last. Numbers of classes.
_DATASETS = {"imagenet2012": "imagenet"}
_NUM_CLASSES = {"cifar100": 100, "imagenet_subset": 100, "imagenet": 1000}

# What its own figures were measured with (Section 7.1).
CONDITIONS = {
    "cifar100": "ResNet-32, which has blocks (5, 5, 5) and widths (16, 32, 64); epochs 160",
    "imagenet_subset": "ResNet-18, which has blocks (2, 2, 2, 2) and widths (64, 128, 256, 512); epochs 90",
    "imagenet": "ResNet-18, which has blocks (2, 2, 2, 2) and widths (64, 128, 256, 512); epochs 90",
}

# Supplement A: 2,000 exemplars for the data of 100 classes, of which a random choice is discarded in each phase.
_BUDGETS = {"per_class_20": "per_class_20", "total": "total_2000"}
_DISCARD = "random"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      method: the base method, as in results.json.
      exemplars: `mnemonics`, `herding` or `random`.
      adjusted: whether old exemplars are adjusted.
      distillation: whether there is a distillation loss.
    """

    method: str
    exemplars: str
    adjusted: bool
    distillation: bool


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      dataset: `cifar100`, `imagenet_subset` or `imagenet`.
      num_phases: N.
    """

    dataset: str
    num_phases: int


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as the paper prints it.

    Attributes:
      name: `1`, `2`, `S1` or `S2`.
      budget: that of all its runs, as in results.json.
      figures: percentages by measure (`average_accuracy`, `forgetting`), row and column, in the paper's order.
    """

    name: str
    budget: str
    figures: dict[str, dict[tuple[Row, Column], float]]

    @property
    def rows(self) -> list[Row]:
        """The rows from top to bottom, which are the same for each measure."""
        return list(dict.fromkeys(row for row, _ in self.figures["average_accuracy"]))

    @property
    def columns(self) -> list[Column]:
        """The columns from left to right."""
        return list(dict.fromkeys(column for _, column in self.figures["average_accuracy"]))

    def cell(self, setup: Setup) -> tuple[Row, Column] | None:
        """The row and column in which the table has what `setup` measures; None if it has no place there."""
        row = Row(setup.method, setup.exemplars, setup.adjust_exemplars, setup.distillation)
        column = Column(_DATASETS.get(setup.dataset, setup.dataset), setup.num_phases)
        if (row, column) not in self.figures["average_accuracy"]:
            return None
        fits = (
            setup.budget == self.budget
            and (self.name != "S2" or setup.discard == _DISCARD)
            and setup.phase_sizes == _phase_sizes(column)
            and (_is_plain(setup) if self._without_ours(row) else _is_with_ours(setup))
        )
        return (row, column) if fits else None

    def _without_ours(self, row: Row) -> bool:
        return self.name not in _ABLATIONS and row.exemplars != "mnemonics"


@functools.cache
def tables() -> dict[str, Table]:
    """The paper's tables by name, in its order."""
    read: dict[str, Table] = {}
    text = (importlib.resources.files("mnemonics_tf.report") / "paper_results.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(text.splitlines()):
        table = read.setdefault(line["table"], Table(line["table"], _BUDGETS[line["budget"]], {}))
        row = Row(line["method"], line["exemplars"], line["adjust_old"] == "yes", line["distillation"] == "with")
        column = Column(line["dataset"], int(line["num_phases"]))
        table.figures.setdefault(line["metric"], {})[row, column] = float(line["value"])
    return read


def _phase_sizes(column: Column) -> tuple[int, ...]:
    """Half of the classes, then equal parts of the others (Section 7.1)."""
    half = _NUM_CLASSES[column.dataset] // 2
    return (half, *[half // column.num_phases] * column.num_phases)


def _is_plain(setup: Setup) -> bool:
    """Neither weight transfer nor balanced fine-tuning of ours."""
    return setup.weight_transfer == "none" and not setup.balanced_finetune


def _is_with_ours(setup: Setup) -> bool:
    return setup.weight_transfer != "none" and setup.balanced_finetune is True
