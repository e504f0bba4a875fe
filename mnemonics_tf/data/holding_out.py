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
