"""Run folders: which are found, what is read of them, and what is refused."""

from __future__ import annotations

import json
import os

import pytest
from run_folders import results_of, write_run

from mnemonics_tf.checks import UsageError
from mnemonics_tf.report import runs
from mnemonics_tf.run import bindings, phase_marks


def _read(folder):
    """The finished runs of a folder, in which there are no others."""
    found = runs.read_runs(runs.find_runs([str(folder)]), [str(folder / "run")])
    assert not found.unfinished
    assert not found.unreadable
    return found.finished


def test_runs_are_found_at_any_depth_and_their_folders_are_not_searched(tmp_path):
    one = write_run(tmp_path / "b/deeper/one")
    two = write_run(tmp_path / "a")
    (one / "phases/000").mkdir(parents=True)
    (one / "phases/000/results.json").write_text("not a run")
    assert runs.find_runs([str(tmp_path)]) == [str(two), str(one)]
    assert runs.find_runs([str(one)]) == [str(one)]


def test_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = write_run(tmp_path / "runs/one")
    assert runs.find_runs(["~/runs"]) == [str(run)]


def test_run_that_is_named_twice_counts_once(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    assert runs.find_runs([f"{run}/", str(tmp_path), str(run), str(tmp_path / "link")]) == [str(run)]


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
    found = runs.read_runs(runs.find_runs([str(tmp_path)]))
    assert [run.folder for run in found.finished] == [str(tmp_path / "done")]
    assert found.unfinished == [f"{started} (2 of 6 phases)"]


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


def test_run_without_its_configuration_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "config.gin").unlink()
    with pytest.raises(UsageError, match=r"run: its config\.gin cannot be read"):
        _read(tmp_path)


def test_configuration_that_the_phases_do_not_name_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "phases/000").mkdir(parents=True)
    config = folder / "config.gin"
    (folder / "phases/000/metrics.json").write_text("{}")  # a mark lists a file at least
    mark = phase_marks.Mark({}, configuration=bindings.checksum(config.read_text()))
    phase_marks.write(str(folder / "phases/000"), mark)
    assert len(_read(tmp_path)) == 1
    config.write_text(config.read_text() + "\nModelLevel.epochs = 170\n")
    with pytest.raises(UsageError, match=r"run/config\.gin is not the configuration that the phases"):
        _read(tmp_path)


def test_damaged_run_is_left_out_unless_it_is_named(tmp_path):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    (bad / "results.json").write_text("{")
    found = runs.read_runs(runs.find_runs([str(tmp_path)]), [str(tmp_path)])
    assert [run.folder for run in found.finished] == [str(good)]
    (line,) = found.unreadable
    assert line.startswith(f"{bad}/results.json is damaged: it is not JSON")
    with pytest.raises(UsageError, match="is damaged"):
        runs.read_runs(runs.find_runs([str(tmp_path), f"{bad}/"]), [str(tmp_path), f"{bad}/"])


def test_names_from_files_cannot_move_the_cursor(tmp_path):
    write_run(tmp_path / "run", settings={"tfds.name": "\x1b[2J"}, dataset="a\x1b[31mb")
    (run,) = _read(tmp_path)
    assert run.setup.dataset == "a\\x1b[31mb"
    assert all(value.isprintable() for value in run.setup.settings.values())
