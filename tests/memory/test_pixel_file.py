"""The file in which exemplars of streamed data sets wait."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.pixel_file import PixelFile, as_pixels

_SHAPE = (4, 4, 3)


def _images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *_SHAPE), np.uint8)


def _file(folder: Path) -> PixelFile:
    return PixelFile(str(folder / "pixels"), _SHAPE)


def _in_files(folder: Path, images: np.ndarray) -> StoredImages:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    return StoredImages.of_files([str(path) for path in paths], 4)


def _pixels_of(images: StoredImages) -> np.ndarray:
    assert images.is_pixels.all()
    return np.stack([np.frombuffer(images.content(row), np.uint8).reshape(_SHAPE) for row in range(len(images))])


def test_rows_stay_where_they_are_while_the_file_grows(tmp_path):
    file, images = _file(tmp_path), _images(6)
    first = file.append(images[:1])
    second = file.append(images[1:4, :, ::-1])  # whose bytes do not follow one another in memory
    nothing = file.append(images[:0])
    third = file.append(images[4:])
    for rows, expected in ((first, images[:1]), (second, images[1:4, :, ::-1]), (third, images[4:])):
        assert rows.shape == expected.shape
        np.testing.assert_array_equal(_pixels_of(rows), expected)
    assert nothing.shape == (0, *_SHAPE)
    assert (tmp_path / "pixels").stat().st_size == 6 * 48
    assert {rows.files for rows in (first, second, third)} == {(str(tmp_path / "pixels"),)}


def test_file_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "pixels").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        _file(tmp_path)
    assert (tmp_path / "pixels").read_bytes() == b"precious"


@pytest.mark.parametrize("place", ["files", "memory", "both"])
def test_exemplars_become_rows_of_pixels_in_their_order(place, tmp_path):
    images = _images(9)
    kept = {
        "files": lambda: _in_files(tmp_path, images),
        "memory": lambda: images,
        "both": lambda: _in_files(tmp_path, images[:5]).joined(images[5:]),
    }[place]()
    order = np.random.default_rng(3).permutation(9)
    data = LabelledImages(kept, np.arange(9), np.eye(9, dtype=np.float32)).take(order)
    stored = as_pixels(data, _file(tmp_path))
    np.testing.assert_array_equal(_pixels_of(stored.images), images[order])
    np.testing.assert_array_equal(stored.labels, order)
    np.testing.assert_array_equal(stored.soft_labels, data.soft_labels)


def test_more_exemplars_than_are_decoded_at_a_time_keep_their_order(tmp_path):
    kinds = _in_files(tmp_path, _images(5))
    rows = np.arange(600) % 5
    stored = as_pixels(LabelledImages(kinds[rows], rows), _file(tmp_path))
    np.testing.assert_array_equal(_pixels_of(stored.images), _images(5)[rows])
    np.testing.assert_array_equal(stored.labels, rows)
    assert (tmp_path / "pixels").stat().st_size == 600 * 48


def test_exemplars_are_decoded_as_they_are_evaluated(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    (tmp_path / "0.png").write_bytes(tf.io.encode_png(image).numpy())
    data = LabelledImages(StoredImages.of_files([str(tmp_path / "0.png")], 4, 6), np.zeros(1, int))
    stored = as_pixels(data, _file(tmp_path))
    np.testing.assert_array_equal(_pixels_of(stored.images), in_memory(data).array)


def test_rows_of_pixels_and_nothing_stay_what_they_are(tmp_path):
    file = _file(tmp_path)
    rows = LabelledImages(file.append(_images(3)), np.arange(3))
    assert as_pixels(rows, file) is rows
    nothing = LabelledImages(StoredImages.of_files([], 4), np.zeros(0, int))
    assert len(as_pixels(nothing, file)) == 0
    assert (tmp_path / "pixels").stat().st_size == 3 * 48
