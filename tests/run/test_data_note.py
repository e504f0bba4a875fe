"""What is noted of a run's data, and what may change of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.run import data_note, phase_marks
from mnemonics_tf.run.directory import RunDirectory

_CLASSES = {"class_names": ["hen", "owl", "żółw"], "class_order": [2, 0, 1], "phase_sizes": [2, 1]}


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """An opened run without phases."""
    directory = RunDirectory(str(tmp_path / "run"))
    directory.open("Experiment.seed = 1\n")
    return directory


def _write_phase(run: RunDirectory, phase: int) -> None:
    with run.writing_phase(phase) as folder:
        Path(folder, "metrics.json").write_text('{"accuracy": 71.5}')


def _files(run: RunDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(run.path).rglob("*") if path.is_file()}


def test_note_on_the_data_is_read_as_it_was_written(run):
    assert data_note.read(run, _CLASSES) is None
    noted = {**_CLASSES, "pixel_range": {"mean": [0.1, 1 / 3], "std": [0.25, 1e-9]}}
    data_note.write(run, noted)
    assert data_note.read(run, _CLASSES) == noted
    assert "żółw" in Path(run.path, "data.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"class_names": ["hen", "kea", "owl", "żółw"]}, "class_names"),
        ({"class_order": [0, 1, 2]}, "class_order"),
        ({"class_names": ["hen"], "phase_sizes": [1]}, "class_names, phase_sizes"),
    ],
    ids=str,
)
def test_run_is_not_continued_with_other_classes(run, changes, named):
    data_note.write(run, _CLASSES)
    before = _files(run)
    with pytest.raises(UsageError, match=rf"{run.path}: the run began with other data: {named} of .*data\.json differ"):
        data_note.read(run, {**_CLASSES, **changes})
    assert _files(run) == before


@pytest.mark.parametrize("content", [b"", b'{"class_na', b"[]", b"null", b"7", b"{}", b"\xff\xfe"])
def test_damaged_note_on_the_data_is_named(run, content):
    path = Path(run.path, "data.json")
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is damaged") as raised:
        data_note.read(run, _CLASSES)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_changed_statistics_of_pixels_are_noticed(run):
    # Nothing else would tell: the run would go on with other inputs.
    data_note.write(run, {**_CLASSES, "pixel_range": {"mean": [0.1], "std": [0.25]}})
    path = Path(run.path, "data.json")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("0.25", "0.26"), encoding="utf-8")
    with pytest.raises(UsageError, match="its checksum is another"):
        data_note.read(run, _CLASSES)
    # Files of earlier versions have no checksum.
    without = {name: value for name, value in json.loads(text).items() if name != "checksum"}
    path.write_text(json.dumps(without), encoding="utf-8")
    assert data_note.read(run, _CLASSES) == without


def test_images_that_were_exchanged_belong_to_the_phases_that_learned_them(run):
    noted = {"train": ["2 a", "2 b", "2 c"], "test": ["1 a", "1 b", "1 c"]}
    _write_phase(run, 0)
    assert data_note.images_as_learned(run, noted) == noted
    run.snapshots(1, True, dict).save("learn", {"step": np.zeros(1)})
    assert run.snapshots(1, True, dict).load("learn") is not None
    run.note_replaced({"test": {"1": "1 x"}}, (1, 2))
    assert run.snapshots(1, True, dict).load("learn") is None  # half of it had learned others
    _write_phase(run, 1)
    again = RunDirectory(run.path)
    assert data_note.images_as_learned(again, noted) == {**noted, "test": ["1 a", "1 x", "1 c"]}
    assert data_note.images_as_learned(again, {"train": "damaged"}) == {"train": "damaged"}


def test_images_of_later_phases_may_be_exchanged_while_a_phase_is_under_way(run):
    sizes, exchanged = (1, 1, 1), {"train": {"2": "2 y"}}
    run.note_replaced(exchanged, sizes)  # before phase 0 was learned
    _write_phase(run, 0)
    run.snapshots(1, True, dict).save("learn", {"step": np.zeros(1)})
    assert phase_marks.read(run.phase_dir(0)).images is None
    for later in ({}, exchanged, {"train": {"2": "2 z"}, "test": {"2": "1 z"}}):
        run.note_replaced(later, sizes)
        assert run.snapshots(1, True, dict).load("learn") is not None
    _write_phase(run, 1)
    _write_phase(run, 2)
    marks = [phase_marks.read(run.phase_dir(phase)).images for phase in range(3)]
    assert marks == [None, None, {"train": {"2": "2 z"}, "test": {"2": "1 z"}}]


def test_snapshots_of_a_shared_phase_0_are_those_of_one_code(run):
    run.snapshots(0, True, dict, "one").save("learn", {"step": np.zeros(1)})
    assert run.snapshots(0, True, dict, "one").load("learn") is not None
    assert run.snapshots(0, True, dict, "another").load("learn") is None
