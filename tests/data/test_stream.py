"""The stream of phases."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.stream import ClassStream, pixel_statistics
from mnemonics_tf.types import Dataset, LabelledImages, PixelRange

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


def test_smallest_class_is_counted_in_the_training_images():
    assert ClassStream(_dataset(train=[4, 5, 3, 7, 8, 9]), _PROTOCOL).smallest_class == 3


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
    statistics = pixel_statistics(images)
    np.testing.assert_allclose(statistics.mean, [0.5, 0.2], rtol=1e-12)
    np.testing.assert_allclose(statistics.std, [0.5, 1.0], rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_constant_channel_of_any_value_has_a_deviation_of_one(count):
    constant = [pixel_statistics(np.full((count, 8, 8, 1), value, np.uint8)) for value in range(256)]
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


def test_classes_in_no_list_do_not_count_as_the_smallest():
    assert _with_left_out().smallest_class == 4  # the ant's; the cat has 2


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
