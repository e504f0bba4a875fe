"""Which model a folder offers, and whether it is the one that was written there."""

from __future__ import annotations

import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.run import phase_marks
from mnemonics_tf.run.intact import check_model
from mnemonics_tf.run.models import model_of


@pytest.fixture
def run(tmp_path):
    """A run of two phases, whose models are no models but for their names."""
    (tmp_path / "config.gin").touch()
    for phase in range(2):
        folder = tmp_path / f"phases/{phase:03d}"
        (folder / "saved_model/variables").mkdir(parents=True)
        (folder / "saved_model/saved_model.pb").write_bytes(b"graph")
        (folder / "saved_model/variables/variables.index").write_bytes(b"numbers")
        (folder / "metrics.json").write_bytes(b"{}")
        phase_marks.write(str(folder), phase_marks.Mark({}, phase=phase))
    return tmp_path


@pytest.mark.parametrize("name", ["saved_model/saved_model.pb", "saved_model/variables/variables.index", "COMPLETE"])
def test_model_that_was_changed_is_refused(run, name):
    last = run / "phases/001"
    assert model_of(str(run)) == ("model", str(last / "saved_model"))
    path = last / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for place in (run, last / "saved_model"):
        with pytest.raises(UsageError, match=f"{name} is missing or was damaged"):
            model_of(str(place))


def test_phase_that_has_lost_its_mark_is_not_passed_over(run):
    (run / "phases/001/COMPLETE").unlink()
    with pytest.raises(UsageError, match="phases/001/COMPLETE is missing or was damaged"):
        model_of(str(run))
    (run / "phases/001").rename(run / "phases/001.partial")  # what a killed process leaves is no phase yet
    assert model_of(str(run)) == ("model", str(run / "phases/000/saved_model"))


def test_what_is_no_part_of_the_model_may_have_changed(run):
    (run / "phases/001/metrics.json").write_text("?")
    assert model_of(str(run))[0] == "model"


def test_nobody_has_noted_what_a_copy_of_a_model_was(run, tmp_path):
    copy = (run / "phases/001/saved_model").rename(tmp_path / "copy")
    (copy / "saved_model.pb").write_bytes(b"other")
    check_model(str(copy))
    assert model_of(str(copy)) == ("model", str(copy))
