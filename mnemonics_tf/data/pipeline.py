"""Input pipelines: shuffling, augmentation and batching in tf.data, by stateless seeds.

Every random choice is a function of (seed, position in the stage), so a phase that is run again sees the same batches,
and any number of replicas sees the same images in the same global batch. Of images in files, only positions are
shuffled and each batch is read when its turn comes: memory holds a few batches, and the order is a true permutation.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import decoding, jitter
from mnemonics_tf.data.batches import images_per_epoch, num_batches
from mnemonics_tf.data.mixing import Mixture
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.runtime import ONE_REPLICA, Share

_MOST_AT_ONCE = 16  # batches that are decoded at once, each of which memory has to hold


class Draws(NamedTuple):
    """Random choices for each image of a batch.

    Attributes:
      offsets: rows and columns by which a crop of the padded image is shifted, `[B, 2]` int32.
      mirrored: `[B]` bool.
      windows: seeds of random windows, `[B, 2]` int64.
      coded: which images are taken as the memory's codec gives them back, `[B]` bool.
    """

    offsets: tf.Tensor
    mirrored: tf.Tensor
    windows: tf.Tensor
    coded: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training images. Pad-and-crop and mirroring are the paper's for CIFAR-100.

    Attributes:
      crop_padding: zero pixels added on each side before a random crop of the original size; 0 for none.
      horizontal_flip: mirror with probability 1/2.
      resized_crop: train on a random window of each image, resized to the image's size, as is usual for ImageNet.
      coded_share: probability with which an image is taken as the memory's codec gives it back, where data have both.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False
    resized_crop: bool = False
    coded_share: float = 0.0

    def draw(self, count: tf.Tensor | int, seed: tf.Tensor) -> Draws:
        """Random choices for `count` images, by `seed`, `[2]` int."""
        offsets = tf.random.stateless_uniform([2, count, 1], seed, 0, 2 * self.crop_padding + 1, tf.int32)
        mirrored = tf.random.stateless_uniform([count, 1, 1, 1], seed + 1) < 0.5
        windows = tf.random.stateless_uniform([count, 2], seed + 2, None, None, tf.int64)
        coded = tf.random.stateless_uniform([count], seed + 3) < self.coded_share
        return Draws(tf.transpose(offsets[..., 0]), tf.reshape(mirrored, [count]), windows, coded)

    def __call__(self, images: tf.Tensor, draws: Draws) -> tf.Tensor:
        """Augments a batch `[B, H, W, C]` of any dtype; each image by a draw of its own."""
        if self.resized_crop:
            spec = tf.TensorSpec(images.shape[1:], images.dtype)
            images = tf.map_fn(lambda pair: decoding.cut_out(*pair), (images, draws.windows), fn_output_signature=spec)
        return self.shifted_and_mirrored(images, draws)

    def shifted_and_mirrored(self, images: tf.Tensor, draws: Draws) -> tf.Tensor:
        """The rest of the augmentation of images of which windows have been cut out already."""
        if self.crop_padding:
            height, width = images.shape[1], images.shape[2]
            pad = self.crop_padding
            padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
            rows = draws.offsets[:, :1] + tf.range(height)
            columns = draws.offsets[:, 1:] + tf.range(width)
            images = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
        if self.horizontal_flip:
            images = _mirrored(images, draws.mirrored)
        return images

    def of_rows(self, images: StoredImages, rows: tf.Tensor, draws: Draws) -> tf.Tensor:
        """Reads, decodes and augments some rows, `[b]`: `[b, H, W, C]` uint8."""
        if self.resized_crop:
            decode = functools.partial(decoding.decode_window, image_shape=images.image_shape)
            squares = decoding.decode_rows(images, rows, decode, decoding.cut_out, draws.windows)
        else:
            squares = _centres(images, rows)
        return self.shifted_and_mirrored(squares, draws)


def _mirrored(images: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Images `[B, H, W, C]`, of which the chosen ones, `[B]` bool, are reversed from left to right."""
    # `tf.where` with a broadcast condition takes ten times as long, and `tf.reverse` of four axes twice as long.
    groups = tf.cast(chosen, tf.int32)
    kept, turned = tf.dynamic_partition(images, groups, 2)
    rows = tf.reshape(turned, [-1, *images.shape[2:]])
    turned = tf.reshape(tf.reverse(rows, axis=[1]), tf.shape(turned))
    positions = tf.dynamic_partition(tf.range(tf.size(chosen)), groups, 2)
    return tf.ensure_shape(tf.dynamic_stitch(positions, [kept, turned]), images.shape)


def training_batches(
    data: LabelledImages,
    batch_size: int,
    epochs: int,
    seed: int,
    augmentation: Augmentation,
    share: Share = ONE_REPLICA,
    mixture: Mixture | None = None,
    jittered: np.ndarray | None = None,
    first: int = 0,
) -> tf.data.Dataset:
    """Batches of all epochs, one after the other; each epoch in an order of its own, its last batch perhaps smaller.

    Args:
      data: images uint8 (or float32 exemplars on the same scale).
      batch_size: B, over all replicas.
      epochs: passes over the data.
      seed: of this stage.
      augmentation: applied to each batch.
      share: whose parts of each batch are wanted.
      mixture: pairs new images with memory in each batch; every batch is full then, and there are as many as without,
        or as it says. None for plain batches.
      jittered: which images get the stronger augmentation of `jitter`, `[n]` bool; None for none of them.
      first: the batch to begin with, counted over all epochs; those before it are left out. 0 by default.

    Returns:
      A dataset of `(images [b, H, W, C] of the data's dtype, labels [b] int64)`, or soft labels `[b, K + M]` float32
      where the data has them: for each batch one element a replica of the share, with consecutive parts.
    """
    count = len(data)
    used = images_per_epoch(count, batch_size, share.num_replicas)
    with tf.device("/CPU:0"):
        labels = tf.constant(data.targets)
    read = _training_images(data, augmentation)

    def load(step: tf.Tensor, indices: tf.Tensor, replica: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        part = _part(tf.size(indices), replica, share)
        # Several draws a batch want seeds that no other batch uses.
        batch_seed = tf.stack([tf.constant(seed, tf.int64), 2 * step])
        draws = augmentation.draw(tf.size(indices), batch_seed)
        own, draws = tf.gather(indices, part), Draws(*(tf.gather(drawn, part) for drawn in draws))
        images = read(own, draws)
        if jittered is not None:
            images = _jittered(images, tf.gather(tf.constant(jittered), own), tf.size(indices), part, batch_seed)
        return images, tf.gather(labels, own)

    if mixture is not None and mixture.pairs:
        batches = mixture.batches(batch_size, epochs * mixture.steps(num_batches(used, batch_size)), seed).enumerate()
        batches = batches.skip(first)
    else:
        batches = _plain_batches(count, used, batch_size, epochs, seed, first)
    return _loaded(batches, share, load, data)


def _plain_batches(count: int, used: int, batch_size: int, epochs: int, seed: int, first: int) -> tf.data.Dataset:
    """The numbers of batches and positions of their images: in each epoch `used` of `count`, in an order of its own."""

    @tf.autograph.experimental.do_not_convert
    def epoch_indices(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), epoch_seed)
        return tf.data.Dataset.from_tensor_slices(order[:used]).batch(batch_size)

    # Epochs before the first batch are not even shuffled.
    epoch, place = divmod(first, num_batches(used, batch_size))
    return tf.data.Dataset.range(epoch, epochs).flat_map(epoch_indices).enumerate(first - place).skip(place)


def _training_images(data: LabelledImages, augmentation: Augmentation) -> Callable[[tf.Tensor, Draws], tf.Tensor]:
    """A function of positions `[b]` and their draws that returns augmented images `[b, H, W, C]`."""
    if isinstance(data.images, StoredImages):
        return functools.partial(augmentation.of_rows, data.images)
    with tf.device("/CPU:0"):  # whole data sets do not belong on a GPU
        pixels = tf.constant(data.images)
        coded = None if data.coded is None else tf.constant(data.coded)

    def read(positions: tf.Tensor, draws: Draws) -> tf.Tensor:
        images = tf.gather(pixels, positions)
        if coded is not None:
            images = tf.where(draws.coded[:, None, None, None], tf.gather(coded, positions), images)
        return augmentation(images, draws)

    return read


def _jittered(
    images: tf.Tensor, chosen: tf.Tensor, count: tf.Tensor, part: tf.Tensor, batch_seed: tf.Tensor
) -> tf.Tensor:
    """A replica's images, of which the chosen ones, `[b]` bool, are jittered by their draws in a batch of `count`."""
    draws = jitter.JitterDraws(*(tf.gather(drawn, part) for drawn in jitter.draw(count, batch_seed)))
    changed = jitter.jittered(images, draws)
    return tf.where(chosen[:, None, None, None], changed, images)


def _loaded(
    batches: tf.data.Dataset, share: Share, load: Callable[..., tf.Tensor | tuple[tf.Tensor, ...]], data: LabelledImages
) -> tf.data.Dataset:
    """What `load` makes of each batch `(step, indices)` and the number of every replica of the share, in turn."""
    calls, plain = _parallel_calls(data), tf.autograph.experimental.do_not_convert
    if share.count == 1:
        # Every function of a pipeline is traced for each pass: two fewer are a third of what it takes to begin one.
        replica = tf.constant(share.first, tf.int64)
        only = plain(lambda step, indices: load(step, indices, replica))
        return batches.map(only, num_parallel_calls=calls).prefetch(2)
    replicas = tf.data.Dataset.range(share.first, share.first + share.count)
    each = batches.flat_map(plain(lambda step, indices: replicas.map(lambda replica: (step, indices, replica))))
    return each.map(plain(load), num_parallel_calls=calls).prefetch(2)


def _part(size: tf.Tensor, replica: tf.Tensor, share: Share) -> tf.Tensor:
    """Positions of a replica's part of a batch: parts are consecutive, and their sizes differ by one at most."""
    # In 64 bits, as replica is.
    size = tf.cast(size, tf.int64)
    return tf.range(replica * size // share.num_replicas, (replica + 1) * size // share.num_replicas)


def _parallel_calls(data: LabelledImages) -> int:
    """Batches that are made at once: gathering rows is quick, decoding takes all cores."""
    return min(_MOST_AT_ONCE, os.cpu_count() or 1) if isinstance(data.images, StoredImages) else 1


def _centres(images: StoredImages, rows: tf.Tensor) -> tf.Tensor:
    decode = functools.partial(decoding.decode_centre, image_shape=images.image_shape, resized_side=images.resized_side)
    seeds = tf.zeros([tf.size(rows), 2], tf.int64)  # nothing is random
    return decoding.decode_rows(
        images, rows, lambda content, turn, _: decode(content, turn), lambda image, _: image, seeds
    )


def evaluation_batches(
    data: LabelledImages, batch_size: int, share: Share = ONE_REPLICA, mirrored: bool = False, first: int = 0
) -> tf.data.Dataset:
    """Batches of images alone, in their order, without augmentation.

    Args:
      data: images.
      batch_size: B, over all replicas.
      share: whose parts of each batch are wanted.
      mirrored: mirror every image.
      first: the batch to begin with. 0 by default.

    Returns:
      A dataset of `[b, H, W, C]` of the data's dtype: for each batch one element a replica of the share, with
      consecutive parts of `ceil(B / replicas)` images. Where the images do not last for that, the last one is repeated.
    """
    with tf.device("/CPU:0"):
        pixels = None if isinstance(data.images, StoredImages) else tf.constant(data.images)

    def load(step: tf.Tensor, indices: tf.Tensor, replica: tf.Tensor) -> tf.Tensor:
        size = tf.size(indices)
        each = -(-size // share.num_replicas)
        part = tf.minimum(tf.cast(replica, tf.int32) * each + tf.range(each), size - 1)
        own = tf.gather(indices, part)
        images = _centres(data.images, own) if isinstance(data.images, StoredImages) else tf.gather(pixels, own)
        return tf.reverse(images, axis=[2]) if mirrored else images

    batches = tf.data.Dataset.range(first * batch_size, len(data)).batch(batch_size).enumerate()
    return _loaded(batches, share, load, data)
