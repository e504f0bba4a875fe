"""Snapshots of a phase on disk: plain, whole, and of this run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mnemonics_tf.system.snapshot_files import PhaseSnapshots

_STATE = {"pixels": np.arange(400.0, dtype=np.float32), "step": np.array(2), "identity": np.array('{"steps": 4}')}


def _snapshots(tmp_path, owner="run", writes=True, **others) -> PhaseSnapshots:
    return PhaseSnapshots(str(tmp_path / "000.snapshots"), writes, lambda: owner, **others)


@pytest.fixture
def saved(tmp_path):
    """A file, and what it holds."""
    _snapshots(tmp_path).save("learn", _STATE)
    return tmp_path / "000.snapshots/learn.npz"


def _set_aside(tmp_path, capsys) -> str:
    """What is said of a snapshot that is not used; it is out of the way, and still there."""
    assert _snapshots(tmp_path).load("learn") is None
    shown = capsys.readouterr().err
    assert "and learn starts anew" in shown
    assert shown.count("\n") == 1
    assert [path.name for path in (tmp_path / "000.snapshots").iterdir()] == ["learn.npz.aside"]
    assert _snapshots(tmp_path).load("learn") is None
    assert capsys.readouterr().err == ""
    return shown


def test_state_comes_back_as_it_was(tmp_path, saved):
    loaded = _snapshots(tmp_path, writes=False).load("learn")  # workers that write nothing read all the same
    assert set(loaded) == set(_STATE)
    for name, value in _STATE.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype
    assert len(_snapshots(tmp_path)) == 1
    _snapshots(tmp_path).remove("learn")
    assert _snapshots(tmp_path).load("learn") is None


def test_worker_that_does_not_write_leaves_the_disk_alone(tmp_path):
    others = _snapshots(tmp_path, writes=False)
    others.save("learn", _STATE)
    others.remove("learn")
    assert list(tmp_path.iterdir()) == []


def test_every_changed_byte_is_noticed_or_changes_nothing(tmp_path, saved, capsys):
    content, generator = saved.read_bytes(), np.random.default_rng(0)
    for place in generator.choice(len(content), 60, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.integers(8)
        saved.write_bytes(damaged)
        loaded = _snapshots(tmp_path).load("learn")
        if loaded is not None:
            assert set(loaded) >= set(_STATE)
            assert all(np.array_equal(loaded[name], value) for name, value in _STATE.items())
    shutil.rmtree(saved.parent)


@pytest.mark.parametrize("end", [0, 1, 500, -1, -300])
def test_file_that_was_cut_off_is_set_aside(tmp_path, saved, capsys, end):
    saved.write_bytes(saved.read_bytes()[:end])
    assert "it is damaged" in _set_aside(tmp_path, capsys)


def test_file_of_another_run_or_stage_is_set_aside(tmp_path, saved, capsys):
    _snapshots(tmp_path, owner="another").save("learn", _STATE)
    assert "it is of another run, phase, stage or version" in _set_aside(tmp_path, capsys)
    _snapshots(tmp_path).save("adjust", _STATE)
    shutil.move(saved.parent / "adjust.npz", saved)
    (saved.parent / "learn.npz.aside").unlink()
    assert "it is of another run, phase, stage or version" in _set_aside(tmp_path, capsys)


def test_objects_and_compressed_arrays_are_not_read(tmp_path, saved, capsys):
    owner = {"owner": np.array("learn run"), "seconds": np.array("{}")}
    np.savez(saved, **owner, step=np.array([{}], dtype=object), allow_pickle=True)
    assert "it is damaged (ValueError)" in _set_aside(tmp_path, capsys)
    (saved.parent / "learn.npz.aside").unlink()
    np.savez_compressed(saved, **owner, step=np.zeros(10**6))
    assert "it is damaged (ValueError)" in _set_aside(tmp_path, capsys)


def test_seconds_are_noted_and_read_with_care(tmp_path):
    assert _snapshots(tmp_path).seconds() == {}
    _snapshots(tmp_path, seconds=lambda: {"train_model": 12.5}).save("train_model_steps", _STATE)
    assert _snapshots(tmp_path).seconds() == {"train_model": 12.5}
    # Those of the latest count, and what cannot be read does not.
    _snapshots(tmp_path, seconds=lambda: {"train_model": 13.0, "probe": 2.0}).save("a", _STATE)
    _snapshots(tmp_path, seconds=lambda: {"train_model": float("nan"), "probe": -99.0}).save("z", _STATE)
    (tmp_path / "000.snapshots/y.npz").write_bytes(b"no archive")
    assert _snapshots(tmp_path).seconds() == {"train_model": 13.0, "probe": 2.0}
