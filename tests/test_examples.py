"""The examples run, as they stand, and are as short as they are said to be."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys

import pytest
from conftest import ROOT

_EXAMPLES = sorted((ROOT / "examples").rglob("*.py")) + sorted((ROOT / "examples").rglob("*.gin"))


@pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.name)
def test_example_is_short(path):
    assert path.read_text(encoding="utf-8").count("\n") < 40


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "expected"),
    [("own_folder", "sand/0.png shows sand"), ("own_backbone", "should be [0, 1, 2, 3, 4]")],
)
def test_example_in_python_runs(name, expected, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"{name}.py"])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert expected in out
    reached = [float(each) for each in re.findall(r"([\d.]+) % of", out)]
    assert len(reached) == 2
    assert min(reached) > 80


@pytest.mark.heavy
def test_own_method_and_own_data_run_from_any_folder(tmp_path):
    examples = ROOT / "examples"
    short = ("ModelLevel.epochs = 2", "ModelLevel.milestones = ()", "Probe.enabled = False", "ResNet.blocks = (1,)",
             "ResNet.widths = (8,)", "stripes.images_per_class = 8", "ExemplarMemory.per_class = 4")  # fmt: skip
    arguments = [
        f"--gin_file={examples / 'own_method/weighted_replay.gin'}",
        f"--gin_file={examples / 'own_data/stripes.gin'}",
        "--gin_param=Experiment.method = @weighted_replay",
        *(f"--gin_param={binding}" for binding in short),
        "--output_dir=run",
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "mnemonics_tf.main", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["method"], results["dataset"]) == ("weighted_replay", "stripes")
    config = (tmp_path / "run" / "config.gin").read_text()
    assert {"import stripes", "import weighted_replay"} <= set(config.splitlines())
    assert "weighted_replay.old_weight = 3.0" in config
