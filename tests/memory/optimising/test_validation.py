"""Batches that validate: shuffled passes, each batch a function of its index."""

from __future__ import annotations

import numpy as np

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.optimising.validation import ValidationBatches


def _batches(count: int, batch_size: int, seed: int = 0, stage: str = "learn") -> ValidationBatches:
    """Of images that are their own number."""
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ValidationBatches(LabelledImages(images, np.arange(count)), batch_size, seed, stage)


def _numbers(batches: ValidationBatches, *indices: int) -> list[list[int]]:
    return [batches.batch(index).images.ravel().tolist() for index in indices]


def test_passes_are_different_permutations_of_the_data():
    # 12 images in batches of 4: three batches a pass.
    first, second = np.reshape(_numbers(_batches(12, 4), *range(6)), (2, 12)).tolist()
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_images_beyond_the_last_full_batch_wait_for_another_pass():
    # 10 images in batches of 4: two full ones a pass, and two images are left out of each pass.
    numbers = _numbers(_batches(10, 4), *range(40))
    assert {len(batch) for batch in numbers} == {4}
    for start in range(0, 40, 2):
        assert len(set(numbers[start] + numbers[start + 1])) == 8
    assert set(np.ravel(numbers)) == set(range(10))


def test_less_than_a_batch_is_all_of_the_data():
    assert [sorted(batch) for batch in _numbers(_batches(3, 8), 0, 1, 5)] == [[0, 1, 2]] * 3


def test_batch_does_not_depend_on_those_before_it():
    assert _numbers(_batches(12, 4), 7) == _numbers(_batches(12, 4), *range(8))[7:]
    together = _batches(12, 4)
    assert _numbers(together, 8, 1, 8) == [*_numbers(_batches(12, 4), 8), *_numbers(_batches(12, 4), 1, 8)]


def test_seeds_and_stages_have_orders_of_their_own():
    orders = [_numbers(_batches(12, 12, seed, stage), 0) for seed, stage in ((0, "learn"), (1, "learn"), (0, "adjust"))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
