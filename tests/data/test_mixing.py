"""Batches that pair new images with memory."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import pipeline
from mnemonics_tf.data.mixing import Mixture, check_share
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.runtime import ONE_REPLICA, Share

_MEMORY, _NEW = 6, 23
_IS_MEMORY = np.array([False] * _NEW + [True] * _MEMORY)


def _positions(mixture: Mixture, batch_size: int, epochs: int, seed: int = 3, share: Share = ONE_REPLICA):
    """The positions of the images in each element: pixel and label both are the position."""
    count = len(mixture.is_memory)
    data = LabelledImages(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(count))
    batches = pipeline.training_batches(data, batch_size, epochs, seed, Augmentation(), share, mixture)
    found = []
    for images, labels in batches:
        np.testing.assert_array_equal(images.numpy().ravel(), labels)
        found.append(labels.numpy())
    return found


def test_each_batch_has_its_share_of_memory_and_kinds_are_gone_through_evenly():
    batches = _positions(Mixture(_IS_MEMORY, 0.375), 8, 3)
    # As many as plain batches would be: 3 epochs of ceil(29 / 8) = 4; all of them are full.
    assert [len(batch) for batch in batches] == [8] * 12
    assert [int(_IS_MEMORY[batch].sum()) for batch in batches] == [3] * 12
    counts = np.bincount(np.concatenate(batches), minlength=29)
    # 36 draws of 6 memory images, 60 draws of 23 new ones.
    np.testing.assert_array_equal(counts[_IS_MEMORY], 6)
    assert sorted(set(counts[~_IS_MEMORY])) == [2, 3]
    # Memory is not always at one end of the batch, where one replica would get all of it.
    assert len({tuple(_IS_MEMORY[batch]) for batch in batches}) > 6


def test_each_pass_is_an_order_of_its_own_and_a_seed_repeats_it():
    mixture = Mixture(_IS_MEMORY, 0.5)
    first, again, other = (np.concatenate(_positions(mixture, 12, 4, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    memory = first[_IS_MEMORY[first]].reshape(-1, _MEMORY)  # a batch is a pass, in an order of its own
    assert len(memory) == 12
    assert len({tuple(each) for each in memory}) > 6


@pytest.mark.parametrize("count", [1, 2])
def test_few_exemplars_come_several_times_in_a_batch(count):
    is_memory = np.arange(10) < count
    batches = _positions(Mixture(is_memory, 0.5), 8, 1)
    assert [int(is_memory[batch].sum()) for batch in batches] == [4, 4]
    np.testing.assert_array_equal(np.bincount(np.concatenate(batches))[:count], 8 // count)


def test_fewer_images_than_a_batch_are_one_batch_with_both_kinds():
    is_memory = np.array([True, False, False])
    (batch,) = _positions(Mixture(is_memory, 0.1), 128, 1)  # 0.1 of 3 images rounds to none
    assert len(batch) == 3
    assert is_memory[batch].sum() == 1


@pytest.mark.parametrize("is_memory", [np.zeros(29, bool), np.ones(29, bool)])
def test_batches_are_plain_where_there_is_nothing_to_pair(is_memory):
    plain = _positions(Mixture(is_memory, 0.0), 8, 2)
    for batch, expected in zip(_positions(Mixture(is_memory, 0.5), 8, 2), plain, strict=True):
        np.testing.assert_array_equal(batch, expected)
    np.testing.assert_array_equal(np.sort(np.concatenate(plain[:4])), np.arange(29))


def test_draws_are_how_often_images_come_in_a_step():
    draws = Mixture(_IS_MEMORY, 0.375).draws(8)
    np.testing.assert_allclose(draws, np.where(_IS_MEMORY, 3 / 6, 5 / 23))
    np.testing.assert_array_equal(Mixture(_IS_MEMORY, 0.0).draws(8), 1)


def test_two_replicas_share_the_batches_of_one():
    mixture = Mixture(_IS_MEMORY, 0.5)
    parts = _positions(mixture, 9, 2, share=Share(2, 0, 2))
    assert [len(part) for part in parts] == [4, 5] * 8
    joined = [np.concatenate(parts[step : step + 2]) for step in range(0, len(parts), 2)]
    for batch, expected in zip(joined, _positions(mixture, 9, 2), strict=True):
        np.testing.assert_array_equal(batch, expected)


def test_images_in_files_are_paired_and_jittered_as_those_in_memory():
    pixels = np.random.default_rng(0).integers(0, 256, (29, 8, 8, 3), np.uint8)
    found = []
    for images in (pixels, StoredImages.of_array(pixels)):
        data = LabelledImages(images, np.arange(29))
        batches = pipeline.training_batches(
            data, 8, 1, 0, Augmentation(2, True), ONE_REPLICA, Mixture(_IS_MEMORY, 0.5), _IS_MEMORY
        )
        found.append([(each.numpy(), labels.numpy()) for each, labels in batches])
    for (first, first_labels), (second, second_labels) in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first_labels, second_labels)


def test_stronger_augmentation_changes_the_chosen_images_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (29, 8, 8, 3), np.uint8)
    changed = np.zeros(29, bool)
    for images, labels in pipeline.training_batches(
        LabelledImages(pixels, np.arange(29)), 8, 1, 0, Augmentation(), ONE_REPLICA, None, _IS_MEMORY
    ):
        changed[labels.numpy()] = (images.numpy() != pixels[labels.numpy()]).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, _IS_MEMORY)


@pytest.mark.parametrize(("share", "batch_size", "count"), [(0.01, 32, 0), (0.99, 16, 16), (0.5, 1, 0)])
def test_share_that_leaves_a_kind_no_place_is_refused(share, batch_size, count):
    message = rf"^Rehearsal\.memory_share = {share}: of {batch_size} images .* that is {count},"
    with pytest.raises(UsageError, match=message):
        check_share("Rehearsal.memory_share", share, batch_size)


def test_number_of_steps_is_that_of_plain_batches_unless_it_is_set():
    is_memory = np.arange(10) < 4
    assert Mixture(is_memory, 0.5).steps(7) == 7
    assert Mixture(is_memory, 0.5, 12).steps(7) == 12
    # Nothing is paired where all images are new, as in phase 0.
    assert Mixture(np.zeros(10, bool), 0.5, 12).steps(7) == 7
