"""Batches that pair new images with memory in a chosen share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.system.lazy import tf


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Which training images are memory, and what share of each batch they have.

    Attributes:
      is_memory: whether each training image is one of memory, `[n]` bool.
      share: the share of memory images in a batch, above 0 and below 1; 0 for plain batches, in which every image comes
        once an epoch.
      steps_per_epoch: of paired batches; None for as many as plain batches would have.
    """

    is_memory: np.ndarray
    share: float
    steps_per_epoch: int | None = None

    @property
    def pairs(self) -> bool:
        """Whether batches are paired. Where all images are new, or all are memory, there is nothing to pair."""
        return bool(self.share and self.is_memory.any() and not self.is_memory.all())

    def steps(self, plain: int) -> int:
        """Batches of an epoch that has so many plain ones."""
        return plain if self.steps_per_epoch is None or not self.pairs else self.steps_per_epoch

    def memory_images(self, batch_size: int) -> int:
        """Memory images in a batch of `batch_size`, at least 2: at least one, and all but one at most."""
        return min(max(memory_images(self.share, batch_size), 1), batch_size - 1)

    def draws(self, batch_size: int) -> np.ndarray:
        """How often each image is seen in a step of `batch_size`, `[n]` float64; 1 for all of them in plain batches."""
        weights = np.ones(len(self.is_memory))
        if self.pairs:
            size = min(batch_size, len(weights))
            count = self.memory_images(size)
            weights[self.is_memory] = count / self.is_memory.sum()
            weights[~self.is_memory] = (size - count) / (~self.is_memory).sum()
        return weights

    def batches(self, batch_size: int, steps: int, seed: int) -> tf.data.Dataset:
        """Positions of the images of each batch, for paired batches.

        Memory and new images are gone through by themselves, pass after pass, each pass in an order of its own that
        follows from (seed, pass): how often two images of a kind have come differs by one at most. Within a batch the
        kinds are mixed, so that replicas get some of both.

        Args:
          batch_size: B, images in a batch; the number of images where they are fewer. At least 2.
          steps: how many batches.
          seed: of this stage.

        Returns:
          A dataset of `steps` elements `[B]` int64.
        """
        size = min(batch_size, len(self.is_memory))
        count = self.memory_images(size)
        # Seeds that no other draw of this stage has: epochs and steps are not negative.
        memory = _passes(np.flatnonzero(self.is_memory), count, seed, lambda index: -2 * index - 1)
        new = _passes(np.flatnonzero(~self.is_memory), size - count, seed, lambda index: -2 * index - 2)

        @tf.autograph.experimental.do_not_convert
        def mixed(step: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            # The seeds of a batch's augmentation are even.
            order_seed = tf.stack([tf.constant(seed, tf.int64), 2 * step + 1])
            return tf.random.experimental.stateless_shuffle(tf.concat(pair, 0), order_seed)

        return tf.data.Dataset.zip(memory, new).take(steps).enumerate().map(mixed)


def memory_images(share: float, batch_size: int) -> int:
    """Images of memory in a batch of `batch_size` images, of which they have a share: rounded, half to even."""
    return round(share * batch_size)


def check_share(name: str, share: float, batch_size: int) -> None:
    """Raises UsageError if a share, above 0 and below 1, leaves memory or new images no place in a batch."""
    count = memory_images(share, batch_size)
    if not 0 < count < batch_size:
        raise checks.UsageError(
            f"{name} = {share}: of {batch_size} images in a batch that is {count}, and memory and new images need one "
            "each at least. Choose another share, or a larger ModelLevel.batch_size."
        )


def _passes(
    positions: np.ndarray, count: int, seed: int, pass_seed: Callable[[tf.Tensor], tf.Tensor]
) -> tf.data.Dataset:
    """Batches of `count` positions, without an end: pass after pass over all of them."""

    @tf.autograph.experimental.do_not_convert
    def shuffled(index: tf.Tensor) -> tf.data.Dataset:
        pair = tf.stack([tf.constant(seed, tf.int64), pass_seed(index)])
        order = tf.random.experimental.stateless_shuffle(tf.constant(positions, tf.int64), pair)
        return tf.data.Dataset.from_tensor_slices(order)

    return tf.data.Dataset.range(np.iinfo(np.int64).max).flat_map(shuffled).batch(count)
