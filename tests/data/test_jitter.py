"""Colour jitter and cutout, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.data import jitter

_FACTORS = np.array([[1.3, 0.7, 1.2], [0.6, 1.4, 0.9]], np.float32)
# Of an image of 8 x 12: the square is 2 x 3, around (4, 6), and beyond the corner at (0, 0).
_CENTRES = np.array([[0.5, 0.5], [0.0, 0.0]], np.float32)
_SQUARES = [(slice(3, 5), slice(5, 8)), (slice(0, 1), slice(0, 2))]


def _expected(image: np.ndarray, factors: np.ndarray, square) -> np.ndarray:
    brightness, contrast, saturation = factors.astype(np.float64)
    weights = [0.299, 0.587, 0.114] if image.shape[2] == 3 else [1.0]
    pixels = image * brightness
    mean = (pixels @ weights).mean()
    pixels = mean + contrast * (pixels - mean)
    if image.shape[2] == 3:
        grey = (pixels @ weights)[..., None]
        pixels = grey + saturation * (pixels - grey)
    pixels = np.clip(pixels, 0, 255)
    mean_colour = pixels.mean(axis=(0, 1))
    pixels[square] = mean_colour
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_numpy(channels):
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 12, channels)).astype(np.float32)
    draws = jitter.JitterDraws(tf.constant(_FACTORS), tf.constant(_CENTRES))
    expected = np.stack([_expected(*each) for each in zip(images, _FACTORS, _SQUARES, strict=True)])
    np.testing.assert_allclose(jitter.jittered(tf.constant(images), draws), expected, atol=1e-3)
    whole = images.astype(np.uint8)
    expected = np.stack([_expected(*each) for each in zip(whole, _FACTORS, _SQUARES, strict=True)])
    result = jitter.jittered(tf.constant(whole), draws).numpy()
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 0.5 + 1e-3


def test_draws_follow_from_the_seed_and_stay_in_their_ranges():
    seed = tf.constant([1, 2], tf.int64)
    first, again, other = (jitter.draw(500, each) for each in (seed, seed, seed + 7))
    np.testing.assert_array_equal(first.factors, again.factors)
    assert (first.centres.numpy() != other.centres.numpy()).all()
    assert 0.6 <= first.factors.numpy().min() < 0.65
    assert 1.35 < first.factors.numpy().max() <= 1.4
