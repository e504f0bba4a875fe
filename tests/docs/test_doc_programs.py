"""Programs in README run as they stand."""

from __future__ import annotations

import pytest
from conftest import ROOT
from doc_pages import blocks


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
