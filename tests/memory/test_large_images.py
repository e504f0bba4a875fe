"""Budgets in bytes where one image takes many times the bytes of the others of its class."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory import budget
from mnemonics_tf.memory.coded import code_of
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, codec_for

_SHARE = 1000


def _memory(**budget_of) -> Memory:
    return Memory(strategy="herding", adjust=False, codec="png", **(budget_of or {"bytes_per_class": _SHARE}))


def _data(*noisy: int) -> LabelledImages:
    """40 images of a class, flat but for some; each has a shade of its own."""
    images = np.broadcast_to(np.arange(60, 100, dtype=np.uint8)[:, None, None, None], (40, 32, 32, 3)).copy()
    for row in noisy:
        images[row] = np.random.default_rng(row).integers(0, 256, (32, 32, 3))
    return LabelledImages(images, np.zeros(40, np.int64))


def _rows(data: LabelledImages, memory: Memory) -> list[int]:
    """Which images are kept, in their order of importance, which is that of the rows."""
    features = np.ones((40, 2), np.float32)
    chosen = budget.select_fitting(memory, data, features, ["ant"], np.random.default_rng(0))
    every = [image.tobytes() for image in data.array]
    return [every.index(chosen.images.content(row)) for row in range(len(chosen))]


@pytest.mark.parametrize("place", [0, 2, 7])
def test_image_that_is_too_large_is_passed_over(place):
    usual, kept = _rows(_data(), _memory()), _rows(_data(place), _memory())
    assert 10 < len(usual) == len(kept)
    assert kept == [row for row in range(40) if row != place][: len(kept)]


def test_less_important_images_do_not_fill_up_what_is_left():
    # The first that does not fit ends the class, though flat ones behind it would: what is left would not hold two.
    sizes = np.array([100, 100, 100, 60, 90, 10])
    np.testing.assert_array_equal(budget._that_fit(sizes, 400)[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(budget._that_fit(np.array([100, 500, 100, 100, 90, 10]), 400)[0], [0, 2, 3, 4, 5])
    np.testing.assert_array_equal(budget._that_fit(np.array([500, 600]), 400)[0], [])


def test_exemplar_that_a_shrinking_budget_cannot_hold_goes_and_others_stay():
    memory = _memory(total_bytes=4 * _SHARE)
    data = _data(0)
    early = budget.select_fitting(memory, data, np.ones((40, 2), np.float32), ["ant"], np.random.default_rng(0))
    late = budget.fitting(memory, early, codec_for(memory), ["ant", "bee", "cat", "dog"])
    assert len(code_of(early.images, 0)) > _SHARE
    assert late.images.content(0) == early.images.content(1)
    size = budget.size_of(ExemplarStore(late, codec_for(memory)), 4)
    assert _SHARE // 2 < size.by_class[0] <= _SHARE


def test_no_image_that_fits_is_refused_with_the_smallest():
    data = _data(*range(40))
    with pytest.raises(UsageError, match=r"leaves 1,000 bytes of a class, but an exemplar of class 'ant' takes"):
        _rows(data, _memory())


def test_images_of_which_only_some_fit_are_no_memory_without_exemplars():
    assert budget.check_first_images(_memory(), _data(0), ["ant"], 1) == 1
