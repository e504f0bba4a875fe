"""Several images of low resolution in the place of one."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import Mosaic, Pixels, codec_of, decode, decoded


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 6, 2), np.uint8)


def test_tiles_are_means_of_pixels_in_reading_order():
    images = _images(8)
    slots = Mosaic(factor=2).encode(images)
    assert slots.shape == (2, 4, 6, 2)
    # Tile (1, 0) of the second slot is the image 4 + 2; its pixel (1, 2) is the mean of rows 2-3 and columns 4-5.
    np.testing.assert_allclose(slots[1, 2 + 1, 2], images[6, 2:4, 4:6].mean(axis=(0, 1)), rtol=1e-6)


def test_constant_images_come_back_in_their_order():
    values = np.arange(8, dtype=np.float32) * 10
    images = np.broadcast_to(values[:, None, None, None], (8, 4, 6, 2))
    decoded = decode(tf.constant(Mosaic(factor=2).encode(images)), 2).numpy()
    np.testing.assert_allclose(decoded, images, atol=1e-5)


def test_decoding_interpolates_inside_a_tile_and_never_across_tiles():
    # One slot, 4 x 4, of 2 x 2 tiles. A row of a tile with pixels 0 and 8, doubled bilinearly with pixel centres at
    # (i + 1/2) / 2 - 1/2 = -0.25, 0.25, 0.75, 1.25, gives 0, 2, 6, 8.
    slot = np.zeros((1, 4, 4, 1), np.float32)
    slot[0, :2, 1] = 8
    slot[0, :, 2:] = 100
    decoded = decode(tf.constant(slot), 2).numpy()
    np.testing.assert_allclose(decoded[0, :, :, 0], np.tile([0, 2, 6, 8], (4, 1)), atol=1e-5)
    np.testing.assert_allclose(decoded[1], 100)


def test_gradient_reaches_every_pixel_of_a_slot():
    # Bilinear interpolation is linear and its weights sum to one: every pixel of a 2x tile counts 4 times in the sum.
    slots = tf.constant(Mosaic(factor=2).encode(_images(4)))
    with tf.GradientTape() as tape:
        tape.watch(slots)
        total = tf.reduce_sum(decode(slots, 2))
    np.testing.assert_allclose(tape.gradient(total, slots).numpy(), 4, rtol=1e-6)


def test_factor_one_leaves_images_alone():
    images = _images(3)
    assert Pixels().encode(images) is images
    np.testing.assert_array_equal(decode(tf.constant(images), 1).numpy(), images)


def test_decoded_exemplars_repeat_labels_and_soft_labels():
    soft = np.array([[0.7, 0.3], [0.2, 0.8]], np.float32)
    slots = Mosaic(factor=2).encode(_images(8))
    shown = decoded(LabelledImages(np.rint(slots).astype(np.uint8), np.array([1, 0]), soft), codec_of(2, False))
    assert shown.images.dtype == np.uint8
    # Exemplars kept as floats are trained on as floats.
    assert decoded(LabelledImages(slots, np.array([1, 0])), codec_of(2, False)).images.dtype == np.float32
    assert shown.images.shape == (8, 4, 6, 2)
    np.testing.assert_array_equal(shown.labels, [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(shown.soft_labels, np.repeat(soft, 4, axis=0))


@pytest.mark.parametrize("factor", [1, 2])
def test_bytes_of_the_memory_do_not_depend_on_the_factor(factor):
    assert codec_of(factor, False).encode(_images(4 * factor**2)).shape == (4, 4, 6, 2)
