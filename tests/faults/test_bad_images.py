"""Pictures that are broken, in a folder that a run reads and among the files that `predict` is asked of.

`pytest -m heavy tests/faults` tries ten times as many as the suite does.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from bad_pictures import PICTURES, damaged_pictures
from drawing import drawn

from mnemonics_tf import predict
from mnemonics_tf.data import decoding
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.folder import Folder
from mnemonics_tf.data.stream import ClassStream

_SIDE = 8


def _written(folder: Path, pictures: list[bytes]) -> list[str]:
    """The files of the pictures, among images to train on, of two classes with a good one each."""
    for split in ("train", "test"):
        for name in ("good", "odd"):
            (folder / split / name).mkdir(parents=True)
            (folder / split / name / "whole.png").write_bytes(PICTURES[1])
    paths = [folder / "train" / "odd" / f"{number:03d}.png" for number in range(len(pictures))]
    for path, content in zip(paths, pictures, strict=True):
        path.write_bytes(content)
    return [str(path) for path in paths]


def _read_by_a_run(folder: Path) -> tuple[dict[str, str], int]:
    """The images that a run leaves out, with the reason, and how many others it can read."""
    stream = ClassStream(Folder(str(folder), _SIDE, in_memory=False).load(), Protocol(num_phases=0))
    arrival = stream.arrival(0, False)
    squares = [decoding.in_memory(part).array for part in (arrival.train, arrival.test)]
    for images in squares:
        assert (images.shape[1:], images.dtype) == ((_SIDE, _SIDE, 3), np.uint8)
    return stream.skipped, sum(map(len, squares))


def _check(folder: Path, pictures: list[bytes], monkeypatch, capsys) -> None:
    paths = _written(folder, pictures)
    before = sorted(os.walk(folder))
    skipped, num_read = _read_by_a_run(folder)
    assert num_read == 4 + len(paths) - len(skipped)
    assert all(reason and reason.isprintable() and len(reason) < 300 for reason in skipped.values())
    capsys.readouterr()

    def asked(images: np.ndarray) -> np.ndarray:
        assert (images.shape[1:], images.dtype) == ((_SIDE, _SIDE, 3), np.uint8)
        return np.full((len(images), 2), 0.5)

    # The model is none of the question: what comes before it and after it is the command's own.
    monkeypatch.setattr(predict, "model_of", lambda path: ("model", path))
    monkeypatch.setattr(predict, "_exported", lambda path: (["good", "odd"], (_SIDE, None), asked))
    with flagsaver.flagsaver():
        flags.FLAGS(["predict"])
        code = predict.main(["predict", "model", *paths])
    told = capsys.readouterr()
    refused = [line.removeprefix("mnemonics_tf: ").partition(" cannot be read: ")[0] for line in told.err.splitlines()]
    assert sorted(refused) == sorted(skipped)
    answered = [line.partition(": ")[0] for line in told.out.splitlines()]
    assert answered == [path for path in paths if path not in skipped]
    assert code == (2 if skipped else 0)
    assert sorted(os.walk(folder)) == before
    assert 0 < len(skipped) < len(paths)


def test_damaged_pictures_are_read_or_named(tmp_path, monkeypatch, capsys):
    _check(tmp_path / "images", drawn(damaged_pictures(), 60), monkeypatch, capsys)


@pytest.mark.heavy
def test_many_damaged_pictures_are_read_or_named(tmp_path, monkeypatch, capsys):
    _check(tmp_path / "images", drawn(damaged_pictures(), 600), monkeypatch, capsys)
