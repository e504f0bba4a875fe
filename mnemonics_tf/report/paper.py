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

# What the paper's own figures were measured with (Section 7.1), by data set.
CONDITIONS = {
    "cifar100": "ResNet-32, which has blocks (5, 5, 5) and widths (16, 32, 64); epochs 160",
    "imagenet_subset": "ResNet-18, which has blocks (2, 2, 2, 2) and widths (64, 128, 256, 512); epochs 90",
    "imagenet": "ResNet-18, which has blocks (2, 2, 2, 2) and widths (64, 128, 256, 512); epochs 90",
}

# Supplement A: 2,000 exemplars for the data of 100 classes, of which a random choice is discarded in each phase.
_BUDGETS = {"per_class_20": "per_class_20", "total": "total_2000"}
_DISCARD = "random"
# Settings that the paper does not know, as config.gin has them where they do nothing.
IDLE_MEMORY = {
    "ExemplarMemory.codec": "'raw'",
    "ExemplarMemory.low_resolution": "1",
    "Rehearsal.augment": "'none'",
    "Rehearsal.logit_adjustment": "0.0",
    "Rehearsal.memory_share": "0.0",
    "Rehearsal.separated_softmax": "False",
    "Rehearsal.weight_average": "0.0",
}
_LEARNED = {"ExemplarLevel.objective": "'temporary_model'", "ExemplarLevel.real_share": "0.0"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of one of the paper's tables: what is measured in it.

    Attributes:
      method: name of the base method, as in results.json.
      exemplars: strategy of the exemplars, `mnemonics`, `herding` or `random`.
      adjusted: whether old exemplars are adjusted.
      distillation: whether there is a distillation loss.
    """

    method: str
    exemplars: str
    adjusted: bool
    distillation: bool


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of one of the paper's tables: what it is measured on.

    Attributes:
      dataset: name of the data set, `cifar100`, `imagenet_subset` or `imagenet`.
      num_phases: N, the number of phases after the initial one.
    """

    dataset: str
    num_phases: int


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as the paper prints it.

    Attributes:
      name: `1`, `2`, `S1` or `S2`.
      budget: budget of exemplars in all its rows, as in results.json: `per_class_20` or `total_2000`.
      figures: percentages by measure (`average_accuracy`, `forgetting`), then by row and column, in the paper's order.
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
        """The row and column in which the table has what a run of this setup measures; None if it has no place there.

        Phases, budget, weight transfer, balanced fine-tuning, the use of the memory and what exemplars are learned for
        must be the paper's; network and schedule need not.
        """
        row = Row(setup.method, setup.exemplars, setup.adjust_exemplars, setup.distillation)
        column = Column(_DATASETS.get(setup.dataset, setup.dataset), setup.num_phases)
        if (row, column) not in self.figures["average_accuracy"]:
            return None
        fits = (
            setup.budget == self.budget
            and (self.name != "S2" or setup.discard == _DISCARD)
            and setup.phase_sizes == _phase_sizes(column)
            and _has_the_papers_memory(setup)
            and (_is_plain(setup) if self._without_ours(row) else _is_with_ours(setup))
        )
        return (row, column) if fits else None

    def _without_ours(self, row: Row) -> bool:
        return self.name not in _ABLATIONS and row.exemplars != "mnemonics"


@functools.cache
def tables() -> dict[str, Table]:
    """The paper's tables by name (`1`, `2`, `S1`, `S2`), read from `paper_results.csv` in the order of its lines."""
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


def _has_the_papers_memory(setup: Setup) -> bool:
    """Whether exemplars are whole images, learned (if they are) by the paper's objective, and used as it uses them."""
    needed = IDLE_MEMORY | (_LEARNED if setup.exemplars == "mnemonics" else {})
    return all(setup.settings.get(name, value) == value for name, value in needed.items())


def _is_plain(setup: Setup) -> bool:
    """Whether a run has neither weight transfer nor our balanced fine-tuning: it is `without ours`."""
    return setup.weight_transfer == "none" and not setup.balanced_finetune


def _is_with_ours(setup: Setup) -> bool:
    return setup.weight_transfer != "none" and setup.balanced_finetune is True


def figures_for(setup: Setup, measure: str) -> list[tuple[str, float]]:
    """What the paper has for a run of this setup: the name of each table and its figure; equal figures once.

    Args:
      setup: of the run.
      measure: `average_accuracy` or `forgetting`.
    """
    found: dict[float, str] = {}
    for table in tables().values():
        cell = table.cell(setup)
        if cell is not None:
            found.setdefault(table.figures[measure][cell], f"Table {table.name}")
    return [(name, value) for value, name in found.items()]
