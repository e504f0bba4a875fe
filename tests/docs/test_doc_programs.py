"""Programs in README and the tutorials run, or are taken, as they stand."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT
from doc_pages import blocks

sys.path.insert(0, str(ROOT / "launch"))

from sweeping.grid import read_grid


@pytest.mark.heavy
def test_python_of_readme_learns_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(ROOT / "README.md", "python")
    names: dict = {}
    exec(compile(program, "README.md", "exec"), names)
    learner, images, labels = (names[name] for name in ("learner", "images", "labels"))
    assert learner.class_names == tuple(str(digit) for digit in range(10))
    # On what it was taught; chance is 10 %.
    assert learner.evaluate(images, labels).accuracy > 90
    assert (tmp_path / "digits/serving/saved_model.pb").is_file()
    assert "exemplars of 10 classes" in capsys.readouterr().out


def test_grid_of_the_tutorial_has_the_runs_that_it_says(tmp_path):
    (text,) = blocks(ROOT / "docs/tutorials/compare-methods.md", "gin")
    (tmp_path / "compare.gin").write_text(text)
    names = [run.name for run in read_grid(str(tmp_path / "compare.gin")).runs()]
    kinds = [
        (method, memory, seed) for method in ("icarl", "lucir") for memory in ("without", "ours") for seed in range(3)
    ]
    assert sorted(names) == sorted(f"{method}-{memory}-n5-seed{seed}" for method, memory, seed in kinds)
