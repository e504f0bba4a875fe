"""The schema of results.json and metrics.json: what is written, and what a reader refuses."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from conftest import ROOT

from mnemonics_tf import checks, results
from mnemonics_tf.results import PhaseResult, Results

_PHASE_0 = PhaseResult(
    phase=0,
    num_classes=2,
    accuracy={"cnn": 90.0, "nme": 80.0},
    initial_classes_accuracy={"cnn": 90.0, "nme": 80.0},
    group_accuracy={"cnn": [90.0], "nme": [80.0]},
    exemplars_per_class=4,
    probe={"network_loss": 0.5},
    seconds={"train_model": 1.5},
)
_PHASE_1 = PhaseResult(
    phase=1,
    num_classes=3,
    accuracy={"cnn": 70.0, "nme": 75.0},
    initial_classes_accuracy={"cnn": 60.0, "nme": 85.0},
    group_accuracy={"cnn": [60.0, 90.0], "nme": [85.0, 55.0]},
    exemplars_per_class=4,
    probe={},
    seconds={"train_model": 2.5},
    reused=True,
)
_SETUP = {
    "dataset": "digits",
    "method": "lwf",
    "head": "cosine",
    "exemplars": "herding",
    "adjust_exemplars": False,
    "budget": "per_class_4",
    "discard": "random",
    "weight_transfer": "none",
    "balanced_finetune": None,
    "distillation": True,
    "seed": 3,
    "order_seed": 1993,
    "primary_classifier": "cnn",
}


def _summarised() -> Results:
    return results.summarise([_PHASE_0, _PHASE_1], phase_sizes=(2, 1, 1), class_order=[2, 0, 3, 1], **_SETUP)


def _content() -> dict[str, Any]:
    content = json.loads(results.to_text(_summarised()))
    del content["checksum"]  # what is changed below would not fit it any more
    return content


def test_average_and_forgetting_sum_up_the_phases():
    found = _summarised()
    assert found.average_accuracy == {"cnn": 80.0, "nme": 77.5}  # (90 + 70) / 2, (80 + 75) / 2
    assert found.forgetting == {"cnn": 30.0, "nme": -5.0}  # 90 - 60, 80 - 85
    assert (found.num_phases, found.is_complete) == (2, False)


def test_keys_stand_in_the_order_that_users_know():
    assert list(_content()) == [
        "schema_version",
        "package_version",
        "dataset",
        "method",
        "head",
        "exemplars",
        "adjust_exemplars",
        "budget",
        "discard",
        "weight_transfer",
        "balanced_finetune",
        "distillation",
        "seed",
        "order_seed",
        "num_phases",
        "phase_sizes",
        "class_order",
        "primary_classifier",
        "phases",
        "average_accuracy",
        "forgetting",
    ]
    assert list(_content()["phases"][0]) == [
        "phase",
        "num_classes",
        "accuracy",
        "initial_classes_accuracy",
        "group_accuracy",
        "exemplars_per_class",
        "probe",
        "seconds",
        "reused",
        "num_exemplars",
        "bytes_per_class",
        "memory_bytes",
        "statistics_bytes",
        "movement",
        "notes",
    ]
    assert _content()["schema_version"] == 2


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results.to_text(_summarised()))
    assert results.read(str(path)) == _summarised()
    path.write_text(results.phase_to_text(_PHASE_1))
    assert results.read_phase(str(path)) == _PHASE_1


def test_changed_figure_is_noticed(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(results.to_text(_summarised()).replace("77.5", "87.5"))
    with pytest.raises(checks.UsageError, match="is damaged: its checksum is another"):
        results.read(str(path))


def test_phase_of_a_version_that_counted_no_bytes_is_read(tmp_path):
    content = dataclasses.asdict(dataclasses.replace(_PHASE_0, num_exemplars=8, bytes_per_class=9, memory_bytes=18))
    for name in ("num_exemplars", "bytes_per_class", "memory_bytes"):
        (tmp_path / "metrics.json").write_text(json.dumps({**content, name: -1}))
        with pytest.raises(checks.UsageError, match=rf"'{name}' is -1"):
            results.read_phase(str(tmp_path / "metrics.json"))
    for name in ("num_exemplars", "bytes_per_class", "memory_bytes"):
        del content[name]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert results.read_phase(str(tmp_path / "metrics.json")) == _PHASE_0


def test_phase_of_a_version_that_did_not_look_at_movement_is_read(tmp_path):
    moved = {"learned": {"mean": 0.5, "largest": 12.0, "unmoved": 35.0}}
    written = dataclasses.replace(_PHASE_0, movement=moved, notes=("a stage diverged",))
    (tmp_path / "metrics.json").write_text(results.phase_to_text(written))
    assert results.read_phase(str(tmp_path / "metrics.json")) == written
    content = dataclasses.asdict(written)
    (tmp_path / "metrics.json").write_text(json.dumps({**content, "movement": {"learned": {"mean": -1.0}}}))
    with pytest.raises(checks.UsageError, match=r"'movement' of 'learned' has the mean -1\.0"):
        results.read_phase(str(tmp_path / "metrics.json"))
    del content["movement"], content["notes"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert results.read_phase(str(tmp_path / "metrics.json")) == _PHASE_0


def test_phase_of_a_version_that_shared_no_phases_is_read(tmp_path):
    content = dataclasses.asdict(_PHASE_0)
    del content["reused"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert results.read_phase(str(tmp_path / "metrics.json")) == _PHASE_0


def _changed(*path: Any, to: Any) -> str:
    """The file with another value at a path of keys."""
    content = copy.deepcopy(_content())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(content)


def _without(*path: Any) -> str:
    content = _content()
    place = content
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "it holds a list, not an object"),
        ("[" * 100_000, "nested too deeply"),
        (_changed("seed", to=0).replace('"seed": 0', f'"seed": {"9" * 5000}'), "a number of too many digits"),
        (_changed("seed", to=10**300), "'seed' is too large a number"),
        (_without("schema_version"), "has schema_version None: expected 2"),
        (_changed("schema_version", to=1), "has schema_version 1: expected 2"),
        (_changed("schema_version", to=3), "has schema_version 3: expected 2"),
        (_changed("schema_version", to="2"), "has schema_version '2': expected 2"),
        (_changed("schema_version", to=[[0] * 1000]), "has schema_version a list: expected 2"),
        (_without("distillation"), "it has no 'distillation'"),
        (_without("phases", 1, "accuracy"), "it has no 'phases[1].accuracy'"),
        (_changed("phases", 1, "seconds", to={"a\x1b": 1.0}), "a name with characters that cannot be printed"),
        (_changed("seed", to="0"), "'seed' is '0', not of type int"),
        (_changed("seed", to=True), "'seed' is True, not of type int"),
        (_changed("seed", to=1.0), "'seed' is 1.0, not of type int"),
        (_changed("dataset", to=["x"] * 1000), "'dataset' is a list, not of type str"),
        (_changed("dataset", to=None), "'dataset' is None, not of type str"),
        (_changed("balanced_finetune", to="no"), "'balanced_finetune' is 'no', not of type bool or null"),
        (_changed("phase_sizes", to=5), "'phase_sizes' is 5, not a list"),
        (_changed("phase_sizes", to=[2, "1", 1]), "'phase_sizes[1]' is '1', not of type int"),
        (_changed("phase_sizes", to=[2, 2]), "'phase_sizes' has 2 entries, and 'num_phases' is 2"),
        (_changed("phase_sizes", to=[4, 0, 0]), "a phase without classes"),
        (_changed("class_order", to=[1, 2, 3, 3]), "expected 4 different ones"),
        (_changed("num_phases", to=0), "it has 2 phases, and num_phases = 0"),
        (_changed("phases", to=[]), "it has no phases"),
        (_changed("phases", 1, to=None), "phases[1] holds a NoneType, not an object"),
        (_changed("phases", 0, "phase", to=1), "'phases[0].group_accuracy' has 1 figures of 'cnn'"),
        (_changed("phases", 1, "num_classes", to=4), "'phases[1].num_classes' is 4"),
        (_changed("phases", 1, "accuracy", to={"cnn": 1.0}), "have different classifiers"),
        (_changed("phases", 1, "accuracy", "cnn", to=101), "'phases[1].accuracy' has 101.0: no percentage"),
        (_changed("phases", 1, "accuracy", "cnn", to=-1), "no percentage"),
        (_changed("phases", 1, "accuracy", "cnn", to="high"), "'phases[1].accuracy.cnn' is 'high', not of type float"),
        (_changed("phases", 1, "accuracy", "cnn", to=float("nan")), "which is not finite"),
        (_changed("phases", 1, "group_accuracy", "cnn", to=[1.0]), "'phases[1].group_accuracy' has 1 figures of 'cnn'"),
        (_changed("phases", 1, "seconds", "train_model", to=-1), "'phases[1].seconds' of 'train_model' is -1.0"),
        (_changed("phases", 1, "probe", to={"x": float("inf")}), "'phases[1].probe.x' is inf, which is not finite"),
        (_changed("average_accuracy", "cnn", to=1e9), "'average_accuracy' has 1000000000.0: no percentage"),
        (_changed("forgetting", to={}), "'forgetting' has other classifiers"),
        (_changed("forgetting", "cnn", to=-200), "no difference of percentages"),
        (_changed("primary_classifier", to="svm"), "no figures of the classifier 'svm'"),
        (_changed("primary_classifier", to="\x1b[2J"), "'\\x1b[2J'"),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(checks.UsageError) as raised:
        results.read(str(path))
    shown = str(raised.value)
    assert message in shown
    assert shown.startswith(str(path))
    assert shown.isprintable()
    assert len(shown) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file or directory"),
        (os.mkdir, "a folder is there"),
        (os.mkfifo, "it is a pipe or a device"),
        (lambda path: os.symlink("/dev/zero", path), "it is a pipe or a device"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "it is not text"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40), "more than 67,108,864 bytes"),
    ],
    ids=["nothing", "folder", "pipe", "device", "bytes", "huge"],
)
def test_what_is_no_plain_file_is_refused(tmp_path, make, message):
    path = tmp_path / "results.json"
    make(path)
    with pytest.raises(checks.UsageError, match=message):
        results.read(str(path))


def test_results_are_read_without_tensorflow():
    script = "import sys, mnemonics_tf.results; print(*{'tensorflow', 'scipy', 'gin'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == ("\n", "")
