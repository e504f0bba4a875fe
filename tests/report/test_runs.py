"""Run folders: which are found, what is read of them, and what is refused."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
from run_folders import results_of, write_run

import mnemonics_tf
from mnemonics_tf.checks import UsageError
from mnemonics_tf.report import runs


def _read(folder):
    finished, unfinished = runs.read_runs(runs.find_runs([str(folder)]))
    assert not unfinished
    return finished


def test_runs_are_found_at_any_depth_and_their_folders_are_not_searched(tmp_path):
    one = write_run(tmp_path / "b/deeper/one")
    two = write_run(tmp_path / "a")
    (one / "phases/000").mkdir(parents=True)
    (one / "phases/000/results.json").write_text("not a run")
    assert runs.find_runs([str(tmp_path)]) == [str(two), str(one)]
    assert runs.find_runs([str(one)]) == [str(one)]


def test_run_that_is_named_twice_counts_once(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    assert runs.find_runs([str(run), str(tmp_path), f"{run}/", str(tmp_path / "link")]) == [str(run)]


def test_figures_and_settings_are_read(tmp_path):
    write_run(tmp_path / "run", average=60, last=50, forgetting=10, nme_minus=2, seed=3)
    (run,) = _read(tmp_path)
    assert run.seed == 3
    assert run.figures == {
        ("average_accuracy", "cnn"): 60,
        ("average_accuracy", "nme"): 58,
        ("last_accuracy", "cnn"): 50,
        ("last_accuracy", "nme"): 48,
        ("forgetting", "cnn"): 10,
        ("forgetting", "nme"): 8,
    }
    assert run.setup.phase_sizes == (50, 10, 10, 10, 10, 10)
    assert run.setup.settings["Protocol.num_phases"] == "5"
    assert "Experiment.seed" not in run.setup.settings


def test_last_accuracy_is_that_of_the_last_phase(tmp_path):
    folder = write_run(tmp_path / "run")
    results = results_of()
    for index, phase in enumerate(results["phases"]):
        phase["accuracy"] = {"cnn": 90.0 - 10 * index, "nme": 1.0}
    (folder / "results.json").write_text(json.dumps(results))
    (run,) = _read(tmp_path)
    assert run.figures["last_accuracy", "cnn"] == 40  # 90 - 10 * 5


def test_run_without_exemplars_has_no_nearest_mean(tmp_path):
    write_run(tmp_path / "run", nme_minus=None, exemplars="none", budget="none")
    (run,) = _read(tmp_path)
    assert {classifier for _, classifier in run.figures} == {"cnn"}


def test_unfinished_runs_are_left_out_by_name(tmp_path):
    write_run(tmp_path / "done")
    started = write_run(tmp_path / "started", num_complete=2)
    finished, unfinished = runs.read_runs(runs.find_runs([str(tmp_path)]))
    assert [run.folder for run in finished] == [str(tmp_path / "done")]
    assert unfinished == [f"{started} (2 of 6 phases)"]


def test_resolved_configuration_is_read_binding_by_binding():
    text = "\n".join(
        [
            "# Macros:",
            "",
            "# Parameters for ModelLevel:",
            "# ======",
            "ModelLevel.epochs = 8",
            "ModelLevel.milestones = \\",
            "    (4,",
            "     6)",
            "tfds.name = 'a = b'",
        ]
    )
    assert runs.read_settings(text) == {
        "ModelLevel.epochs": "8",
        "ModelLevel.milestones": "(4, 6)",
        "tfds.name": "'a = b'",
    }


def test_missing_folders_and_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere: there is no such folder"):
        runs.find_runs([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match=r"there is no run in it.*results\.json"):
        runs.find_runs([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_folder_that_cannot_be_listed_is_refused(tmp_path):
    write_run(tmp_path / "run")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(UsageError, match="closed: cannot be listed"):
        runs.find_runs([str(tmp_path)])


def _without(results, key):
    return {name: value for name, value in results.items() if name != key}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        (results_of(schema_version=1), "has schema_version 1: expected 2"),
        (_without(results_of(), "schema_version"), "has schema_version None: expected 2"),
        (results_of(schema_version=3), "has schema_version 3: expected 2"),
        (_without(results_of(), "distillation"), "has no 'distillation'"),
        (results_of(seed="0"), "'seed' is '0', not of type int"),
        (results_of(seed=True), "'seed' is True, not of type int"),
        (results_of(balanced_finetune="no"), "not of type bool or NoneType"),
        (results_of(num_phases=4), "has 6 phases, and num_phases = 4"),
        (results_of(average="high", nme_minus=None), "a figure is missing or no number"),
        (results_of(forgetting=float("nan")), "a figure is not finite"),
        (results_of(primary_classifier="nme", nme_minus=None), "no figures of the classifier 'nme'"),
        ({**results_of(), "forgetting": {}}, "a figure is missing or no number"),
        ({**results_of(), "phases": [None] * 6}, "a figure is missing or no number"),
        ({**results_of(num_phases=-1), "phases": []}, "a figure is missing or no number"),
    ],
)
def test_results_that_cannot_be_used_are_refused(tmp_path, content, message):
    folder = write_run(tmp_path / "run")
    (folder / "results.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError) as error:
        _read(tmp_path)
    assert message in str(error.value)
    assert str(folder / "results.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_results_that_are_no_text_are_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not text"):
        _read(tmp_path)


def test_run_without_its_configuration_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "config.gin").unlink()
    with pytest.raises(UsageError, match=r"run has no config\.gin"):
        _read(tmp_path)


def test_version_of_the_schema_is_the_one_that_runs_write():
    # Read from the source: importing it takes TensorFlow's seconds.
    tree = ast.parse((Path(mnemonics_tf.__file__).parent / "experiment.py").read_text(encoding="utf-8"))
    written = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == "SCHEMA_VERSION"
    }
    assert written == {"SCHEMA_VERSION": runs.SCHEMA_VERSION}
