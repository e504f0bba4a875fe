"""Kinds of file that the campaign damages, and that every damage is one."""

from __future__ import annotations

import random

import pytest
from damages import DAMAGES
from kinds import Damager, files_by_kind

_FILES = {
    "results.json": b'{"phases": [1, 2]}',
    "data.json": b'{"class_names": ["hen"]}',
    "phases/000/exemplars.npz": b"first",
    "phases/001/exemplars.npz": b"second",
    "phases/001.partial/exemplars.npz": b"half",
    "phases/002.snapshots/train_model_steps.npz": b"steps",
    "tensorboard/events": b"curves",
    ".lock": b"",
}


@pytest.fixture
def folder(tmp_path):
    for name, content in _FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_of_phases_are_of_one_kind_and_those_under_way_of_others(folder):
    assert files_by_kind(str(folder)) == {
        "a phase that was being written": ["phases/001.partial/exemplars.npz"],
        "data.json": ["data.json"],
        "exemplars.npz": ["phases/000/exemplars.npz", "phases/001/exemplars.npz"],
        "results.json": ["results.json"],
        "snapshots: trainings": ["phases/002.snapshots/train_model_steps.npz"],
        "tensorboard/: pictures and curves": ["tensorboard/events"],
    }


@pytest.mark.parametrize("name", ["results.json", "phases/001/exemplars.npz"])
def test_each_way_in_turn_changes_the_file_and_no_other(folder, name):
    damager, ways = Damager(random.Random(0)), set()
    for _ in range(20):
        ways.add(damager.damage(str(folder), name, ["data.json"]))
        found = {each: (folder / each).read_bytes() if (folder / each).exists() else None for each in _FILES}
        assert found.pop(name) != _FILES[name]
        assert found == {each: content for each, content in _FILES.items() if each != name}
        (folder / name).write_bytes(_FILES[name])
    # An archive has no value that could be of another type.
    assert ways == {way.__name__ for way in DAMAGES} - (set() if name.endswith(".json") else {"retype"})
