"""Tables as text, read cell by cell."""

from __future__ import annotations

import json
import re

import pytest
from run_folders import WITHOUT_OURS, write_run, write_seeds

from mnemonics_tf.report import groups, labels, paper, runs, tables


def _grouped(folder):
    kept, _ = groups.leave_out_repeats(runs.read_runs(runs.find_runs([str(folder)])).finished)
    found = groups.group_seeds(kept)
    return found, labels.variations(found)


def _general(folder):
    return tables.general_table(*_grouped(folder))


def _cells(line):
    """What stands between two or more spaces."""
    return re.split(r"\s{2,}", line.strip())


def _rows(text, dataset):
    return [_cells(line) for line in text.splitlines() if line.startswith(dataset)]


def _paper(name, folder):
    return tables.paper_table(paper.tables()[name], *_grouped(folder))


def _below(text, label):
    """Cells of the lines from the first one with this label up to the next label."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(label))
    rows = [_cells(lines[start])[1:]]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        rows.append(_cells(line))
    return rows


def test_general_table_has_every_figure(tmp_path):
    # Deviations are 2 in each of them: 4.303 * 2 / sqrt(3) = 4.97.
    for seed, shift in enumerate((-2, 0, 2)):
        figures = {"average": 64 + shift, "last": 50 + shift, "forgetting": 9 + shift}
        write_run(tmp_path / str(seed), seed=seed, **figures)
    rows = _rows(_general(tmp_path), "cifar100")
    figures = ["64.00* ± 4.97", "62.00", "± 4.97", "50.00* ± 4.97", "48.00", "± 4.97", "9.00* ± 4.97", "7.00", "± 4.97"]
    assert rows == [["cifar100", "lucir", "w/ ours", "20 a class", "5", "3", *figures]]


def test_general_table_says_what_is_kept_in_bytes(tmp_path):
    for name, kept in (("analytic", (0, 149_424_016)), ("lucir", (6_144_800, 0)), ("old", None)):
        folder = write_run(tmp_path / name, phase_sizes=[5, 5], method=name)
        content = json.loads((folder / "results.json").read_text())
        for phase in content["phases"]:
            phase.update({} if kept is None else {"memory_bytes": kept[0], "statistics_bytes": kept[1]})
        (folder / "results.json").write_text(json.dumps(content))
    last = {row[1]: row[-1] for row in _rows(_general(tmp_path), "cifar100")}
    assert last == {"analytic": "149,424,016", "lucir": "6,144,800", "old": "-"}


def test_general_table_says_how_far_learned_exemplars_moved(tmp_path):
    for name, moved in (("run", [1.0, 3.0]), ("without", [])):
        folder = write_run(tmp_path / name, phase_sizes=[5, 5], **({} if moved else WITHOUT_OURS))
        content = json.loads((folder / "results.json").read_text())
        for phase, mean in zip(content["phases"], moved, strict=False):
            phase["movement"] = {"learned": {"mean": mean, "largest": 9.0, "unmoved": 10 * mean}}
        (folder / "results.json").write_text(json.dumps(content))
    # Means over the two phases.
    assert sorted(row[-2:] for row in _rows(_general(tmp_path), "cifar100")) == [["-", "-"], ["2.0", "20.0 %"]]


def test_one_seed_has_no_interval_and_no_exemplars_no_nearest_mean(tmp_path):
    options = {**WITHOUT_OURS, "method": "lwf", "exemplars": "none", "budget": "none", "nme_minus": None}
    write_run(tmp_path / "run", **options)
    rows = _rows(_general(tmp_path), "cifar100")
    figures = ["60.00*", "-", "50.00*", "-", "10.00*", "-"]
    assert rows == [["cifar100", "lwf", "no exemplars", "-", "5", "1", *figures]]


def test_star_marks_the_classifier_that_is_reported(tmp_path):
    write_run(tmp_path / "run", primary_classifier="nme", method="icarl")
    (row,) = _rows(_general(tmp_path), "cifar100")
    assert row[6:] == ["60.00", "58.00*", "50.00", "48.00*", "10.00", "8.00*"]


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "w/ ours"),
        ({"weight_transfer": "per_kernel"}, "w/ ours"),
        ({"exemplars": "herding"}, "w/ ours, but herding"),
        ({"exemplars": "random", "adjust_exemplars": False}, "w/ ours, but random, no adjusting"),
        ({"distillation": False}, "w/ ours, but no distillation"),
        (WITHOUT_OURS, "without ours"),
        ({**WITHOUT_OURS, "balanced_finetune": None}, "without ours"),
        ({**WITHOUT_OURS, "exemplars": "random"}, "without ours, but random"),
        ({**WITHOUT_OURS, "weight_transfer": "per_neuron"}, "without ours, but weight transfer"),
        ({**WITHOUT_OURS, "exemplars": "mnemonics"}, "mnemonics alone"),
        ({**WITHOUT_OURS, "exemplars": "mnemonics", "adjust_exemplars": True}, "mnemonics alone, but adjusting"),
        ({**WITHOUT_OURS, "exemplars": "none"}, "no exemplars"),
    ],
)
def test_exemplars_are_described_by_what_differs(tmp_path, changes, label):
    write_run(tmp_path / "run", **changes)
    (row,) = _rows(_general(tmp_path), "cifar100")
    assert row[2] == label


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"ExemplarMemory.codec": "webp"}, "without ours, but coded by webp"),
        ({"Rehearsal.memory_share": 0.5}, "without ours, but balanced use"),
        ({"Rehearsal.logit_adjustment": 1.0}, "without ours, but balanced use"),
        ({"ExemplarMemory.codec": "raw", "Rehearsal.memory_share": 0.0}, "without ours"),
    ],
)
def test_use_of_the_memory_that_the_paper_does_not_know_is_told(tmp_path, settings, label):
    write_run(tmp_path / "run", settings=settings, **WITHOUT_OURS)
    (row,) = _rows(_general(tmp_path), "cifar100")
    assert row[2] == label


@pytest.mark.parametrize(
    ("budget", "label"),
    [
        ("total_2000", "2000 in all"),
        ("bytes_per_class_61440", "61440 bytes a class"),
        ("total_bytes_6000000", "6000000 bytes in all"),
    ],
)
def test_budget_in_other_units(tmp_path, budget, label):
    write_run(tmp_path / "run", budget=budget)
    assert _rows(_general(tmp_path), "cifar100")[0][3] == label


def test_measured_figures_stand_below_the_papers(tmp_path):
    write_seeds(tmp_path / "with", [62.0, 64.0, 66.0])
    write_run(tmp_path / "without", **WITHOUT_OURS, average=58.25, phase_sizes=[50, *[5] * 10])
    text = _paper("1", tmp_path)
    dashes = ["-"] * 9
    assert _below(text, "LUCIR w/ ours") == [
        ["paper", "63.34", "62.28", "60.96", "72.58", "71.37", "69.74", "64.54", "63.01", "61.00"],
        ["measured", "64.00 ± 4.97", *dashes[1:]],
    ]
    assert _below(text, "LUCIR without ours")[1] == ["measured", "-", "58.25", *dashes[2:]]
    assert _below(text, "BiC w/ ours")[1] == ["measured", *dashes]
    forgetting = text.partition("forgetting (%)")[2]
    assert _below(forgetting, "LUCIR w/ ours") == [
        ["paper", "10.91", "13.38", "19.80", "17.40", "17.08", "20.83", "13.85", "15.82", "19.17"],
        ["measured", "10.00 ± 0.00", *dashes[1:]],
    ]


def test_papers_tables_show_the_classifier_that_is_reported(tmp_path):
    write_run(tmp_path / "run", method="icarl", primary_classifier="nme", average=60, nme_minus=3)
    assert _below(_paper("1", tmp_path), "iCaRL w/ ours")[1][:2] == ["measured", "57.00"]


@pytest.mark.parametrize(
    ("table", "label", "changes"),
    [
        ("2", "random w/o adj.", {"exemplars": "random", "adjust_exemplars": False}),
        ("2", "ours  ", {}),
        ("S1", "w/o distill.", {"distillation": False}),
        ("S1", "w/ distill.", {}),
        ("S2", "LwF w/ ours", {"method": "lwf", "budget": "total_2000"}),
    ],
)
def test_rows_have_the_papers_names(tmp_path, table, label, changes):
    write_run(tmp_path / "run", average=61.5, **changes)
    assert _below(_paper(table, tmp_path), label)[1] == ["measured", "61.50", *["-"] * 5]


def test_without_runs_a_table_is_the_papers_alone():
    text = tables.paper_table(paper.tables()["S1"], [], {})
    assert "measured" not in text
    assert _below(text, "w/o distill.") == [["paper", "50.86", "50.40", "49.69", "65.74", "64.63", "65.21"]]


def _told_apart(folder):
    kept, _ = groups.leave_out_repeats(
        groups.with_data_told_apart(runs.read_runs(runs.find_runs([str(folder)])).finished)
    )
    found = groups.group_seeds(kept)
    return found, labels.variations(found)


def _with_classes(run, *names):
    (run / "data.json").write_text(json.dumps({"class_names": names}))


def test_data_of_one_name_and_other_classes_have_lines_of_their_own_in_the_papers_tables(tmp_path):
    _with_classes(write_run(tmp_path / "a", average=60), "ant", "bee")
    _with_classes(write_run(tmp_path / "b", average=50), "cod", "eel")
    found, variations = _told_apart(tmp_path)
    rows = _rows(tables.general_table(found, variations), "cifar100")
    assert [row[0] for row in rows] == ["cifar100 (1: ant, bee)", "cifar100 (2: cod, eel)"]
    text = tables.paper_table(paper.tables()["1"], found, variations)
    assert [row[:2] for row in _below(text, "LUCIR w/ ours")[1:]] == [
        ["measured (data 1: ant, bee)", "60.00"],
        ["measured (data 2: cod, eel)", "50.00"],
    ]
    assert [value for _, value in paper.figures_for(found[0].setup, "average_accuracy")] != []


def test_run_that_has_lost_what_it_noted_of_its_data_is_a_seed_of_the_others(tmp_path):
    for seed in range(3):
        _with_classes(write_run(tmp_path / str(seed), seed=seed, average=60 + seed), "ant", "bee")
    (tmp_path / "2/data.json").write_text("{")
    found, _ = _told_apart(tmp_path)
    assert [[run.seed for run in group.runs] for group in found] == [[0, 1, 2]]
    # Which of two it belongs to, nobody can tell.
    _with_classes(write_run(tmp_path / "other", seed=5), "cod", "eel")
    found, variations = _told_apart(tmp_path)
    assert sorted(len(group.runs) for group in found) == [1, 1, 2]
    text = tables.paper_table(paper.tables()["1"], found, variations)
    assert len(_below(text, "LUCIR w/ ours")) == 4


def test_runs_of_one_cell_with_other_settings_are_not_mixed(tmp_path):
    full = {"ModelLevel.epochs": 160, "ResNet.blocks": (5, 5, 5)}
    short = {"ModelLevel.epochs": 8, "ResNet.blocks": (3, 3, 3)}
    write_seeds(tmp_path / "full", [62.0, 64.0, 66.0], settings=full)
    write_run(tmp_path / "short/n5", settings=short, average=40)
    write_run(tmp_path / "short/n10", settings=short, average=38, phase_sizes=[50, *[5] * 10])
    write_run(tmp_path / "short/without", settings=short, average=41, **WITHOUT_OURS)
    general = _general(tmp_path)
    assert [(row[2], row[4], row[6]) for row in _rows(general, "cifar100")] == [
        ("w/ ours #1", "5", "64.00* ± 4.97"),
        ("w/ ours #2", "5", "40.00*"),
        ("w/ ours #2", "10", "38.00*"),
        ("without ours #2", "5", "41.00*"),
    ]
    assert "#1  ModelLevel.epochs = 160, ResNet.blocks = (5, 5, 5)\n" in general
    assert general.endswith("#2  ModelLevel.epochs = 8, ResNet.blocks = (3, 3, 3)")
    text = _paper("1", tmp_path)
    assert [row[:3] for row in _below(text, "LUCIR w/ ours")[1:]] == [
        ["measured #1", "64.00 ± 4.97", "-"],
        ["measured #2", "40.00", "38.00"],
    ]
    # The number means the same settings in every row.
    assert _below(text, "LUCIR without ours")[1][:2] == ["measured #2", "41.00"]


def _conditions(text):
    """Lines below a paper's table, from the first that says what was measured with; wrapped ones are put together."""
    lines = text.replace("\n      ", " ").splitlines()
    start = next((index for index, line in enumerate(lines) if line.endswith("was measured with")), len(lines))
    return lines[start:]


def test_what_figures_were_measured_with_stands_below_the_papers_table(tmp_path):
    short = {"ModelLevel.epochs": 8, "ResNet.blocks": (3, 3, 3), "ResNet.widths": (16, 32, 64)}
    write_seeds(tmp_path / "lucir", [62.0, 64.0, 66.0], settings=short)
    write_run(tmp_path / "lwf", settings=short, method="lwf", head="linear")
    write_run(tmp_path / "bic", settings={**short, "ModelLevel.epochs": 9}, method="bic")
    for name, changes in (("ours", {}), ("without", WITHOUT_OURS)):
        write_run(tmp_path / f"icarl/{name}", settings=short, method="icarl", primary_classifier="nme", **changes)
    subset = {"ResNet.blocks": (2, 2, 2, 2), "ResNet.widths": (64, 128, 256, 512), "ModelLevel.epochs": 90}
    write_run(tmp_path / "subset", settings=subset, dataset="imagenet_subset")
    # Nothing differs within a row, so there are no numbers; what differs between rows is told by their names.
    assert _conditions(_paper("1", tmp_path)) == [
        "CIFAR-100 was measured with",
        "  paper  ResNet-32, which has blocks (5, 5, 5) and widths (16, 32, 64); epochs 160",
        "  measured  ResNet of blocks (3, 3, 3), widths (16, 32, 64), epochs 8 (epochs 9: BiC w/ ours), cosine head "
        "(linear head: LwF w/ ours), CNN (NME: iCaRL without ours, iCaRL w/ ours)",
        "",
        "ImageNet-Subset was measured with",
        "  paper  ResNet-18, which has blocks (2, 2, 2, 2) and widths (64, 128, 256, 512); epochs 90",
        "  measured  ResNet of blocks (2, 2, 2, 2), widths (64, 128, 256, 512), epochs 90, cosine head, CNN",
    ]
    assert _conditions(_paper("S2", tmp_path)) == []


def test_each_variation_has_a_line_on_what_it_was_measured_with(tmp_path):
    write_run(tmp_path / "full", settings={"ModelLevel.epochs": 160, "ResNet.blocks": (5, 5, 5)})
    write_run(tmp_path / "short", settings={"ModelLevel.epochs": 8, "ResNet.blocks": (3, 3, 3)})
    assert _conditions(_paper("S1", tmp_path))[2:] == [
        "  measured #1  ResNet of blocks (5, 5, 5), widths (not set), epochs 160, cosine head, CNN",
        "  measured #2  ResNet of blocks (3, 3, 3), widths (not set), epochs 8, cosine head, CNN",
    ]


def test_another_schedule_for_another_number_of_phases_shows_in_its_row(tmp_path):
    write_run(tmp_path / "n5", settings={"ModelLevel.epochs": 160}, average=60)
    write_run(tmp_path / "n10", settings={"ModelLevel.epochs": 8}, average=40, phase_sizes=[50, *[5] * 10])
    rows = _below(_paper("1", tmp_path), "LUCIR w/ ours")
    # The folder n10 comes first in the alphabet.
    assert [row[:3] for row in rows[1:]] == [["measured #1", "-", "40.00"], ["measured #2", "60.00", "-"]]


def test_rows_that_differ_by_what_they_say_have_no_number(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", phase_sizes=[50, *[5] * 10])
    write_run(tmp_path / "c", **WITHOUT_OURS)
    write_run(tmp_path / "d", method="bic", settings={"bic.epochs": 3})
    write_run(tmp_path / "e", budget="total_2000")
    assert "#" not in _general(tmp_path)


def test_settings_of_one_method_do_not_number_another(tmp_path):
    write_run(tmp_path / "a", settings={"lucir.less_forget_weight": 5.0})
    write_run(tmp_path / "b", settings={"lucir.less_forget_weight": 2.0})
    write_run(tmp_path / "c")
    write_run(tmp_path / "d", method="bic")
    write_run(tmp_path / "e", dataset="imagenet_subset")
    general = _general(tmp_path)
    assert [(row[1], row[2]) for row in _rows(general, "cifar100")] == [
        ("bic", "w/ ours"),
        ("lucir", "w/ ours #1"),
        ("lucir", "w/ ours #2"),
        ("lucir", "w/ ours #3"),
    ]
    assert _rows(general, "imagenet_subset")[0][2] == "w/ ours"
    assert general.endswith("#3  lucir.less_forget_weight = (not set)")


def test_setting_of_n_that_phases_do_not_follow_is_told(tmp_path):
    # Protocol.sizes overrules it: both runs have N = 5 and would share a cell.
    write_run(tmp_path / "a", average=60)
    write_run(tmp_path / "b", average=61, settings={"Protocol.num_phases": 7})
    rows = _below(_paper("1", tmp_path), "LUCIR w/ ours")[1:]
    assert [row[:2] for row in rows] == [["measured #1", "60.00"], ["measured #2", "61.00"]]


def test_more_than_nine_variations_are_in_order(tmp_path):
    for index in range(11):
        write_run(tmp_path / f"{index:02d}", settings={"ModelLevel.epochs": index}, average=50 + index)
    rows = _below(_paper("1", tmp_path), "LUCIR w/ ours")[1:]
    assert [row[:2] for row in rows] == [[f"measured #{index + 1}", f"{50 + index:.2f}"] for index in range(11)]


def test_columns_stand_below_one_another(tmp_path):
    write_seeds(tmp_path / "a", [62.0, 64.0, 66.0])
    write_run(tmp_path / "b", **WITHOUT_OURS, average=100.0)
    rows = [line for line in _general(tmp_path).splitlines() if line.startswith("cifar100")]
    assert len({line.index(".") for line in rows}) == 1
    assert len({line.index("*") for line in rows}) == 1
