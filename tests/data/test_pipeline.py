"""Batches and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.data import pipeline
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.types import LabelledImages

_SEED = tf.constant([3, 4], tf.int64)


def _numbered(count: int) -> LabelledImages:
    """Images `[count, 1, 1, 1]` whose pixel is their position; the label is ten times that."""
    positions = np.arange(count)
    return LabelledImages(positions.astype(np.uint8).reshape(-1, 1, 1, 1), positions.astype(np.int64) * 10)


def _distinct(count: int, height: int, width: int, channels: int) -> np.ndarray:
    """Random images without zeros, so that padding shows."""
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels), np.uint8)


def _batches(data: LabelledImages, batch_size: int, epochs: int, seed: int, augmentation: Augmentation | None = None):
    batches = pipeline.training_batches(data, batch_size, epochs, seed, augmentation or Augmentation())
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def _order(count: int, batch_size: int, epochs: int, seed: int) -> np.ndarray:
    return np.concatenate([images.ravel() for images, _ in _batches(_numbered(count), batch_size, epochs, seed)])


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own():
    epochs = _order(30, 8, 3, seed=1).reshape(3, 30)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(30))
    # Two random orders of 30 images are equal once in 30! tries.
    assert len({tuple(epoch) for epoch in [*epochs, np.arange(30)]}) == 4


def test_last_batch_of_each_epoch_holds_what_is_left():
    sizes = [len(labels) for _, labels in _batches(_numbered(10), 4, 2, seed=0)]
    assert sizes == [4, 4, 2, 4, 4, 2]


def test_labels_go_with_their_images():
    for images, labels in _batches(_numbered(25), 4, 2, seed=0):
        np.testing.assert_array_equal(labels, images.ravel().astype(np.int64) * 10)
        assert labels.dtype == np.int64


def test_same_seed_gives_the_same_batches_and_another_seed_others():
    np.testing.assert_array_equal(_order(30, 8, 2, seed=1), _order(30, 8, 2, seed=1))
    assert (_order(30, 8, 2, seed=1) != _order(30, 8, 2, seed=2)).any()


def test_augmented_batches_are_the_same_in_every_pass_and_differ_between_epochs():
    data = LabelledImages(_distinct(1, 6, 6, 1), np.zeros(1, np.int64))
    batches = pipeline.training_batches(data, 1, 12, 5, Augmentation(crop_padding=2, horizontal_flip=True))
    first, second = ([images.numpy().tobytes() for images, _ in batches] for _ in range(2))
    assert first == second
    # 25 windows and their mirror images: 12 draws with fewer than 4 different ones are next to impossible.
    assert len(set(first)) >= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_keep_the_dtype_of_the_images(dtype):
    data = LabelledImages(_distinct(3, 4, 4, 1).astype(dtype), np.zeros(3, np.int64))
    ((images, _),) = _batches(data, 3, 1, 0, Augmentation(1, True))
    assert images.dtype == dtype


def _augmented(augmentation: Augmentation, images: np.ndarray) -> np.ndarray:
    return augmentation(tf.constant(images), augmentation.draw(len(images), _SEED)).numpy()


def test_no_augmentation_leaves_images_alone():
    images = _distinct(4, 5, 3, 2)
    np.testing.assert_array_equal(_augmented(Augmentation(), images), images)


def _windows(image: np.ndarray, padding: int) -> dict[bytes, tuple[int, int]]:
    """All windows of the image's own size in its zero-padded version, with their offsets."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * padding, width + 2 * padding, channels), image.dtype)
    padded[padding : padding + height, padding : padding + width] = image
    return {
        np.ascontiguousarray(padded[row : row + height, column : column + width]).tobytes(): (row, column)
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    }


def test_crops_are_all_the_windows_of_the_padded_image_each_image_with_its_own():
    image = _distinct(1, 5, 4, 3)[0]
    windows = _windows(image, padding=1)
    crops = _augmented(Augmentation(crop_padding=1), np.stack([image] * 300))
    offsets = [windows[crop.tobytes()] for crop in crops]  # a KeyError is a crop that is no window
    # 9 windows: the chance that 300 draws miss one of them is 9 * (8/9)^300 < 1e-14.
    assert set(offsets) == {(row, column) for row in range(3) for column in range(3)}


def test_mirrored_images_are_reversed_from_left_to_right_in_about_half_of_the_draws():
    images = _distinct(400, 3, 5, 3)
    augmented = _augmented(Augmentation(horizontal_flip=True), images)
    mirrored = np.array([np.array_equal(new, old[:, ::-1]) for new, old in zip(augmented, images, strict=True)])
    kept = np.array([np.array_equal(new, old) for new, old in zip(augmented, images, strict=True)])
    assert (mirrored ^ kept).all()
    # Binomial with 400 draws: mean 200, standard deviation 10.
    assert 140 < mirrored.sum() < 260


def test_crop_and_mirror_are_drawn_independently():
    image = _distinct(1, 4, 4, 1)[0]
    windows = {key: (*offset, False) for key, offset in _windows(image, 1).items()}
    for key, (row, column, _) in list(windows.items()):
        window = np.frombuffer(key, np.uint8).reshape(4, 4, 1)
        windows[np.ascontiguousarray(window[:, ::-1]).tobytes()] = (row, column, True)
    crops = _augmented(Augmentation(1, True), np.stack([image] * 600))
    # 18 outcomes: the chance that 600 draws miss one of them is 18 * (17/18)^600 < 1e-13.
    assert {windows[crop.tobytes()] for crop in crops} == set(windows.values())


def test_augmentation_is_the_same_eagerly_and_inside_tf_data():
    images = _distinct(8, 6, 6, 3)
    augmentation = Augmentation(2, True)
    mapped = tf.data.Dataset.from_tensors(images).map(lambda batch: augmentation(batch, augmentation.draw(8, _SEED)))
    np.testing.assert_array_equal(next(iter(mapped)), _augmented(augmentation, images))


@pytest.mark.parametrize(("count", "batch_size", "expected"), [(1, 128, 1), (128, 128, 1), (129, 128, 2), (10, 3, 4)])
def test_number_of_batches_counts_the_last_smaller_one(count, batch_size, expected):
    assert pipeline.num_batches(count, batch_size) == expected


def test_evaluation_keeps_order_and_images():
    data = LabelledImages(_distinct(7, 2, 3, 1), np.zeros(7, np.int64))
    batches = [batch.numpy() for batch in pipeline.evaluation_batches(data, 3)]
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), data.images)
