"""Normalisation and its inverse."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import PixelRange

_RANGE = PixelRange(mean=(0.5, 0.25), std=(0.2, 0.5))


def _every_pixel_value() -> np.ndarray:
    """`[256, 1, 1, 2]`: 0 to 255 in both channels."""
    return np.repeat(np.arange(256, dtype=np.uint8), 2).reshape(256, 1, 1, 2)


def test_normalised_pixels_by_hand():
    images = np.array([[[[0, 0]], [[255, 255]], [[51, 102]]]], np.uint8)
    # (0 - 0.5) / 0.2 = -2.5; (0 - 0.25) / 0.5 = -0.5; (1 - 0.5) / 0.2 = 2.5; (1 - 0.25) / 0.5 = 1.5;
    # 51 / 255 = 0.2: (0.2 - 0.5) / 0.2 = -1.5; 102 / 255 = 0.4: (0.4 - 0.25) / 0.5 = 0.3.
    expected = [[[[-2.5, -0.5]], [[2.5, 1.5]], [[-1.5, 0.3]]]]
    normalised = pixels.normalise(images, _RANGE)
    assert normalised.dtype == "float32"
    np.testing.assert_allclose(normalised, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_every_dtype_is_on_the_scale_of_bytes(dtype):
    images = np.full((1, 1, 1, 2), 255, dtype)
    np.testing.assert_allclose(pixels.normalise(images, _RANGE).numpy().ravel(), [2.5, 1.5], atol=1e-6)


def test_every_pixel_value_survives_the_round_trip():
    images = _every_pixel_value()
    back = pixels.denormalise(pixels.normalise(images, _RANGE), _RANGE)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, images.astype(np.float64), atol=1e-3)
    np.testing.assert_array_equal(pixels.to_uint8(back), images)


def test_denormalised_values_are_clipped_to_real_pixels():
    # Channel 0 reaches -2.5..2.5, channel 1 -0.5..1.5: beyond that there is no pixel.
    images = np.array([[[[-2.6, -0.6]], [[9.0, 9.0]]]], np.float32)
    np.testing.assert_array_equal(pixels.denormalise(images, _RANGE), [[[[0.0, 0.0]], [[255.0, 255.0]]]])


def test_bounds_are_the_normalised_values_of_black_and_white():
    low, high = pixels.valid_bounds(_RANGE)
    np.testing.assert_allclose(low, [-2.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(high, [2.5, 1.5], atol=1e-6)


def test_bounds_clip_nothing_that_is_a_pixel():
    normalised = pixels.normalise(_every_pixel_value(), _RANGE).numpy()
    low, high = pixels.valid_bounds(_RANGE)
    np.testing.assert_allclose(np.clip(normalised, low, high), normalised, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_bytes_are_clipped_and_do_not_wrap_around(dtype):
    converted = pixels.to_uint8(np.array([-300, -1, 0, 255, 256, 300, 1000], dtype))
    assert converted.dtype == np.uint8
    np.testing.assert_array_equal(converted, [0, 0, 0, 255, 255, 255, 255])


def test_bytes_are_rounded_to_the_nearest():
    np.testing.assert_array_equal(pixels.to_uint8(np.array([0.4, 0.6, 99.51, 254.49, 254.6])), [0, 1, 100, 254, 255])


def test_bytes_stay_as_they_are():
    images = _every_pixel_value()
    np.testing.assert_array_equal(pixels.to_uint8(images), images)
