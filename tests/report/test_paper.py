"""The paper's tables: their figures, and which run belongs to which cell."""

from __future__ import annotations

import dataclasses
import importlib.resources
from pathlib import Path

import pytest
from run_folders import DEFAULTS, WITHOUT_OURS

from mnemonics_tf.report import paper
from mnemonics_tf.report.paper import Column, Row
from mnemonics_tf.report.runs import Setup

_REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/paper_results.csv"

_WITH = Row("lucir", "mnemonics", adjusted=True, distillation=True)
_WITHOUT = Row("lucir", "herding", adjusted=False, distillation=True)
_CIFAR_5 = Column("cifar100", 5)


def _setup(**changes):
    values = {**DEFAULTS, **changes}
    values["phase_sizes"] = tuple(values["phase_sizes"])
    values["num_phases"] = len(values["phase_sizes"]) - 1
    names = {field.name for field in dataclasses.fields(Setup)} - {"settings", "class_names", "data_label"}
    return Setup(**{name: values[name] for name in names}, settings={})


def _cells(setup):
    return {name: table.cell(setup) for name, table in paper.tables().items() if table.cell(setup)}


def test_figures_are_those_that_the_project_shares():
    if not _REFERENCE.is_file():
        pytest.skip(f"{_REFERENCE} is not there: it belongs to the developers' machine.")
    shipped = importlib.resources.files("mnemonics_tf.report") / "paper_results.csv"
    assert shipped.read_text(encoding="utf-8") == _REFERENCE.read_text(encoding="utf-8")


def test_tables_are_as_printed():
    tables = paper.tables()
    assert list(tables) == ["1", "2", "S1", "S2"]
    # Base methods x exemplars, ablations; three N on each of the data.
    sizes = {name: (len(table.rows), len(table.columns)) for name, table in tables.items()}
    assert sizes == {"1": (8, 9), "2": (6, 6), "S1": (2, 6), "S2": (8, 6)}
    for table in tables.values():
        cells = {(row, column) for row in table.rows for column in table.columns}
        assert all(set(figures) == cells for figures in table.figures.values())


def test_two_figures_of_the_paper_for_the_same_run_stay_with_their_tables():
    cell = _WITH, Column("cifar100", 25)
    forgetting = {name: paper.tables()[name].figures["forgetting"][cell] for name in ("1", "2", "S1")}
    assert forgetting == {"1": 19.80, "2": 15.22, "S1": 19.80}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"1": _WITH, "2": _WITH, "S1": _WITH}),
        ({"weight_transfer": "per_kernel"}, {"1": _WITH, "2": _WITH, "S1": _WITH}),
        (WITHOUT_OURS, {"1": _WITHOUT}),
        ({**WITHOUT_OURS, "balanced_finetune": None}, {"1": _WITHOUT}),
        ({**WITHOUT_OURS, "method": "bic"}, {"1": Row("bic", "herding", False, True)}),
        ({"method": "bic"}, {"1": Row("bic", "mnemonics", True, True)}),
        # The ablation of Table 2 keeps weight transfer and balanced fine-tuning.
        ({"exemplars": "herding", "adjust_exemplars": False}, {"2": _WITHOUT}),
        ({"exemplars": "random"}, {"2": Row("lucir", "random", True, True)}),
        ({"adjust_exemplars": False}, {"2": Row("lucir", "mnemonics", False, True)}),
        ({"method": "icarl", "exemplars": "random"}, {}),
        ({"distillation": False}, {"S1": Row("lucir", "mnemonics", True, False)}),
        ({**WITHOUT_OURS, "distillation": False}, {}),
        ({"budget": "total_2000"}, {"S2": _WITH}),
        ({**WITHOUT_OURS, "budget": "total_2000"}, {"S2": _WITHOUT}),
        ({"budget": "total_2000", "discard": "herding"}, {}),
        ({"budget": "per_class_10"}, {}),
        ({"weight_transfer": "none"}, {}),
        ({"balanced_finetune": None}, {}),
        ({"exemplars": "herding"}, {"2": Row("lucir", "herding", True, True)}),
        ({"method": "eeil"}, {}),
        ({"method": "a_users_own"}, {}),
    ],
)
def test_switches_choose_the_cell(changes, expected):
    assert _cells(_setup(**changes)) == {name: (row, _CIFAR_5) for name, row in expected.items()}


@pytest.mark.parametrize(
    ("name", "value", "of_chosen"),
    [
        ("Rehearsal.memory_share", "0.5", {}),
        ("Rehearsal.logit_adjustment", "1.0", {}),
        ("ExemplarMemory.low_resolution", "2", {}),
        ("ExemplarMemory.codec", "'webp'", {}),
        ("ExemplarLevel.objective", "'matching'", {"1": (_WITHOUT, _CIFAR_5)}),
        ("Rehearsal.memory_share", "0.0", {"1": (_WITHOUT, _CIFAR_5)}),
        ("ModelLevel.epochs", "8", {"1": (_WITHOUT, _CIFAR_5)}),
    ],
)
def test_memory_that_the_paper_does_not_know_has_no_place_in_its_tables(name, value, of_chosen):
    chosen, learned = (
        _cells(dataclasses.replace(_setup(**changes), settings={name: value})) for changes in (WITHOUT_OURS, {})
    )
    assert chosen == of_chosen
    assert bool(learned) == (name == "ModelLevel.epochs" or value == "0.0")


@pytest.mark.parametrize(
    ("dataset", "phase_sizes", "columns"),
    [
        ("cifar100", [50, *[5] * 10], {name: Column("cifar100", 10) for name in ("1", "2", "S1")}),
        ("imagenet_subset", [50, *[2] * 25], {name: Column("imagenet_subset", 25) for name in ("1", "2", "S1")}),
        # Of ImageNet, the paper has Table 1 alone.
        ("imagenet2012", [500, *[100] * 5], {"1": Column("imagenet", 5)}),
        ("cifar100", [50, 50], {}),  # N = 1
        ("cifar100", [20] * 5, {}),  # N = 4, all phases alike
        ("cifar100", [40, *[12] * 5], {}),  # not half
        ("cifar100", [50, 20, 5, 5, 10, 10], {}),  # not even
        ("imagenet2012", [50, *[10] * 5], {}),  # a hundred classes of ImageNet are another data set
        ("digits", [5, 1, 1, 1, 1, 1], {}),
    ],
)
def test_data_and_phases_choose_the_column(dataset, phase_sizes, columns):
    found = _cells(_setup(dataset=dataset, phase_sizes=phase_sizes))
    assert {name: column for name, (_, column) in found.items()} == columns


def test_total_budget_of_imagenet_is_in_no_table():
    # Supplement A mentions 20,000 exemplars for ImageNet; Table S2 has no such columns.
    setup = _setup(dataset="imagenet2012", phase_sizes=[500, *[100] * 5], budget="total_20000")
    assert _cells(setup) == {}
