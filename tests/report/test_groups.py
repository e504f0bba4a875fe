"""Seeds of one experiment: which runs belong together, and their mean and interval."""

from __future__ import annotations

import json
import math

import pytest
from run_folders import write_run, write_seeds

from mnemonics_tf.checks import UsageError
from mnemonics_tf.report import aggregate, groups, runs


def _groups(folder):
    return groups.group_seeds(_kept(folder)[0])


def _kept(*folders):
    return groups.leave_out_repeats(runs.read_runs(runs.find_runs(map(str, folders))).finished)


def test_seeds_belong_together_and_other_settings_do_not(tmp_path):
    for seed in (2, 10, 1):
        write_run(tmp_path / f"run{seed}", seed=seed)
    write_run(tmp_path / "short", settings={"ModelLevel.epochs": 8})
    short, seeds = sorted(_groups(tmp_path), key=lambda group: len(group.runs))
    assert [run.seed for run in seeds.runs] == [1, 2, 10]
    assert [run.folder for run in short.runs] == [str(tmp_path / "short")]
    assert groups.differing_settings([short, seeds]) == ["ModelLevel.epochs"]
    assert groups.setting(short, "ModelLevel.epochs") == "8"
    assert groups.setting(seeds, "ModelLevel.epochs") == "(not set)"


def test_what_a_run_may_be_resumed_with_parts_no_seeds(tmp_path):
    write_run(tmp_path / "a", seed=0, settings={"Experiment.snapshot_seconds": 60, "Matching.spread_weight": 0.0})
    write_run(tmp_path / "b", seed=1, settings={"Experiment.snapshot_seconds": 600})
    assert len(_groups(tmp_path)) == 1
    write_run(tmp_path / "c", seed=2, settings={"Matching.spread_weight": 0.1})
    assert len(_groups(tmp_path)) == 2


def test_folders_of_one_name_with_other_classes_are_no_seeds_of_one_experiment(tmp_path):
    for name, seed, classes in (("a", 0, "daisy"), ("b", 0, "wren"), ("c", 1, "wren")):
        run = write_run(tmp_path / name, seed=seed, average=50 + seed)
        (run / "data.json").write_text(json.dumps({"class_names": [classes, "other"]}))
    kept, lines = _kept(tmp_path)
    assert lines == []
    found = groups.group_seeds(kept)
    assert [[run.name for run in group.runs] for group in found] == [
        [str(tmp_path / "a")],
        [str(tmp_path / "b"), str(tmp_path / "c")],
    ]


def test_comments_and_blank_lines_do_not_matter(tmp_path):
    write_run(tmp_path / "a", seed=0)
    config = write_run(tmp_path / "b", seed=1) / "config.gin"
    config.write_text("# another comment\n\n" + config.read_text().replace("\n", "\n\n"))
    assert len(_groups(tmp_path)) == 1


def test_runs_of_several_sweeps_count_once_and_the_first_that_was_named_counts(tmp_path):
    one = write_run(tmp_path / "table1/lucir-ours", seed=4)
    two = write_run(tmp_path / "table2/mnemonics_adjusted", seed=4)
    three = write_run(tmp_path / "tableS1/with_distillation", seed=4, average=61)
    other_seed = write_run(tmp_path / "tableS1/another", seed=5)
    kept, lines = _kept(tmp_path / "table2", tmp_path / "table1", tmp_path / "tableS1")
    assert [run.folder for run in kept] == [str(two), str(other_seed)]
    assert lines == [
        f"{one}: repeats {two}, with the same results",
        f"{three}: repeats {two}, but with other results",
    ]
    (group,) = groups.group_seeds(kept)
    assert aggregate.figure(group, "average_accuracy", "cnn").mean == 60


def test_run_that_was_copied_within_a_folder_counts_once(tmp_path):
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second")
    kept, lines = _kept(tmp_path)
    assert [run.folder for run in kept] == [str(first)]
    assert lines == [f"{second}: repeats {first}, with the same results"]


def test_same_experiment_and_seed_of_one_sweep_with_other_results_is_refused(tmp_path):
    first = write_run(tmp_path / "first", seed=4)
    second = write_run(tmp_path / "second", seed=4, average=61)
    with pytest.raises(UsageError, match="same seed, 4, and have different results") as error:
        _groups(tmp_path)
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_unfinished_run_is_no_duplicate(tmp_path):
    write_run(tmp_path / "first")
    write_run(tmp_path / "second", num_complete=1)
    (group,) = _groups(tmp_path)
    assert len(group.runs) == 1


def test_same_settings_on_other_data_are_refused(tmp_path):
    write_run(tmp_path / "first", seed=0)
    write_run(tmp_path / "second", seed=1, phase_sizes=[40, 8, 8, 8, 8, 8])
    with pytest.raises(UsageError, match="same settings, but their phase_sizes differ"):
        _groups(tmp_path)


@pytest.mark.parametrize(
    ("averages", "mean", "half_interval"),
    [
        # Deviation 2 with n - 1; the t table has 4.303 for two degrees of freedom and 97.5 %.
        ([62.0, 64.0, 66.0], 64.0, 4.303 * 2 / math.sqrt(3)),
        # Deviation sqrt(2); 12.706 for one degree of freedom.
        ([60.0, 62.0], 61.0, 12.706 * math.sqrt(2) / math.sqrt(2)),
        ([60.0], 60.0, None),
    ],
)
def test_mean_and_interval_over_seeds(tmp_path, averages, mean, half_interval):
    write_seeds(tmp_path, averages, nme_minus=5)
    (group,) = _groups(tmp_path)
    # The nearest mean is 5 lower in each run, so its interval is the same.
    for classifier, expected in (("cnn", mean), ("nme", mean - 5)):
        figure = aggregate.figure(group, "average_accuracy", classifier)
        assert figure.mean == pytest.approx(expected)
        assert figure.half_interval == (None if half_interval is None else pytest.approx(half_interval, rel=1e-3))


def test_classifier_that_runs_do_not_have_has_no_figure(tmp_path):
    write_run(tmp_path / "run", nme_minus=None)
    (group,) = _groups(tmp_path)
    assert aggregate.figure(group, "forgetting", "nme") is None
    assert aggregate.figure(group, "forgetting", "cnn") == aggregate.Figure(10.0, None)
