"""Splitting images within every class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mnemonics_tf.data.types import LabelledImages


def hold_out(
    data: LabelledImages, num_held_out: Callable[[int], int], generator: np.random.Generator
) -> tuple[LabelledImages, LabelledImages]:
    """Holds random images of every class out.

    Args:
      data: images with any labels.
      num_held_out: how many of a class with this number of images.
      generator: of the choice.

    Returns:
      The rest, and what is held out; both in the order of `data`.
    """
    is_held_out = np.zeros(len(data), bool)
    for label in np.unique(data.labels):
        members = generator.permutation(np.flatnonzero(data.labels == label))
        is_held_out[members[: num_held_out(len(members))]] = True
    return data.take(~is_held_out), data.take(is_held_out)


def hold_out_share(data: LabelledImages, share: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Holds a share of every class out for testing: at least one image, and never the last one.

    Args:
      data: images with any labels.
      share: above 0 and below 1.
      seed: of the choice.

    Returns:
      Training and test images, both in the order of `data`. A class of one image is in the former alone.
    """

    def num_held_out(size: int) -> int:
        return min(max(round(size * share), 1), size - 1)

    return hold_out(data, num_held_out, np.random.default_rng(seed))
