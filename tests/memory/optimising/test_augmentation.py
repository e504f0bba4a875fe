"""Differentiable augmentation: the same draw for all images of a meta-step."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.memory.optimising.augmentation import AUGMENTATIONS, draw_transformation

SHAPE = (8, 16, 3)


def _images(seed: int = 0, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def _draws(*kinds: str, shape=SHAPE, count: int = 40):
    generator = np.random.default_rng(0)
    return [draw_transformation(kinds, shape, generator) for _ in range(count)]


def test_flip_mirrors_all_images_or_none():
    images = _images()
    mirrored = 0
    for transform in _draws("flip"):
        result = transform(tf.constant(images)).numpy()
        mirrored += np.array_equal(result, images[:, :, ::-1])
        assert np.array_equal(result, images) or np.array_equal(result, images[:, :, ::-1])
    assert 5 < mirrored < 35


def test_crop_shifts_all_images_alike_by_at_most_an_eighth():
    images = _images()
    padded = np.pad(images, [(0, 0), (1, 1), (2, 2), (0, 0)])
    candidates = {(top, left): padded[:, top : top + 8, left : left + 16] for top in range(3) for left in range(5)}
    seen = set()
    for transform in _draws("crop", count=100):
        result = transform(tf.constant(images)).numpy()
        (shift,) = [shift for shift, expected in candidates.items() if np.array_equal(result, expected)]
        seen.add(shift)
    assert len(seen) > 10


def test_colour_is_the_same_affine_change_for_every_image():
    first, second = _images(0), _images(1)
    for transform in _draws("colour", count=5):
        # Brightness, contrast and saturation are affine: what they do to a mixture is the mixture of what they do.
        mixed = transform(tf.constant(0.3 * first + 0.7 * second)).numpy()
        apart = 0.3 * transform(tf.constant(first)).numpy() + 0.7 * transform(tf.constant(second)).numpy()
        np.testing.assert_allclose(mixed, apart, atol=1e-5)
        assert np.abs(mixed - (0.3 * first + 0.7 * second)).max() > 0.01


def test_colour_keeps_grey_images_of_one_channel_single_channelled():
    (transform,) = _draws("colour", shape=(4, 4, 1), count=1)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    result = transform(tf.constant(images)).numpy()
    # Without saturation: result = mean + contrast * (image - mean) with one contrast in 0.5..1.5 for all.
    contrast = result.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    np.testing.assert_allclose(contrast, contrast[0], rtol=1e-4)
    assert 0.5 <= contrast[0] <= 1.5


def test_gradients_pass_all_transformations():
    images = tf.constant(_images())
    transform = _draws(*AUGMENTATIONS, count=1)[0]
    direction = tf.constant(_images(2))
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(transform(images) ** 2)
    analytic = float(tf.reduce_sum(tape.gradient(total, images) * direction))
    plus, minus = (float(tf.reduce_sum(transform(images + step * direction) ** 2)) for step in (0.1, -0.1))
    # A quadratic function: its central difference is exact for any step.
    assert analytic == pytest.approx((plus - minus) / 0.2, rel=1e-3)


def test_no_kinds_leave_images_alone():
    images = _images()
    np.testing.assert_array_equal(_draws(count=1)[0](tf.constant(images)).numpy(), images)
