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
