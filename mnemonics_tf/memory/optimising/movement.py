"""How far learning has moved exemplars, told by their pixels alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages

_AT_ONCE = 256  # images whose pixels are held twice while they are compared


@dataclasses.dataclass(frozen=True)
class Movement:
    """What became of exemplars that were learned or adjusted.

    Attributes:
      mean: mean absolute change of a pixel, in grey levels (0..255).
      largest: the largest change of any pixel, in grey levels.
      unmoved: percent of the exemplars that are bit for bit what they were, before a codec keeps them. New exemplars
        were real images.
    """

    mean: float
    largest: float
    unmoved: float


def movement_of(before: LabelledImages, after: LabelledImages, rounded: bool) -> Movement:
    """Compares exemplars with what they started from. Nothing is coded for it, and no other image is looked at.

    Args:
      before: at least one slot as it was, in any form: `[n, H, W, C]`.
      after: the same slots in the same order, learned.
      rounded: whether they will be kept as whole grey levels, or coded from them, so that less is no movement.
    """
    total, largest, unmoved = 0.0, 0.0, 0
    for start in range(0, len(before), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(before)))
        first, second = (_pixels(each.take(rows), rounded) for each in (before, after))
        change = np.abs(second - first)
        total += float(change.mean(dtype=np.float64)) * len(rows)
        largest = max(largest, float(change.max()))
        unmoved += int((change.reshape(len(rows), -1).max(axis=1) == 0).sum())
    return Movement(total / len(before), largest, 100 * unmoved / len(before))


def told(movement: Movement, which: str, count: int, real_share: float = 0.0) -> str:
    """A line for the log.

    Args:
      movement: of `count` exemplars.
      which: `learned` (they were real images before) or `adjusted`.
      count: how many they are.
      real_share: of the exemplars that were to stay real images. 0 by default, none.
    """
    was = "real images" if which == "learned" else "what they were before"
    if movement.unmoved == 100:
        # Rounded up, it can be all of few exemplars.
        held = f"A smaller ExemplarLevel.real_share ({real_share:g}), a larger" if real_share else "A larger"
        return (
            f"{which} exemplars have not moved: all {count} are still {was}, bit for bit. {held} "
            "ExemplarLevel.learning_rate (adjust_learning_rate for old ones), or another objective, moves them."
        )
    return (
        f"{which} exemplars moved by {movement.mean:.2f} grey levels on average, {movement.largest:.0f} at most; "
        f"{movement.unmoved:.1f} % of {count} are still {was}."
    )


def _pixels(slots: LabelledImages, rounded: bool) -> np.ndarray:
    images = in_memory(slots).array
    return (pixels.to_uint8(images) if rounded else images).astype(np.float32)
