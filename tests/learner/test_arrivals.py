"""What people give a learner becomes named images, by stated rules."""

from __future__ import annotations

import dataclasses
import os
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from image_files import png, store

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import ImageTraits, LabelledImages
from mnemonics_tf.learner import arrays, arrivals
from mnemonics_tf.learner.arrivals import Intake, NamedImages
from mnemonics_tf.learner.defaults import Choices, settled
from mnemonics_tf.learner.state import ClassTable

_NOTHING = Intake(ClassTable(), None, None)
_IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
_LABELS = np.array([7, 3, 3, 7, 3, 7])


def _read(*source) -> NamedImages:
    return _NOTHING.read(*source, *[None] * (3 - len(source)))[0]


def test_numbers_without_names_are_names_and_ids():
    read = _read(_IMAGES, _LABELS)
    assert (read.names, read.ids) == (("3", "7"), (3, 7))
    np.testing.assert_array_equal(read.labels, [1, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(read.images, _IMAGES)


def test_names_are_names():
    read = _read(_IMAGES, np.array([b"hen", b"owl", b"owl", b"hen", b"owl", b"hen"], object))
    assert (read.names, read.ids) == (("hen", "owl"), None)
    np.testing.assert_array_equal(read.labels, [0, 1, 1, 0, 1, 0])


def test_accents_are_stored_in_one_way():
    read = _read(_IMAGES[:3], ["Jose\u0301", "Jos\u00e9", "owl"])
    assert read.names == ("Jos\u00e9", "owl")
    np.testing.assert_array_equal(read.labels, [0, 0, 1])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (_IMAGES[..., 0], _IMAGES[..., :1]),  # no channel: one
        (_IMAGES.astype(np.int64), _IMAGES),
        (_IMAGES.astype(np.float32) / 255, _IMAGES),
        (tf.constant(_IMAGES), _IMAGES),
        (list(_IMAGES), _IMAGES),
    ],
)
def test_images_of_several_kinds_are_the_same_pixels(given, expected):
    pixels = arrays.as_pixels(given)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((1, 4, 4, 3), np.nan, np.float32), "from nan to nan"),
        (np.full((1, 4, 4, 3), 1.5), "from 1.5 to 1.5"),
        (np.full((1, 4, 4, 3), 256), "from 256 to 256: expected 0..255"),
        (np.zeros((1, 4, 4, 2), np.uint8), "one channel or three"),
        (np.zeros((0, 4), np.uint8), "have shape"),
        (np.zeros((20, 30, 4), np.uint8), "A single image is"),  # or it would be 20 grey ones
        (np.array(["a"]), "an array str"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], "cannot be made an array"),
    ],
)
def test_other_images_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        arrays.as_pixels(given)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("keys", [False, True])
def test_dataset_of_pairs_is_read_whole(batched, keys):
    dataset = tf.data.Dataset.from_tensor_slices((_IMAGES, _LABELS))
    dataset = dataset.map(lambda image, label: {"image": image, "label": label, "id": 0}) if keys else dataset
    read = _read(dataset.batch(4) if batched else dataset)
    np.testing.assert_array_equal(read.images, _IMAGES)
    assert [read.names[label] for label in read.labels] == [str(label) for label in _LABELS]


def test_dataset_of_images_that_differ_in_size_becomes_squares():
    sizes = [(4, 4), (8, 6), (4, 12)]
    dataset = tf.data.Dataset.from_generator(
        lambda: ((np.full((*size, 3), 90, np.uint8), label) for label, size in enumerate(sizes)),
        output_signature=(tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int64)),
    )
    with pytest.raises(UsageError, match=r"images \(4, 4, 3\) and \(8, 6, 3\): expected one size"):
        _read(dataset)
    read = Intake(ClassTable(), None, 4).read(dataset, None, None)[0]
    assert read.images.shape == (3, 4, 4, 3)
    assert (read.images == 90).all()


def test_dataset_is_resized_as_the_learners_files_are(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    store(tmp_path, {"photo.png": png(photo)})
    intake = Intake(ClassTable(), ImageTraits((8, 8, 3), False, 0, resized_side=10), None)
    pairs = tf.data.Dataset.from_generator(
        lambda: [(photo, 0)], output_signature=(tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int64))
    )
    expected = in_memory(LabelledImages(intake.read_images(str(tmp_path / "photo.png")), np.zeros(1))).array
    np.testing.assert_array_equal(intake.read_images(pairs), expected)
    np.testing.assert_array_equal(intake.read_labelled(pairs, ["photo"], {"photo"}).images, expected)


def test_class_names_are_a_list_and_labels_keep_their_numbers():
    images = np.zeros((4, 4, 5, 3), np.uint8)
    read = Intake(ClassTable(), None, None).read(images, [2, 0, 2, 0], ["heron", "owl", "stork"])[0]
    assert (read.names, read.ids) == (("heron", "stork"), (0, 2))
    # Keys of a dictionary would be names in an order that says nothing, as would a set.
    for names in ({"stork": 1, "heron": 0}, {"stork", "heron"}, 5, "ab"):
        with pytest.raises(UsageError, match=r"class_names = .*: expected a list of names"):
            Intake(ClassTable(), None, None).read(images, [0, 1, 0, 1], names)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (tf.data.Dataset.from_tensor_slices(_IMAGES), r"yields uint8\[4, 5, 3\]: expected \(image, label\)"),
        (tf.data.Dataset.from_tensor_slices((_LABELS, _IMAGES)), r"yields \(int64\[\], uint8\[4, 5, 3\]\)"),
        (tf.data.Dataset.from_tensor_slices({"img": _IMAGES}), r"yields \{'img': uint8\[4, 5, 3\]\}"),
        (tf.data.Dataset.from_tensor_slices((_IMAGES, _LABELS)).repeat(), "never ends"),
        (tf.data.Dataset.from_tensor_slices((_IMAGES, _LABELS)).take(0), "is empty"),
        (tf.data.Dataset.from_tensor_slices((_IMAGES, np.eye(8)[_LABELS])), "One-hot"),
    ],
)
def test_dataset_of_something_else_is_described(dataset, message):
    with pytest.raises(UsageError, match=message):
        _read(dataset)


def test_share_of_every_class_is_held_out():
    images = NamedImages(
        np.arange(23, dtype=np.uint8).reshape(-1, 1, 1, 1), np.repeat([0, 1, 2], [20, 2, 1]), ("a", "b", "c")
    )
    rest, out = arrivals.held_out(images, 0.2, seed=1)
    # 0.2 * 20; one of two; none of one.
    assert out is not None
    np.testing.assert_array_equal(np.bincount(out.labels, minlength=3), [4, 1, 0])
    assert sorted([*rest.images.ravel(), *out.images.ravel()]) == list(range(23))
    again = arrivals.held_out(images, 0.2, seed=1)[1]
    assert again is not None
    np.testing.assert_array_equal(again.images, out.images)
    assert arrivals.held_out(images, 0.0, seed=1) == (images, None)


def test_ids_are_those_of_the_data_where_they_are_free():
    known = ClassTable((0, 5), ("owl", "5"), (2,))
    images = NamedImages(_IMAGES, _LABELS, ("5", "hen", "0", "9"), (5, 6, 0, 9))
    # "5" is known; the owl has 0 already, so "0" gets the next after all of them.
    assert images.new_classes(known) == ((6, 10, 9), ("hen", "0", "9"))
    nameless = NamedImages(_IMAGES, _LABELS, ("hen", "cow"))
    assert nameless.new_classes(known) == ((6, 7), ("hen", "cow"))
    # What is dealt out takes no number from a class that owns it.
    named_before = ClassTable((0, 1), ("hen", "owl"), (2,))
    numbers = NamedImages(_IMAGES, _LABELS, tuple("012345"), tuple(range(6)))
    assert numbers.new_classes(named_before)[0] == (6, 7, 2, 3, 4, 5)


def test_floats_of_several_sizes_keep_their_brightness():
    dataset = tf.data.Dataset.from_generator(
        lambda: ((np.full((*size, 3), 0.4, np.float32), label) for label, size in enumerate([(4, 4), (8, 6)])),
        output_signature=(tf.TensorSpec([None, None, 3], tf.float32), tf.TensorSpec([], tf.int64)),
    )
    read = Intake(ClassTable(), None, 4).read(dataset, None, None)[0]
    assert set(np.asarray(read.images).flat) == {102}  # 0.4 * 255


def _picture(path: Path, value: int, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(np.full((side, side + 8, 3), value, np.uint8)).numpy())


def test_folder_is_read_at_a_size_that_suits_it(tmp_path):
    for name, value in (("hen", 10), ("owl", 200)):
        for number in range(3):
            _picture(tmp_path / "birds" / name / f"{number}.png", value + number)
    train, test = _NOTHING.read(os.fspath(tmp_path / "birds"), None, None)
    assert test is None
    assert train.names == ("hen", "owl")
    assert train.images.shape == (6, 32, 32, 3)  # 40 pixels: 32 fits, 64 does not
    assert sorted(image.flat[0] for image in train.images) == [10, 11, 12, 200, 201, 202]
    with pytest.raises(UsageError, match="Leave them out"):
        _NOTHING.read(tmp_path / "birds", _LABELS, None)
    with pytest.raises(UsageError, match="Read them yourself"):
        Intake(ClassTable(), ImageTraits((8, 8, 1), False, 1), None).read(tmp_path / "birds", None, None)


def test_test_images_of_a_folder_are_for_measuring(tmp_path):
    for split, value in (("train", 10), ("test", 20)):
        for name in ("hen", "owl"):
            _picture(tmp_path / split / name / "0.png", value)
    train, test = _NOTHING.read(tmp_path, None, None)
    assert test is not None
    assert (set(train.images.flat), set(test.images.flat)) == ({10}, {20})
    measured = _NOTHING.read_labelled(tmp_path, None, {"hen", "owl"})
    assert set(measured.images.flat) == {20}


def test_image_files_are_read_and_broken_ones_named(tmp_path):
    _picture(tmp_path / "a.png", 7)
    (tmp_path / "b.png").write_bytes(b"no picture")
    intake = Intake(ClassTable(), ImageTraits((16, 16, 3), True, 2), None)
    read = intake.read_images([tmp_path / "a.png"])
    assert read.shape == (1, 16, 16, 3)
    assert (np.asarray(read) == 7).all()
    with pytest.raises(UsageError, match=r"b\.png \("):
        intake.read_images([tmp_path / "a.png", tmp_path / "b.png"])


@pytest.mark.parametrize("at_once", [1, 100])  # images that memory holds at a time
def test_statistics_are_those_of_the_pixels(monkeypatch, at_once):
    monkeypatch.setattr(arrivals, "_AT_ONCE", at_once)
    found = arrivals.statistics(NamedImages(_IMAGES, _LABELS, ("a",)))
    np.testing.assert_allclose(found.mean, (_IMAGES / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.std, (_IMAGES / 255).std(axis=(0, 1, 2)), rtol=1e-6)


def test_one_channel_is_remembered_where_the_network_takes_three():
    def read(images):
        return dataclasses.replace(_NOTHING, backbone=types.SimpleNamespace(image_size=None, num_channels=3)).read(
            images, _LABELS, None
        )[0]

    grey, coloured = read(_IMAGES[..., :1]), read(_IMAGES)
    assert grey.images.shape == coloured.images.shape == _IMAGES.shape
    assert (grey.is_grey, coloured.is_grey) == (True, False)
    choices = Choices.made("lucir", None, None, None, None, 0, {})
    for named, mirrored in ((grey, False), (coloured, True)):
        assert settled(choices, named.images.shape[1:], 6, named.is_grey)[1].horizontal_flip is mirrored
    told = Choices.made("lucir", None, None, None, True, 0, {})
    assert settled(told, grey.images.shape[1:], 6, True)[1].horizontal_flip


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], "There is no image"), ("{folder}", "is a folder: expected image files"), ("nowhere.png", "There is no file")],
)
def test_what_are_no_image_files_is_said(tmp_path, given, expected):
    with pytest.raises(UsageError, match=expected):
        _NOTHING.read_images(given.format(folder=tmp_path) if isinstance(given, str) else given)


@pytest.mark.parametrize("name", ["owl ", "ow\nl"])
def test_folders_have_names_that_arrays_may_have(tmp_path, name):
    store(tmp_path, {f"{folder}/a.png": png(_IMAGES[0]) for folder in (name, "hen")})
    with pytest.raises(UsageError, match="is empty, or has blanks at its ends or control characters"):
        _read(tmp_path)


def test_errors_of_folders_speak_of_what_was_given(tmp_path):
    with pytest.raises(UsageError) as raised:
        _read(tmp_path / "nowhere")
    assert str(raised.value).startswith("images = ")
    assert "folder.path" not in str(raised.value)
