"""Input pipelines: shuffling, augmentation and batching in tf.data, by stateless seeds.

Every random choice is a function of (seed, position in the stage), so a phase that is run again sees the same batches.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.types import LabelledImages


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training images. Pad-and-crop and mirroring are the paper's for CIFAR-100.

    Attributes:
      crop_padding: zero pixels added on each side before a random crop of the original size; 0 for none.
      horizontal_flip: mirror with probability 1/2.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Augments a batch `[B, H, W, C]`; each image by a draw of its own.

        Args:
          images: any dtype.
          seed: `[2]` int, for the stateless generator.
        """
        count = tf.shape(images)[0]
        if self.crop_padding:
            height, width = images.shape[1], images.shape[2]
            pad = self.crop_padding
            padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
            offsets = tf.random.stateless_uniform([2, count, 1], seed, 0, 2 * pad + 1, tf.int32)
            rows = offsets[0] + tf.range(height)
            columns = offsets[1] + tf.range(width)
            images = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
        if self.horizontal_flip:
            mirrored = tf.random.stateless_uniform([count, 1, 1, 1], seed + 1) < 0.5
            images = tf.where(mirrored, tf.reverse(images, axis=[2]), images)
        return images


def training_batches(
    data: LabelledImages,
    batch_size: int,
    epochs: int,
    seed: int,
    augmentation: Augmentation,
    num_replicas: int = 1,
) -> tf.data.Dataset:
    """Batches of all epochs, one after the other; each epoch in an order of its own, its last batch perhaps smaller.

    Args:
      data: images uint8 (or float32 exemplars on the same scale).
      batch_size: B.
      epochs: passes over the data.
      seed: of this stage.
      augmentation: applied to each batch.
      num_replicas: among which each batch will be split.

    Returns:
      A dataset of `(images [B, H, W, C] of the data's dtype, labels [B] int64)`, or soft labels `[B, K + M]` float32
      where the data has them.
    """
    count = len(data)
    used = images_per_epoch(count, batch_size, num_replicas)
    images, labels = tf.constant(data.images), tf.constant(data.targets)

    def epoch_indices(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), epoch_seed)
        return tf.data.Dataset.from_tensor_slices(order[:used]).batch(batch_size)

    def load(step: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Two draws a batch (crop and mirror) want seeds that no other batch uses.
        stage_seed = tf.stack([tf.constant(seed, tf.int64), 2 * step])
        return augmentation(tf.gather(images, indices), stage_seed), tf.gather(labels, indices)

    dataset = tf.data.Dataset.range(epochs).flat_map(epoch_indices).enumerate()
    return dataset.map(load, num_parallel_calls=1).prefetch(2)


def images_per_epoch(count: int, batch_size: int, num_replicas: int) -> int:
    """Images that an epoch uses of `count`: all, or all but a last batch that would leave a replica without any.

    tf.distribute gives each replica ceil(rest / replicas) images of the last batch until none is left; batch norm
    cannot do with none.

    Raises:
      UsageError: not even one batch can be split among the replicas.
    """
    rest = count % batch_size
    leaves_none = rest > 0 and -(-rest // num_replicas) * (num_replicas - 1) >= rest
    used = count - rest if leaves_none else count
    if not used:
        raise checks.UsageError(
            f"{count} training images cannot be split among {num_replicas} devices. Make fewer of them visible."
        )
    return used


def num_batches(count: int, batch_size: int) -> int:
    """Batches in one pass over `count` images."""
    return -(-count // batch_size)


def evaluation_batches(data: LabelledImages, batch_size: int) -> tf.data.Dataset:
    """Batches of images alone, in their order, without augmentation: `[B, H, W, C]` of the data's dtype."""
    return tf.data.Dataset.from_tensor_slices(data.images).batch(batch_size).prefetch(2)
