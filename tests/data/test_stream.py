"""The stream of phases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from image_files import png

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pixels import histogram_of
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.stream import ClassStream, statistics_of
from mnemonics_tf.data.types import Dataset, LabelledImages, PixelRange

_NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
_PROTOCOL = Protocol(num_phases=3, initial_share=0.5, order_seed=1993)


def _split(per_class: list[int], seed: int) -> LabelledImages:
    """`per_class[k]` images of class k, shuffled; the first pixel of each image is its class id."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(per_class)), per_class))
    images = generator.integers(0, 256, (len(labels), 2, 3, 2)).astype(np.uint8)
    images[:, 0, 0, 0] = labels
    return LabelledImages(images, labels.astype(np.int64))


def _dataset(train: list[int] | None = None, test: list[int] | None = None, **settings) -> Dataset:
    return Dataset(
        name="animals",
        train=_split(train or [4, 5, 6, 7, 8, 9], 0),
        test=_split(test or [2] * 6, 1),
        class_names=_NAMES,
        horizontal_flip=False,
        crop_padding=0,
        **settings,
    )


def _class_ids(data: LabelledImages) -> np.ndarray:
    """The data set's own ids, which `_split` has painted into the images."""
    return data.images[:, 0, 0, 0].astype(np.int64)


def test_phases_deal_out_the_classes_in_their_order():
    stream = ClassStream(_dataset(), _PROTOCOL)
    assert stream.num_phases == 4
    assert stream.phase_sizes == [3, 1, 1, 1]
    start = 0
    for index, size in enumerate([3, 1, 1, 1]):
        phase = stream.phase(index)
        assert (phase.index, phase.num_old_classes, phase.num_new_classes) == (index, start, size)
        assert phase.num_classes == start + size
        assert list(phase.new_classes) == list(range(start, start + size))
        assert set(_class_ids(phase.train)) == set(stream.class_order[start : start + size])
        start += size


def test_class_index_is_the_place_in_the_class_order():
    stream = ClassStream(_dataset(), _PROTOCOL)
    # The order is no identity and not its own inverse, so that a mix-up of ids and indices shows.
    order = stream.class_order.tolist()
    assert order != [order.index(class_id) for class_id in range(6)]
    for phase in map(stream.phase, range(4)):
        expected = [order.index(class_id) for class_id in _class_ids(phase.train)]
        np.testing.assert_array_equal(phase.train.labels, expected)
    assert stream.class_names == [_NAMES[class_id] for class_id in order]


def test_every_training_image_arrives_in_exactly_one_phase():
    dataset = _dataset()
    stream = ClassStream(dataset, _PROTOCOL)
    arrived = [image.tobytes() for index in range(4) for image in stream.phase(index).train.images]
    assert sorted(arrived) == sorted(image.tobytes() for image in dataset.train.images)


@pytest.mark.parametrize("num_classes", [3, 4, 6])
def test_test_data_are_those_of_the_classes_seen_so_far_sorted_by_class(num_classes):
    stream = ClassStream(_dataset(), _PROTOCOL)
    test = stream.test_data(num_classes)
    np.testing.assert_array_equal(test.labels, np.repeat(np.arange(num_classes), 2))
    np.testing.assert_array_equal(_class_ids(test), np.repeat(stream.class_order[:num_classes], 2))


def test_classes_are_counted_in_the_training_images_by_their_index():
    stream = ClassStream(_dataset(train=[4, 5, 3, 7, 8, 9]), _PROTOCOL)
    np.testing.assert_array_equal(stream.class_sizes, np.array([4, 5, 3, 7, 8, 9])[stream.class_order])


@pytest.mark.parametrize(("split", "word"), [("train", "training"), ("test", "test")])
def test_class_without_images_is_refused_by_name(split, word):
    with pytest.raises(UsageError, match=f"Data set 'animals': no {word} image of cat, fox"):
        ClassStream(_dataset(**{split: [2, 2, 0, 2, 2, 0]}), _PROTOCOL)


def test_pixel_statistics_are_those_of_the_first_phase_alone():
    stream = ClassStream(_dataset(), _PROTOCOL)
    initial = np.isin(stream.dataset.train.labels, stream.class_order[:3])
    seen = stream.dataset.train.images[initial] / 255.0
    np.testing.assert_allclose(stream.pixel_range.mean, seen.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(stream.pixel_range.std, seen.std(axis=(0, 1, 2)), rtol=1e-9)


def test_published_pixel_statistics_win():
    published = PixelRange((0.1, 0.2), (0.3, 0.4))
    assert ClassStream(_dataset(pixel_range=published), _PROTOCOL).pixel_range == published


def test_constant_channel_has_a_deviation_of_one():
    # Half of the pixels 0 and half 255: mean 1/2, deviation 1/2. The other channel is 51 / 255 = 0.2 everywhere.
    images = np.full((2, 1, 1, 2), 51, np.uint8)
    images[0, ..., 0], images[1, ..., 0] = 0, 255
    statistics = statistics_of(histogram_of(images))
    np.testing.assert_allclose(statistics.mean, [0.5, 0.2], rtol=1e-12)
    np.testing.assert_allclose(statistics.std, [0.5, 1.0], rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_constant_channel_of_any_value_has_a_deviation_of_one(count):
    constant = [statistics_of(histogram_of(np.full((count, 8, 8, 1), value, np.uint8))) for value in range(256)]
    np.testing.assert_allclose([statistics.mean[0] for statistics in constant], np.arange(256) / 255, rtol=1e-12)
    assert {statistics.std[0] for statistics in constant} == {1.0}


@pytest.mark.parametrize("index", range(4))
def test_phase_knows_what_all_phases_so_far_have_brought(index):
    phase = ClassStream(_dataset(), _PROTOCOL).phase(index)
    assert phase.groups.sizes == (3, 1, 1, 1)[: index + 1]
    # First index and the one after the last of each earlier phase.
    assert phase.groups.old_ranges == [(0, 3), (3, 4), (4, 5)][:index]


def test_old_images_come_only_where_they_are_asked_for():
    stream = ClassStream(_dataset(), _PROTOCOL)
    assert stream.phase(2).old_train is None
    old = stream.phase(2, with_old_data=True).old_train
    assert set(_class_ids(old)) == set(stream.class_order[:4])
    expected = [image.tobytes() for index in range(2) for image in stream.phase(index).train.images]
    assert sorted(image.tobytes() for image in old.images) == sorted(expected)
    np.testing.assert_array_equal(stream.class_order[old.labels], _class_ids(old))
    assert len(stream.phase(0, with_old_data=True).old_train) == 0


# The cat (class 2) and the dog (class 3) are left out; they have fewest and most images.
_LISTS = Protocol(classes=(("fox", "ant"), ("elk",), ("bee",)))


def _with_left_out() -> ClassStream:
    return ClassStream(_dataset(train=[4, 5, 2, 30, 8, 9], test=[2, 3, 4, 5, 6, 7]), _LISTS)


def test_classes_in_no_list_are_left_out_of_training_and_test_images():
    stream = _with_left_out()
    np.testing.assert_array_equal(stream.class_order, [5, 0, 4, 1])
    assert stream.class_names == ["fox", "ant", "elk", "bee"]
    assert stream.phase_sizes == [2, 1, 1]
    assert [sorted(set(_class_ids(stream.phase(index).train))) for index in range(3)] == [[0, 5], [4], [1]]
    # 9 + 4, 8 and 5 images.
    assert [len(stream.phase(index).train) for index in range(3)] == [13, 8, 5]
    test = stream.test_data(4)
    np.testing.assert_array_equal(_class_ids(test), np.repeat([5, 0, 4, 1], [7, 2, 6, 3]))
    np.testing.assert_array_equal(test.labels, np.repeat([0, 1, 2, 3], [7, 2, 6, 3]))
    for index in range(3):
        train = stream.phase(index).train
        np.testing.assert_array_equal(stream.class_order[train.labels], _class_ids(train))


def test_classes_in_no_list_are_not_counted():
    # Fox and ant, elk, bee; the cat is left out.
    np.testing.assert_array_equal(_with_left_out().class_sizes, [9, 4, 8, 5])


def test_classes_in_no_list_have_no_part_in_the_pixel_statistics():
    stream = _with_left_out()
    seen = stream.dataset.train.images[np.isin(stream.dataset.train.labels, [0, 5])] / 255.0
    np.testing.assert_allclose(stream.pixel_range.mean, seen.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(stream.pixel_range.std, seen.std(axis=(0, 1, 2)), rtol=1e-9)


def test_classes_in_no_list_are_not_among_the_old_images():
    old = _with_left_out().phase(2, with_old_data=True).old_train
    assert sorted(set(_class_ids(old))) == [0, 4, 5]
    assert old.labels.min() == 0


def test_class_that_is_left_out_needs_no_image():
    ClassStream(_dataset(train=[4, 5, 0, 7, 8, 9], test=[2, 2, 2, 0, 2, 2]), _LISTS)
    with pytest.raises(UsageError, match="no training image of elk"):
        ClassStream(_dataset(train=[4, 5, 6, 7, 0, 9]), _LISTS)


def test_sizes_deal_out_the_shuffled_order():
    stream = ClassStream(_dataset(), Protocol(sizes=(1, 3, 2)))
    assert stream.phase_sizes == [1, 3, 2]
    np.testing.assert_array_equal(stream.class_order, ClassStream(_dataset(), _PROTOCOL).class_order)
    assert set(_class_ids(stream.phase(1).train)) == set(stream.class_order[1:4])


def _stored(folder: Path, data: LabelledImages) -> LabelledImages:
    """The images, as a file each."""
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(data))]
    for path, image in zip(paths, data.array, strict=True):
        path.write_bytes(png(image))
    return LabelledImages(StoredImages.of_files([str(path) for path in paths], 3), data.labels)


def _square(per_class: int, seed: int) -> LabelledImages:
    """Images `[n, 3, 3, 3]` whose first value is their class id; no two are the same."""
    data = _split([per_class] * 6, seed)
    images = np.random.default_rng(seed).integers(0, 256, (len(data), 3, 3, 3)).astype(np.uint8)
    images[:, 0, 0, 0] = data.labels
    return LabelledImages(images, data.labels)


@pytest.fixture
def datasets(tmp_path) -> tuple[Dataset, Dataset]:
    """Animals as arrays, and the same in files, 4 a class to train on and 2 to test."""
    arrays = dataclasses.replace(_dataset(), train=_square(4, 0), test=_square(2, 1))
    stored = [_stored(tmp_path / name, part) for name, part in (("train", arrays.train), ("test", arrays.test))]
    return arrays, dataclasses.replace(arrays, train=stored[0], test=stored[1])


def _sorted(data: LabelledImages) -> list[tuple[int, bytes]]:
    return sorted((label, image.tobytes()) for label, image in zip(data.labels, in_memory(data).array, strict=True))


def _files_of(data: LabelledImages, class_id: int) -> list[Path]:
    """The files of a class, by the data set's own id."""
    return [Path(data.images.place(row)) for row in np.flatnonzero(data.labels == class_id)]


@pytest.mark.parametrize("held", [True, False], ids=["held", "streamed"])
def test_images_in_files_arrive_as_those_in_memory(held, datasets):
    arrays, stored = datasets
    expected = ClassStream(arrays, _PROTOCOL)
    stream = ClassStream(dataclasses.replace(stored, decode_once=held), _PROTOCOL)
    assert (stream.streamed, expected.streamed) == (not held, False)
    assert stream.pixel_range == expected.pixel_range
    for index in range(4):
        pairs = [(stream.phase(index).train, expected.phase(index).train)]
        seen = sum(expected.phase_sizes[: index + 1])
        pairs.append((stream.test_data(seen), expected.test_data(seen)))
        assert isinstance(pairs[0][0].images, np.ndarray) == held
        for actual, wanted in pairs:
            np.testing.assert_array_equal(in_memory(actual).array, wanted.array)
            np.testing.assert_array_equal(actual.labels, wanted.labels)
        # Of old images, the order does not matter.
        assert _sorted(stream.phase(index, True).old_train) == _sorted(expected.phase(index, True).old_train)
    assert stream.skipped == {}


def test_files_of_other_phases_may_be_missing_or_broken(datasets, capsys):
    _, stored = datasets
    stream = ClassStream(stored, _PROTOCOL)
    later = stream.class_order[3:]
    for path in (path for class_id in later for path in _files_of(stored.train, class_id)):
        path.write_bytes(b"no picture")
    for path in (path for class_id in later for path in _files_of(stored.test, class_id)):
        path.unlink()
    assert len(stream.phase(0).train) == 12
    assert len(stream.test_data(3)) == 6
    assert np.isfinite(stream.pixel_range.mean).all()
    assert (stream.class_sizes.min(), stream.skipped, capsys.readouterr().err) == (4, {}, "")
    # What was looked through is not looked through again.
    for path in (path for class_id in stream.class_order[:3] for path in _files_of(stored.train, class_id)):
        path.unlink()
    assert len(stream.phase(0).train) == 12


def test_images_that_cannot_be_read_are_left_out_and_noted_when_they_arrive(datasets, capsys):
    _, stored = datasets
    stream = ClassStream(stored, _PROTOCOL)
    train, test = (_files_of(part, stream.class_order[3])[0] for part in (stored.train, stored.test))
    train.write_bytes(b"")
    test.unlink()
    stream.phase(0)
    assert stream.skipped == {}
    phase = stream.phase(1)
    assert stream.skipped == {str(train): "the file is empty"}
    np.testing.assert_array_equal(phase.train.labels, [3] * 3)
    np.testing.assert_array_equal(_class_ids(in_memory(phase.train)), [stream.class_order[3]] * 3)
    assert "1 of 4 training images cannot be read" in capsys.readouterr().err
    np.testing.assert_array_equal(stream.test_data(4).labels, [0, 0, 1, 1, 2, 2, 3])
    assert stream.skipped == {str(train): "the file is empty", str(test): "there is no such file any more"}
    assert "1 of 2 test images cannot be read" in capsys.readouterr().err
    stream.test_data(4)
    assert capsys.readouterr().err == ""  # said once


@pytest.mark.parametrize("split", ["training", "test"])
def test_class_of_which_nothing_can_be_read_is_refused_when_it_arrives(split, datasets):
    _, stored = datasets
    stream = ClassStream(stored, _PROTOCOL)
    class_id = stream.class_order[3]
    for path in _files_of(stored.train if split == "training" else stored.test, class_id):
        path.write_bytes(b"")
    stream.phase(0)
    stream.test_data(3)
    with pytest.raises(UsageError, match=f"No {split} image of '{_NAMES[class_id]}' can be read"):
        stream.phase(1) if split == "training" else stream.test_data(4)


def test_statistics_of_files_are_those_of_the_readable_images_of_phase_0(datasets):
    arrays, stored = datasets
    stream = ClassStream(stored, _PROTOCOL)
    broken = int(np.flatnonzero(arrays.train.labels == stream.class_order[0])[0])
    Path(stored.train.images.place(broken)).write_bytes(b"")
    initial = np.isin(arrays.train.labels, stream.class_order[:3])
    initial[broken] = False
    seen = arrays.train.array[initial] / 255.0
    np.testing.assert_allclose(stream.pixel_range.mean, seen.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(stream.pixel_range.std, seen.std(axis=(0, 1, 2)), rtol=1e-9)
    assert len(stream.phase(0).train) == 11


def test_known_statistics_keep_phase_0_from_being_read(datasets):
    _, stored = datasets
    stream = ClassStream(stored, _PROTOCOL)
    stream.pixel_range = PixelRange((0.5,) * 3, (0.25,) * 3)
    for path in (path for class_id in stream.class_order[:3] for path in _files_of(stored.train, class_id)):
        path.unlink()
    assert stream.pixel_range == PixelRange((0.5,) * 3, (0.25,) * 3)
    assert len(stream.phase(1).train) == 4
