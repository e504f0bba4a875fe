"""Batches of real images that validate the temporary model."""

from __future__ import annotations

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.system import seeds


class ValidationBatches:
    """Full batches of shuffled passes over the data, for ever; all of the data where it is less than a batch.

    Which images a batch has depends on the seed, the stage and its index alone, not on the batches before it.

    Args:
      data: what is drawn from.
      batch_size: images in a batch.
      seed: of the shuffling.
      stage: whose batches they are; each has passes of its own.
    """

    def __init__(self, data: LabelledImages, batch_size: int, seed: int, stage: str):
        self._data, self._seed, self._stage = data, seed, stage
        self._batch_size = min(batch_size, len(data))
        self._pass = -1
        self._order = np.arange(0)

    def batch(self, index: int) -> LabelledImages:
        """The batch of meta-step `index`, from 0 on, in memory."""
        number, position = divmod(index, len(self._data) // self._batch_size)
        if number != self._pass:
            self._pass = number
            self._order = seeds.generator(self._seed, self._stage, "pass", number).permutation(len(self._data))
        start = position * self._batch_size
        return in_memory(self._data.take(self._order[start : start + self._batch_size]))
