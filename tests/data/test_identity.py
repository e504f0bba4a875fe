"""The same images are known again wherever they lie; others are not."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from image_files import SIZE, in_both, store

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.folder import folder
from mnemonics_tf.data.identity import class_marks
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.data.types import Dataset, LabelledImages

_FILES = {f"{name}/{number}.png": number for name in ("ant", "bee", "cat", "dog") for number in (1, 2, 3)}
_PROTOCOL = Protocol(classes=(("bee", "ant"), ("dog", "cat")))


def _stream(path) -> ClassStream:
    return ClassStream(folder(str(path), SIZE), _PROTOCOL)


@pytest.mark.parametrize("split", [False, True])
def test_folder_that_has_moved_is_the_same(split, tmp_path):
    store(tmp_path / "job1/data", in_both(_FILES) if split else _FILES)
    noted = _stream(tmp_path / "job1/data").identity()
    assert [mark.partition(" ")[0] for mark in noted["train"]] == ["3" if split else "2"] * 4
    shutil.move(tmp_path / "job1", tmp_path / "elsewhere")
    _stream(tmp_path / "elsewhere/data").check_same_images(noted, 2)


@pytest.mark.parametrize("change", ["rename", "remove", "add", "replace", "exchange"])
def test_other_images_of_a_finished_phase_are_refused_and_of_later_ones_not(change, tmp_path):
    root = tmp_path / "data"
    store(root, in_both(_FILES))
    noted = _stream(root).identity()
    for name, refused in (("dog", False), ("ant", True)):
        here = root / "test" / name
        if change == "rename":
            (here / "1.png").rename(here / "4.png")
        elif change == "remove":
            (here / "1.png").unlink()
        elif change == "add":
            shutil.copy(here / "1.png", here / "0.png")
        elif change == "replace":
            (here / "1.png").write_bytes(b"other")
        else:
            (root / "test/cat/9.png").write_bytes(b"a")
            (here / "1.png").rename(here / "9.png")
        stream = _stream(root)
        if refused:
            with pytest.raises(UsageError, match=r"test images of 'ant' are not those with which the run began"):
                stream.check_same_images(noted, 1)
        else:
            stream.check_same_images(noted, 1)
            assert all("2" in classes for classes in stream.replaced_images(noted).values())  # the index of `dog`
            assert list(stream.replaced_images(noted)) == ["test"]


def test_training_images_of_phase_0_count_before_it_is_finished(tmp_path):
    store(tmp_path, in_both(_FILES))
    noted = _stream(tmp_path).identity()
    (tmp_path / "test/bee/1.png").unlink()
    _stream(tmp_path).check_same_images(noted, 0)
    (tmp_path / "train/bee/1.png").unlink()  # the statistics of pixels are of it, too
    with pytest.raises(UsageError, match="training images of 'bee'"):
        _stream(tmp_path).check_same_images(noted, 0)


@pytest.mark.parametrize("noted", [{"train": [], "test": []}, {"train": "1 2"}, []], ids=str)
def test_damaged_notes_are_refused_and_none_is_no_damage(noted, tmp_path):
    store(tmp_path, in_both(_FILES))
    with pytest.raises(UsageError, match="are not those"):
        _stream(tmp_path).check_same_images(noted, 1)
    _stream(tmp_path).check_same_images({}, 2)  # of a run that noted nothing


def test_arrays_are_told_by_their_pixels():
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 1), np.uint8)
    labels = np.array([1, 0, 1, 0, 2, 2])
    marks = class_marks(LabelledImages(images, labels), 3)
    changed = images.copy()
    changed[2, 0, 0, 0] ^= 1
    others = class_marks(LabelledImages(changed, labels), 3)
    assert [mark == other for mark, other in zip(marks, others, strict=True)] == [True, False, True]


def _dataset(images: np.ndarray, labels: np.ndarray) -> Dataset:
    part = LabelledImages(images, labels)
    return Dataset("birds", part, part, ("hen", "owl"), horizontal_flip=True, crop_padding=0)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64, bool])
def test_arrays_of_other_types_are_refused(dtype):
    dataset = _dataset(np.zeros((2, 4, 4, 3), dtype), np.arange(2))
    with pytest.raises(UsageError, match=r"training images are .*Expected uint8 on the scale 0\.\.255"):
        ClassStream(dataset, Protocol(num_phases=0))


@pytest.mark.parametrize(
    ("labels", "message"), [([0, -1], "label -1"), ([0, 2], "label 2"), ([0.0, 1.0], "float64"), ([0], "labels")]
)
def test_labels_that_are_no_class_are_refused(labels, message):
    dataset = _dataset(np.zeros((2, 4, 4, 3), np.uint8), np.arange(2))
    broken = dataclasses.replace(dataset, test=LabelledImages(dataset.test.images, np.array(labels)))
    with pytest.raises(UsageError, match=message):
        ClassStream(broken, Protocol(num_phases=0))
