"""Every method, protocol and budget through the command line, in tiny runs on the digits."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY_BINDINGS, tiny_arguments

from mnemonics_tf import methods
from mnemonics_tf.data.class_order import class_order

_PLAIN = (
    'ExemplarMemory.strategy = "herding"',
    "ExemplarMemory.adjust = False",
    'ModelLevel.weight_transfer = "none"',
    "BalancedFinetune.enabled = None",
    "Probe.enabled = False",
    "Experiment.method = @replay",
)


def _results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def _exemplars(folder: Path, phase: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"phases/{phase:03d}/exemplars.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("initial_phases")


# BiC and the analytic method run to their end in `tests/learner`; the heavy tests run every method.
_HERE = ("icarl", "joint", "lucir")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in _HERE else pytest.mark.heavy)
        for name in sorted(set(methods.available()) - {"analytic"})
    ],
)
def test_method_runs_with_mnemonics_on_a_shared_initial_phase(name, call_main, tmp_path, shared):
    method = methods.available()[name]
    before = len(list(shared.glob("*.npz")))
    # Exemplars know nothing of the method but its head: one method of each is enough for the engine that takes longest.
    engine = "adjoint" if name in ("lucir", "podnet", "wa") else "head"
    bindings = (*TINY_BINDINGS, "Probe.enabled = False", f"ExemplarLevel.engine = '{engine}'")
    arguments = [
        f"--gin_file={ROOT}/configs/methods/{name}.gin",
        f"--gin_file={ROOT}/configs/datasets/digits.gin",
        *(f"--gin_param={binding}" for binding in bindings),
        f"--output_dir={tmp_path / 'run'}",
        f"--initial_phases_dir={shared}",
    ]
    code, stderr = call_main(arguments)
    assert code == 0, stderr
    results = _results(tmp_path / "run")
    assert (results["method"], results["head"]) == (name, method.head)
    assert results["primary_classifier"] == method.primary_classifier
    assert results["exemplars"] == ("herding" if name == "joint" else "mnemonics")
    # Trained by the first run that wants this network, and the same for all that follow.
    trained = len(list(shared.glob("*.npz"))) - before
    assert [phase["reused"] for phase in results["phases"]] == [not trained, False]
    for phase in results["phases"]:
        assert set(phase["accuracy"]) == {"cnn", "nme"}


@pytest.mark.heavy
def test_methods_whose_initial_training_is_the_same_share_one(shared):
    # Seven by cross-entropy on a cosine head (and EEIL, without noise), WA on a linear one, PODNet by NCA on proxies.
    assert len(list(shared.glob("*.npz"))) == 3


def test_analytic_run_keeps_statistics_on_a_shared_initial_phase_and_is_resumed(call_main, tmp_path, shared):
    mnemonics = ("ExemplarMemory.", "ModelLevel.weight_transfer")
    arguments = [
        f"--gin_file={ROOT}/configs/methods/analytic.gin",
        f"--gin_file={ROOT}/configs/datasets/digits.gin",
        *(f"--gin_param={binding}" for binding in TINY_BINDINGS if not binding.startswith(mnemonics)),
        "--gin_param=analytic.units = 50",
        f"--output_dir={tmp_path / 'run'}",
        f"--initial_phases_dir={shared}",
    ]
    before = len(list(shared.glob("*.npz")))
    code, stderr = call_main(arguments)
    assert code == 0, stderr
    results = _results(tmp_path / "run")
    assert (results["exemplars"], results["budget"], results["head"]) == ("none", "none", "cosine")
    # That of the methods which begin by cross-entropy on a cosine head, if their tests have run.
    assert results["phases"][0]["reused"] == (len(list(shared.glob("*.npz"))) == before)
    with np.load(tmp_path / "run/phases/001/statistics.npz") as arrays:
        assert arrays["sums"].shape == (50, 10)
        assert results["phases"][1]["statistics_bytes"] == sum(array.nbytes for array in arrays.values())
    served = (tmp_path / "run/phases/001/checkpoint/model.weights.h5").read_bytes()
    shutil.rmtree(tmp_path / "run/phases/001")
    code, stderr = call_main(arguments)
    assert code == 0, stderr
    assert _results(tmp_path / "run")["phases"][1]["accuracy"] == results["phases"][1]["accuracy"]
    assert len((tmp_path / "run/phases/001/checkpoint/model.weights.h5").read_bytes()) == len(served)


@pytest.mark.heavy
def test_bias_correction_survives_a_resumed_run(call_main, tmp_path):
    # The second phase has a correction of its own, and the third one starts from it.
    bindings = (*_PLAIN, "Experiment.method = @bic", "Protocol.sizes = (6, 2, 2)")
    folder = tmp_path / "run"
    code, stderr = call_main(tiny_arguments(folder, *bindings))
    assert code == 0, stderr
    kept = _results(folder)
    shutil.rmtree(folder / "phases/002")
    code, stderr = call_main(tiny_arguments(folder, *bindings))
    assert code == 0, stderr
    assert _results(folder)["phases"][2]["accuracy"] == kept["phases"][2]["accuracy"]


def test_without_exemplars_there_is_a_head_and_no_nearest_mean(call_main, tmp_path):
    arguments = [
        f"--gin_file={ROOT}/configs/methods/lwf_without_exemplars.gin",
        f"--gin_file={ROOT}/configs/datasets/digits.gin",
        *(f"--gin_param={binding}" for binding in TINY_BINDINGS if not binding.startswith("ExemplarMemory.")),
        f"--output_dir={tmp_path / 'run'}",
    ]
    code, stderr = call_main(arguments)
    assert code == 0, stderr
    results = _results(tmp_path / "run")
    assert (results["exemplars"], results["budget"]) == ("none", "none")
    assert set(results["average_accuracy"]) == {"cnn"}
    assert [phase["exemplars_per_class"] for phase in results["phases"]] == [0, 0]
    assert len(_exemplars(tmp_path / "run", 1)["labels"]) == 0


def test_total_budget_shrinks_by_the_order_of_herding(call_main, tmp_path):
    bindings = (
        *_PLAIN,
        "ExemplarMemory.total = 40",
        'ExemplarMemory.discard = "herding"',
        "Protocol.sizes = (2, 8)",
    )
    code, stderr = call_main(tiny_arguments(tmp_path / "run", *bindings))
    assert code == 0, stderr
    results = _results(tmp_path / "run")
    assert (results["budget"], results["discard"]) == ("total_40", "herding")
    assert results["phase_sizes"] == [2, 8]
    # 40 for 2 and for 10 classes.
    assert [phase["exemplars_per_class"] for phase in results["phases"]] == [20, 4]
    first, last = _exemplars(tmp_path / "run", 0), _exemplars(tmp_path / "run", 1)
    for class_id in results["class_order"][:2]:
        kept = last["images"][last["labels"] == class_id]
        np.testing.assert_array_equal(kept, first["images"][first["labels"] == class_id][:4])


def test_listed_classes_arrive_as_listed_and_the_others_never(call_main, tmp_path):
    bindings = (*_PLAIN, 'Protocol.classes = (("7", "1", "3"), ("0",), (9, 4))', 'Experiment.classifier = "nme"')
    code, stderr = call_main(tiny_arguments(tmp_path / "run", *bindings))
    assert code == 0, stderr
    results = _results(tmp_path / "run")
    assert results["class_order"] == [7, 1, 3, 0, 9, 4]
    assert results["phase_sizes"] == [3, 1, 2]
    assert results["primary_classifier"] == "nme"
    assert set(_exemplars(tmp_path / "run", 2)["labels"]) == {7, 1, 3, 0, 9, 4}


def test_model_that_predicts_by_nearest_mean_serves_nearest_means(call_main, tmp_path):
    import tensorflow as tf

    from mnemonics_tf.data.sources import digits

    bindings = (*_PLAIN, "Experiment.method = @icarl")
    code, stderr = call_main(tiny_arguments(tmp_path / "run", *bindings))
    assert code == 0, stderr
    test = digits().test
    model = tf.saved_model.load(tmp_path / "run/phases/001/saved_model")
    served = model.serve(tf.constant(test.images))
    accuracy = 100 * np.mean(served["class_ids"].numpy() == test.labels)
    assert accuracy == pytest.approx(_results(tmp_path / "run")["phases"][1]["accuracy"]["nme"])
    # By hand: exemplars' mean embeddings, of length 1, and the nearest of them.
    kept = _exemplars(tmp_path / "run", 1)
    units = model.serve(tf.constant(kept["images"]))["embeddings"].numpy()
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    order = class_order(10, 1993)
    means = np.stack([units[kept["labels"] == class_id].mean(axis=0) for class_id in order])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    features = served["embeddings"].numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    distances = ((features[:, None] - means) ** 2).sum(axis=2)
    np.testing.assert_array_equal(served["class_ids"], order[distances.argmin(axis=1)])
    exponentials = np.exp(-distances)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["Experiment.method = @replay", "ExemplarMemory.per_class = 0"], "needs exemplars"),
        (["Experiment.method = @bic", "ExemplarMemory.per_class = 1"], "holds out at least one exemplar"),
        (["ExemplarMemory.total = 9"], "Raise it to 10 or more"),
        (['Protocol.classes = (("1", "2"), ("3", "1"))'], "class '1' is in phase 0 and again in phase 1"),
        (['Protocol.classes = (("1", "2"), ("33",))'], "which the data set does not know. Did you mean '3'?"),
        (["Protocol.classes = ((1, 2), (10,))"], "no class has that number for its name"),
        (["Protocol.sizes = (5, 4)"], "are 9 classes, but the data set has 10"),
        (["Protocol.sizes = (5, 5)", "Protocol.classes = ((1,), (2,))"], "are both set"),
        (["Experiment.method = @wa", 'Experiment.head = "cosine"'], "method 'wa' works with 'linear'"),
        (['Experiment.head = "liner"'], "Did you mean 'linear'?"),
        (['Experiment.classifier = "ncm"'], "Did you mean 'nme'?"),
        (["ExemplarMemory.total = 100", 'ExemplarMemory.discard = "herding"', 'ExemplarMemory.strategy = "random"'],
         "have no such order"),
        (['ExemplarMemory.discard = "herding"'], "a budget a class has nothing to discard by it"),
        (["icarl.targets = 'sigmoids'", "Experiment.method = @icarl"], "Did you mean 'sigmoid'?"),
        (["Experiment.method = @analytic"], "trains on no exemplars"),
        (["Experiment.method = @analytic", "ExemplarMemory.per_class = 0", 'Protocol.classes = (("1",), ("3", "5"))'],
         "Give phase 0 two classes or more"),
        (["bic.held_out_share = 1.0", "Experiment.method = @bic"], "bic.held_out_share = 1.0"),
        (['BalancedFinetune.trained = "heads"'], "Did you mean 'head'?"),
    ],
)  # fmt: skip
def test_impossible_combination_is_one_clear_line_and_touches_nothing(call_main, tmp_path, bindings, message):
    plain = [binding for binding in _PLAIN if "per_class" not in binding] if "strategy" not in str(bindings) else []
    code, shown = call_main(tiny_arguments(tmp_path / "run", *plain, *bindings))
    assert code == 2
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_unusable_folder_of_initial_phases_is_refused(call_main, tmp_path):
    (tmp_path / "file").write_text("something")
    arguments = [*tiny_arguments(tmp_path / "run"), f"--initial_phases_dir={tmp_path / 'file'}"]
    code, shown = call_main(arguments)
    assert code == 2
    assert "--initial_phases_dir = " in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_method_of_the_documentation_takes_one_file_and_one_configuration(tmp_path, monkeypatch):
    """Does what docs/how-to/add-a-method.md says, with its text, in a copy of the package."""
    import subprocess

    page = (ROOT / "docs/how-to/add-a-method.md").read_text(encoding="utf-8")
    code, configuration = re.findall(r"```(?:python|gin)\n(.*?)```", page, re.DOTALL)[:2]
    configurations = re.findall(r"--gin_file=\S+", re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0])
    assert len(configurations) == 3
    assert code.count("\n") + configuration.count("\n") <= 40
    shutil.copytree(ROOT / "mnemonics_tf", tmp_path / "mnemonics_tf", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "mnemonics_tf/methods/weighted_replay.py").write_text(code, encoding="utf-8")
    (tmp_path / "configs/methods/weighted_replay.gin").write_text(configuration, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "-m", "mnemonics_tf.main", *configurations, "--output_dir=run"]
    # The method's own exemplars are learned as any other's.
    quick = tuple(binding for binding in _PLAIN if "method" not in binding)
    command += [f"--gin_param={binding}" for binding in (*TINY_BINDINGS, *quick)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert _results(tmp_path / "run")["method"] == "weighted_replay"
    assert "weighted_replay.old_weight = 3.0" in (tmp_path / "run/config.gin").read_text()
