"""What phases keep to be looked at."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation.classifiers import Predictions
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.codecs import codec_of
from mnemonics_tf.memory.exemplar_file import read_exemplars
from mnemonics_tf.run import observations
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.journal import RunJournal
from mnemonics_tf.system.snapshots import Snapshots

_CLASSES = ClassTable((30, 10, 20), ("c", "a", "b"), (2, 1))


def _images(count):
    # Smooth, so that a lossy codec changes little.
    ramp = np.linspace(0, 200, 16)[:, None, None] * np.ones((16, 16, 3)) / 2
    return np.stack([ramp + 10 * place for place in range(count)]).astype(np.uint8)


def test_confusions_are_counts_by_class_id(tmp_path):
    labels, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0])
    observations.save_confusion(str(tmp_path), Predictions(labels, {"cnn": predicted, "nme": labels}), _CLASSES)
    with np.load(tmp_path / "confusion.npz", allow_pickle=False) as arrays:
        assert arrays["class_ids"].tolist() == [30, 10, 20]
        assert arrays["cnn"].tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
        assert arrays["nme"].tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 2]]


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("codec", "furthest"), [("raw", 0), ("webp", 8)])
def test_starting_images_are_those_of_new_classes_as_they_would_have_been_kept(tmp_path, codec, furthest, in_file):
    images, labels = _images(4), np.array([1, 1, 2, 2])
    kept = StoredImages.of_array(images) if in_file else images
    slots = observations.few_of_each_class(LabelledImages(kept, labels))
    made = codec_of(1, False, codec, 90)
    observations.save_starting_images(str(tmp_path), slots, _CLASSES, made)
    read = read_exemplars(tmp_path / "starting_images.npz")
    assert read.labels.tolist() == [10, 10, 20, 20]
    assert np.abs(read.images.astype(int) - images).max() <= furthest


def test_no_more_is_shown_of_exemplars_than_is_kept_of_what_they_began_as(monkeypatch, tmp_path):
    shown = []
    board = SimpleNamespace(exemplars_changed=lambda which, *exemplars: shown.append((which, *exemplars)))
    monkeypatch.setattr(observations, "_MAX_BYTES", 16 * 16 * 3)
    labels = np.array([0, 0, 1, 1])
    before, after = (LabelledImages(StoredImages.of_array(each), labels) for each in (_images(4), _images(4)[::-1]))
    for writes in (True, False):
        journal = RunJournal(
            RunDirectory(str(tmp_path)), board, codec_of(1, False), None, False, writes, print, Snapshots()
        )
        journal.exemplars_changed("old", before, after)
    ((which, *exemplars),) = shown
    assert which == "old"
    for found, expected in zip(exemplars, (_images(4)[[0, 2]], _images(4)[[3, 1]]), strict=True):
        np.testing.assert_array_equal(found.array, expected)


def test_of_large_images_a_few_of_each_class_are_kept(monkeypatch):
    labels = np.array([0, 0, 0, 2, 2, 2])
    # Room for five images of two classes: two of each.
    monkeypatch.setattr(observations, "_MAX_BYTES", 5 * 16 * 16 * 3)
    few = observations.few_of_each_class(LabelledImages(_images(6), labels))
    assert few.labels.tolist() == [0, 0, 2, 2]
    np.testing.assert_array_equal(few.array, _images(6)[[0, 1, 3, 4]])
