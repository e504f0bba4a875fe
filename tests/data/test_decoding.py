"""From encoded images to squares of pixels."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from image_files import KINDS, bmp, painted, png
from pictures import encoded, noise

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import decoding, pipeline
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages


def _noise(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def _seed(number: int) -> tf.Tensor:
    return tf.constant([number, 7], tf.int64)


def _store(folder: Path, *contents: bytes, size: int = 4, resized_side: int | None = None) -> StoredImages:
    paths = [folder / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return StoredImages.of_files([str(path) for path in paths], size, resized_side)


def _bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resized by interpolation between the two nearest pixels on each axis, whose centres are at 0.5, 1.5, ..."""
    result = image.astype(np.float64)
    for axis, size in enumerate((height, width)):
        last = image.shape[axis] - 1
        places = np.clip((np.arange(size) + 0.5) * image.shape[axis] / size - 0.5, 0, last)
        lower = np.floor(places).astype(int)
        share = (places - lower).reshape([-1 if each == axis else 1 for each in range(3)])
        upper = np.minimum(lower + 1, last)
        result = result.take(lower, axis) * (1 - share) + result.take(upper, axis) * share
    return result


def _check_rounded(pixels: tf.Tensor, expected: np.ndarray) -> None:
    """Whether each pixel is one of the whole numbers next to what is expected, or nearly."""
    pixels = np.asarray(pixels)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=0.5 + 1e-3)


def test_image_of_the_right_side_is_cut_and_not_touched():
    image = _noise(5, 8)
    # Of the columns left over, one stands on the left and two on the right.
    np.testing.assert_array_equal(decoding.centre_square(image, 5), image[:, 1:6])
    np.testing.assert_array_equal(decoding.centre_square(image, 3, resized_side=5), image[1:4, 2:5])
    np.testing.assert_array_equal(decoding.centre_square(image.transpose(1, 0, 2), 5), image.transpose(1, 0, 2)[1:6])


def test_smaller_images_are_averaged_with_the_weights_of_a_triangle():
    # 16 x 12 to 8 x 6, of which the middle 4 x 4 is rows 2 to 5 and columns 1 to 4: none at an edge. A pixel of the
    # half-sized image is at 2i + 1; the centres of the four within two pixels of it are 0.5 and 1.5 away, and a
    # triangle of that width gives them 3/4 and 1/4, so 3/8 and 1/8 of the sum.
    image = _noise(16, 12).astype(float)
    halved = np.stack([image[2 * i - 1 : 2 * i + 3].T @ [1 / 8, 3 / 8, 3 / 8, 1 / 8] for i in range(2, 6)])
    halved = halved.transpose(0, 2, 1)  # rows, columns, channels
    halved = np.stack(
        [np.tensordot(halved[:, 2 * i - 1 : 2 * i + 3], [1 / 8, 3 / 8, 3 / 8, 1 / 8], ([1], [0])) for i in range(1, 5)],
        axis=1,
    )
    _check_rounded(decoding.centre_square(image.astype(np.uint8), 4, resized_side=6), halved)


def test_larger_images_are_interpolated():
    image = _noise(3, 5)
    # 3 x 5 to 6 x 10, columns 2 to 7.
    _check_rounded(decoding.centre_square(image, 6), _bilinear(image, 6, 10)[:, 2:8])


def test_sides_of_any_length_give_a_square():
    for height, width in ((1, 1), (2, 3), (7, 5), (13, 17), (31, 8)):
        for size, side in ((4, None), (4, 5), (5, 9)):
            square = decoding.centre_square(painted((10, 20, 250), height, width), size, side)
            np.testing.assert_array_equal(square, painted((10, 20, 250), size, size))


def test_of_a_long_strip_the_middle_shows():
    strip = painted(9, 2, 1001)
    strip[:, 499:503] = _noise(2, 4)
    np.testing.assert_array_equal(decoding.centre_square(strip, 2), strip[:, 499:501])
    # As a whole it would take 3 * 2e12 bytes.
    long = np.broadcast_to(np.array([7], np.uint8), (1, 2_000_000, 3))
    np.testing.assert_array_equal(decoding.centre_square(long, 1000), painted(7, 1000, 1000))


def test_windows_lie_inside_and_have_the_sizes_asked_for():
    height, width = 60, 90
    windows = np.array(
        [decoding.random_window(tf.constant([height, width, 3]), _seed(number)) for number in range(400)]
    )
    top, left, high, wide = windows.T
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] >= 1).all()
    assert (top + high <= height).all()
    assert (left + wide <= width).all()
    area = high * wide / (height * width)
    assert area.min() >= 0.08
    # Sides are rounded to pixels.
    assert ((wide + 1) / high >= 3 / 4).all()
    assert ((wide - 1) / high <= 4 / 3).all()
    # Both ends of both ranges are met, and windows on all sides. The largest has 60 * 80 / 5400 = 0.89 of the area.
    assert area.min() < 0.12
    assert area.max() > 0.7
    assert (wide / high).min() < 0.8
    assert (wide / high).max() > 1.25
    assert min((top == 0).mean(), (left == 0).mean()) < 0.5
    assert (top + high == height).any()
    assert (left > width / 2).any()


def test_windows_follow_their_seed():
    extent = tf.constant([50, 50])
    first, again = ([decoding.random_window(extent, _seed(n)).numpy().tolist() for n in range(20)] for _ in range(2))
    assert first == again
    assert len({tuple(window) for window in first}) == 20
    with_channels = [decoding.random_window(tf.constant([50, 50, 3]), _seed(n)).numpy().tolist() for n in range(20)]
    assert with_channels == first


@pytest.mark.parametrize("extent", [(4, 400), (400, 4), (1, 1)])
def test_where_no_window_fits_the_whole_image_is_taken(extent):
    # 4 pixels high and at most 4:3 wide are 4 * 5 / 1600 = 1.25 % of the area.
    for number in range(20):
        window = decoding.random_window(tf.constant(extent), _seed(number))
        np.testing.assert_array_equal(window, [0, 0, *extent])


def _window_of(image: np.ndarray, number: int) -> np.ndarray:
    top, left, height, width = decoding.random_window(tf.constant(image.shape), _seed(number)).numpy()
    return image[top : top + height, left : left + width]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_window_of_pixels_is_resized_to_the_images_own_size_and_keeps_its_dtype(dtype):
    image = _noise(9, 12, channels=2).astype(dtype)
    for number in range(10):
        window = decoding.cut_out(tf.constant(image), _seed(number)).numpy()
        expected = _bilinear(_window_of(image, number), 9, 12)
        assert window.dtype == dtype
        np.testing.assert_allclose(window, expected, rtol=0, atol=0.5 + 1e-3 if dtype == np.uint8 else 1e-3)


def _decoded_window(content: bytes, number: int, size: int = 6) -> np.ndarray:
    return decoding.decode_window(tf.constant(content), None, _seed(number), (size, size, 3)).numpy()


@pytest.mark.parametrize("channels", [3, 1])
def test_window_of_a_png_is_that_of_its_pixels(channels):
    image = _noise(20, 15, channels=channels)
    for number in range(10):
        expected = _bilinear(
            np.broadcast_to(_window_of(image, number), (*_window_of(image, number).shape[:2], 3)), 6, 6
        )
        _check_rounded(_decoded_window(png(image), number), expected)


def test_window_of_a_jpeg_is_that_of_the_whole_image():
    # Waves, whose colours change slowly enough for what JPEG does to them.
    rows, columns = np.mgrid[0:70, 0:100]
    image = np.stack([128 + 100 * np.sin(rows / 9), 128 + 100 * np.cos(columns / 11), rows + columns], -1)
    for downsampled, tolerance in ((False, 0.5 + 1e-3), (True, 3.0)):  # at its edges, downsampled colour differs
        content = tf.io.encode_jpeg(image.astype(np.uint8), quality=90, chroma_downsampling=downsampled)
        whole = tf.io.decode_jpeg(content, dct_method="INTEGER_FAST").numpy()
        for number in range(10):
            expected = _bilinear(_window_of(whole, number), 12, 12)
            window = _decoded_window(content.numpy(), number, 12)
            np.testing.assert_allclose(window, expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> StoredImages:
    """A file of every kind."""
    return _store(tmp_path_factory.mktemp("kinds"), *(content for content, _, _ in KINDS.values()))


def _decoded(images: StoredImages, windows: bool) -> np.ndarray:
    """All rows, decoded in one graph of tf.data."""

    def decode(rows: tf.Tensor) -> tf.Tensor:
        seeds = tf.stack([rows, rows], axis=1)
        if windows:
            window = functools.partial(decoding.decode_window, image_shape=images.image_shape)
            return decoding.decode_rows(images, rows, window, decoding.cut_out, seeds)
        shape, side = images.image_shape, images.resized_side
        return decoding.decode_rows(
            images,
            rows,
            lambda content, turn, _: decoding.decode_centre(content, turn, shape, side),
            lambda bare, _: bare,
            seeds,
        )

    (batch,) = tf.data.Dataset.range(len(images)).batch(len(images)).map(decode)
    assert batch.shape == images.shape
    return batch.numpy()


@pytest.mark.parametrize("windows", [False, True], ids=["centre", "window"])
def test_every_kind_of_file_is_decoded_in_graphs(windows, kinds):
    for image, (name, (_, colour, tolerance)) in zip(_decoded(kinds, windows), KINDS.items(), strict=True):
        np.testing.assert_allclose(image.astype(int), painted(colour), atol=tolerance, err_msg=name)


_COLOURS = np.array([[200, 100, 50], [0, 255, 3], [9, 8, 7]], np.uint8)


def test_bitmap_with_a_palette_has_the_same_colours_in_graphs(tmp_path):
    palette = b"".join(bytes([blue, green, red, 0]) for red, green, blue in _COLOURS.tolist())
    indices = np.array([[0, 1, 2, 2], [1, 1, 0, 2], [2, 0, 1, 0], [0, 0, 2, 1]], np.uint8)
    content = bmp(8, [row.tobytes() for row in indices[::-1]], 4, palette)
    np.testing.assert_array_equal(decoding.pixels(content), _COLOURS[indices])
    np.testing.assert_array_equal(_decoded(_store(tmp_path, content), windows=False)[0], _COLOURS[indices])


def test_pixels_that_look_like_the_header_of_a_bitmap_are_pixels():
    images = _noise(4, 4)[None]
    header = bmp(8, [b"\0"], 1, b"\0" * 8)[:30]
    images.reshape(-1)[: len(header)] = list(header)
    stored = StoredImages.of_array(images)
    np.testing.assert_array_equal(_decoded(stored, windows=False), images)
    np.testing.assert_array_equal(decoding.in_memory(LabelledImages(stored, np.zeros(1, int))).array, images)


def _mixed(folder: Path) -> tuple[StoredImages, np.ndarray]:
    """Files, pieces of a file and pixels in memory, 4 x 4, in disorder; and the images."""
    images = np.stack([_noise(4, 4, seed) for seed in range(9)])
    whole = _store(folder, *(png(image) for image in images[:4]))
    pieces = [png(image) for image in images[4:6]]
    (folder / "records").write_bytes(b"".join(pieces))
    offsets, lengths = np.array([0, len(pieces[0])]), np.array([len(piece) for piece in pieces])
    records = StoredImages(
        (str(folder / "records"),), np.zeros(2, int), offsets, lengths, np.zeros(2, bool), (4, 4, 3), 4
    )
    order = np.random.default_rng(5).permutation(9)
    return whole.joined(records).joined(images[6:])[order], images[order]


def test_rows_of_every_kind_keep_their_order(tmp_path):
    stored, images = _mixed(tmp_path)
    np.testing.assert_array_equal(_decoded(stored, windows=False), images)
    data = LabelledImages(stored, np.arange(9), np.eye(9, dtype=np.float32))
    decoded = decoding.in_memory(data)
    assert isinstance(decoded.images, np.ndarray)
    np.testing.assert_array_equal(decoded.images, images)
    np.testing.assert_array_equal(decoded.labels, data.labels)
    np.testing.assert_array_equal(decoded.soft_labels, data.soft_labels)


def test_images_are_decoded_into_memory_as_they_are_evaluated(tmp_path):
    contents = [png(_noise(6 + number % 5, 14 - number % 7, number)) for number in range(40)]
    stored = _store(tmp_path, *contents, size=4, resized_side=5)
    decoded = decoding.in_memory(LabelledImages(stored, np.arange(40))).array
    expected = [decoding.centre_square(decoding.pixels(content), 4, 5) for content in contents]
    np.testing.assert_array_equal(decoded, expected)
    # In graphs, too.
    np.testing.assert_array_equal(_decoded(stored, windows=False), decoded)


def test_arrays_and_nothing_need_no_decoding():
    array = LabelledImages(np.zeros((2, 3, 3, 1), np.float32), np.arange(2))
    assert decoding.in_memory(array) is array
    nothing = decoding.in_memory(LabelledImages(StoredImages.of_files([], 4), np.zeros(0, np.int64)))
    assert (nothing.array.shape, nothing.array.dtype) == ((0, 4, 4, 3), np.uint8)


def test_file_that_is_gone_is_named(tmp_path):
    stored = _store(tmp_path, png(painted(1)), png(painted(2)))
    os.remove(tmp_path / "1")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "1")):
        decoding.in_memory(LabelledImages(stored, np.arange(2)))
    with pytest.raises(tf.errors.OpError, match=str(tmp_path / "1")):
        _decoded(stored, windows=False)


def test_image_that_vanishes_while_it_is_trained_on_is_named(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for path in paths:
        path.write_bytes(tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy())
    data = LabelledImages(StoredImages.of_files([str(path) for path in paths], 4), np.zeros(8, np.int64))
    batches = iter(pipeline.training_batches(data, 2, 100, 0, pipeline.Augmentation()))
    next(batches)
    paths[3].unlink()
    with pytest.raises(UsageError) as raised, decoding.explaining_lost_files():
        for _ in batches:
            pass
    assert "An image cannot be read any more" in str(raised.value)
    assert str(paths[3]) in str(raised.value)
    assert "complete phases are kept" in str(raised.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_image_that_is_damaged_while_it_is_measured_by_is_told_in_a_line(tmp_path, kind):
    paths = [tmp_path / f"{number}" for number in range(4)]
    for path in paths:
        path.write_bytes(encoded(noise(), kind))
    data = LabelledImages(StoredImages.of_files([str(path) for path in paths], 4), np.zeros(4, np.int64))
    paths[2].write_bytes(paths[2].read_bytes()[:30])
    with (
        pytest.raises(UsageError, match="An image cannot be read any more") as raised,
        decoding.explaining_lost_files(),
    ):
        for _ in pipeline.evaluation_batches(data, 2):
            pass
    assert "\n" not in str(raised.value)


def test_other_errors_of_tensorflow_are_left_alone():
    with pytest.raises(tf.errors.InvalidArgumentError), decoding.explaining_lost_files():
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")
