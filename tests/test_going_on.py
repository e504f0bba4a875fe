"""A run goes on: a learner that begins where a run of the command line has come to."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import mnemonics_tf
from mnemonics_tf.checks import UsageError
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.run.directory import RunDirectory


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return (load_digits().images[:60, ..., None] * 15.9).astype(np.uint8)


@pytest.fixture(scope="module")
def learner(tiny_run) -> IncrementalLearner:
    return IncrementalLearner.from_run(tiny_run)


def test_learner_is_what_the_run_has_come_to(tiny_run, learner, digits):
    model = tf.saved_model.load(str(tiny_run / "phases/001/saved_model"))
    served = model.serve(digits)
    answers = learner.predict(digits)
    assert list(answers.names) == [name.decode() for name in served["class_names"].numpy()]
    np.testing.assert_array_equal(answers.ids, served["class_ids"])
    np.testing.assert_allclose(answers.probabilities, served["probabilities"], atol=1e-5)
    with np.load(tiny_run / "phases/001/exemplars.npz") as exemplars:
        order = learner._state.classes.order
        np.testing.assert_array_equal(order[learner._state.exemplars.slots.labels], exemplars["labels"])
    assert learner.settings.method.name == "lucir"
    assert learner.settings.model_level.epochs == 2
    assert not learner.settings.probe.enabled  # a run's files would tell of it, and a learner has none


def test_learner_learns_further_classes_and_leaves_the_run_alone(tiny_run, digits, tmp_path):
    before = _tree(tiny_run)
    learner = mnemonics_tf.IncrementalLearner.from_run(tiny_run)
    names = learner.class_names
    # Two new signs: the light of digits turned to dark, and a bar.
    bars = np.zeros((30, 8, 8, 1), np.uint8)
    bars[:, 2:4] = np.random.default_rng(0).integers(150, 255, (30, 2, 8, 1))
    learner.learn(np.concatenate([255 - digits[:30], bars]), ["dark"] * 30 + ["bar"] * 30)
    assert learner.class_names == (*names, "bar", "dark")
    assert learner.memory.counts["bar"] == 4
    assert all(learner.memory.counts[name] == 4 for name in names)
    learner.save(tmp_path / "learner")
    assert mnemonics_tf.IncrementalLearner.load(tmp_path / "learner").class_names == learner.class_names
    assert _tree(tiny_run) == before


def test_unfinished_run_goes_on_from_its_last_complete_phase(tiny_run, tmp_path, digits):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.rmtree(run / "phases/001")
    learner = IncrementalLearner.from_run(run)
    model = tf.saved_model.load(str(run / "phases/000/saved_model"))
    served = model.serve(digits)
    np.testing.assert_allclose(learner.predict(digits).probabilities, served["probabilities"], atol=1e-5)


def test_run_that_cannot_be_gone_on_from_is_refused(tiny_run, tmp_path):
    with pytest.raises(UsageError, match=r"there is no such folder. Expected the folder of a run"):
        IncrementalLearner.from_run(tmp_path / "none")
    (tmp_path / "learner.json").write_text("{}")
    with pytest.raises(UsageError, match=r"It is the folder of a learner: IncrementalLearner.load reads it"):
        IncrementalLearner.from_run(tmp_path)
    with pytest.raises(UsageError, match=r"It is the folder of a run: IncrementalLearner.from_run reads it"):
        IncrementalLearner.load(tiny_run)
    with pytest.raises(UsageError, match="the folder holds a learner and holds no run"):
        RunDirectory(str(tmp_path)).open("x = 1\n")
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    weights = run / "phases/001/checkpoint/model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UsageError, match="was damaged since it was written"):
        IncrementalLearner.from_run(run)
    config = run / "config.gin"
    before = config.read_text()
    config.write_text(f"{before}\nModelLevel.momentum = 0.5\n")
    with pytest.raises(UsageError, match=r"config\.gin is not the configuration that the phases of the run name"):
        IncrementalLearner.from_run(run)
    config.write_text(before)
    (run / "phases/001/COMPLETE").unlink()
    with pytest.raises(UsageError, match="phases/001/COMPLETE is missing"):
        IncrementalLearner.from_run(run)
    shutil.rmtree(run / "phases")
    with pytest.raises(UsageError, match="no phase of that run is complete"):
        IncrementalLearner.from_run(run)
