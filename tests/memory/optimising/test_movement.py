"""How far exemplars have moved."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.optimising.movement import Movement, movement_of, told


def _pair(count: int = 600) -> tuple[LabelledImages, LabelledImages]:
    """Images of 2 x 2 pixels; the first moves by 2 grey levels everywhere, the second by 40 in one pixel of four, the
    third by less than rounding, the rest not at all."""
    before = np.random.default_rng(0).integers(50, 200, (count, 2, 2, 1)).astype(np.uint8)
    after = before.astype(np.float32)
    after[0] += 2
    after[1, 0, 0] -= 40
    after[2] += 0.4
    labels = np.arange(count) % 3
    return LabelledImages(before, labels), LabelledImages(after, labels)


def test_changes_are_those_of_what_is_kept():
    before, after = _pair()
    moved = movement_of(before, after, rounded=True)
    # (2 + 40 / 4) / 600, and 598 of 600.
    np.testing.assert_allclose(dataclasses.astuple(moved), (0.02, 40, 100 * 598 / 600), rtol=1e-6)
    # Kept as floats, 0.4 is a change as well.
    moved = movement_of(before, after, rounded=False)
    np.testing.assert_allclose(dataclasses.astuple(moved), (12.4 / 600, 40, 100 * 597 / 600), rtol=1e-4)


def test_line_says_what_moved_and_that_nothing_did():
    assert told(Movement(0.05, 3.2, 35.0), "learned", 100) == (
        "learned exemplars moved by 0.05 grey levels on average, 3 at most; 35.0 % of 100 are still real images."
    )
    line = told(Movement(0.0, 0.0, 100.0), "adjusted", 7)
    assert "have not moved: all 7 are still what they were before" in line
    assert "\n" not in line
    assert "real_share" not in line
    # A share of 0.8 of four exemplars is all of them, rounded up: no rate moves those.
    assert "A smaller ExemplarLevel.real_share (0.8)" in told(Movement(0.0, 0.0, 100.0), "learned", 20, 0.8)
