"""Rows of images that stay in files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mnemonics_tf.data.stored import WHOLE_FILE, StoredImages
from mnemonics_tf.data.types import LabelledImages

_SHAPE = (2, 3, 3)  # 18 bytes


def _images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *_SHAPE), np.uint8)


def _whole_files(folder: Path, *contents: bytes, size: int = 2) -> StoredImages:
    """A file for each content, numbered."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return StoredImages.of_files([str(path) for path in paths], size)


def _pieces(path: Path, content: bytes, *pieces: tuple[int, int]) -> StoredImages:
    """Rows of one file, each from an offset on and so many bytes long."""
    path.write_bytes(content)
    offsets, lengths = np.array(pieces).T
    count = len(pieces)
    return StoredImages((str(path),), np.zeros(count, int), offsets, lengths, np.zeros(count, bool), (2, 2, 3), 2)


def _contents(images: StoredImages) -> list[bytes]:
    return [images.content(row) for row in range(len(images))]


def test_rows_look_like_the_array_they_stand_for(tmp_path):
    kinds = {
        "files": (StoredImages.of_files(["a.png", "b.jpg"], 5), (2, 5, 5, 3)),
        "pixels": (StoredImages.of_pixels("exemplars.npz", 100, 7, _SHAPE), (7, 2, 3, 3)),
        "array": (StoredImages.of_array(_images(4)), (4, 2, 3, 3)),
        "nothing": (StoredImages.of_files([], 5), (0, 5, 5, 3)),
    }
    for name, (images, shape) in kinds.items():
        assert (images.shape, len(images), images.dtype) == (shape, shape[0], np.uint8), name


def test_encoded_images_are_brought_to_their_own_size_unless_a_side_is_given():
    assert StoredImages.of_files(["a.png"], 5).resized_side == 5
    assert StoredImages.of_files(["a.png"], 5, 8).resized_side == 8


def test_whole_files_are_read_as_they_are(tmp_path):
    contents = [b"", b"short", bytes(range(256)) * 300]
    assert _contents(_whole_files(tmp_path, *contents)) == contents


def test_file_is_read_again_each_time(tmp_path):
    images = _whole_files(tmp_path, b"before")
    assert images.content(0) == b"before"
    (tmp_path / "0.png").write_bytes(b"and after")
    assert images.content(0) == b"and after"


def test_pieces_of_a_file_are_read_alone(tmp_path):
    images = _pieces(tmp_path / "records", b"0123456789", (7, 3), (0, 2), (3, 0), (1, 8))
    assert _contents(images) == [b"789", b"01", b"", b"12345678"]


def test_pieces_far_into_a_large_file_are_found(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:  # 5 GB of which nothing is stored but the end
        file.seek(5_000_000_000)
        file.write(b"tail")
    images = StoredImages.of_pixels(str(path), 5_000_000_000, 4, (1, 1, 1))
    assert _contents(images) == [b"t", b"a", b"i", b"l"]


def test_bare_pixels_follow_one_another_in_a_file(tmp_path):
    images = _images(3)
    (tmp_path / "pixels").write_bytes(b"header" + images.tobytes() + b"more")
    stored = StoredImages.of_pixels(str(tmp_path / "pixels"), 6, 3, _SHAPE)
    assert _contents(stored) == [image.tobytes() for image in images]
    assert stored.is_pixels.all()


@pytest.mark.parametrize("order", ["C", "reversed", "Fortran"])
def test_images_in_memory_are_rows_of_their_pixels(order):
    images = {"C": _images(3), "reversed": _images(3)[::-1, :, ::-1], "Fortran": np.asfortranarray(_images(3))}[order]
    assert _contents(StoredImages.of_array(images)) == [image.tobytes() for image in images]


def test_images_in_memory_must_be_bytes():
    with pytest.raises(ValueError, match="Images are float32: expected uint8"):
        StoredImages.of_array(_images(1).astype(np.float32))


@pytest.mark.parametrize(
    "rows",
    [[2, 0, 2], np.array([4, 3]), np.array([True, False, False, True, True]), slice(1, None, 2), np.zeros(0, int)],
    ids=["positions", "array", "mask", "slice", "none"],
)
def test_rows_are_chosen_as_those_of_an_array(rows, tmp_path):
    contents = np.array([b"aa", b"bb", b"cc"])
    stored = _whole_files(tmp_path, *contents.tolist()).joined(_pieces(tmp_path / "records", b"ddee", (0, 2), (2, 2)))
    chosen = stored[rows]
    assert _contents(chosen) == np.array([b"aa", b"bb", b"cc", b"dd", b"ee"])[rows].tolist()
    assert chosen.shape == (len(chosen), 2, 2, 3)
    # And chosen from once more.
    assert _contents(chosen[::-1]) == _contents(chosen)[::-1]


def test_choosing_and_joining_opens_nothing():
    missing = StoredImages.of_files([f"/no/such/{number}.png" for number in range(4)], 2)
    joined = missing[[3, 1]].joined(missing[missing.file < 2])
    assert [joined.place(row) for row in range(4)] == [f"/no/such/{number}.png" for number in (3, 1, 0, 1)]


def test_rows_follow_one_another_when_joined_whatever_they_are(tmp_path):
    whole = _whole_files(tmp_path, b"one", b"two", size=2)
    pieces = _pieces(tmp_path / "records", b"threefour", (5, 4), (0, 5))
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    joined = whole.joined(pieces).joined(pixels).joined(whole)
    expected = [b"one", b"two", b"four", b"three", bytes(range(12)), bytes(range(12, 24)), b"one", b"two"]
    assert _contents(joined) == expected
    np.testing.assert_array_equal(joined.is_pixels, np.repeat([False, True, False], [4, 2, 2]))
    np.testing.assert_array_equal(joined.length[:2], [WHOLE_FILE] * 2)
    assert _contents(joined[[6, 4, 3]]) == [b"one", bytes(range(12)), b"three"]
    assert _contents(whole.joined(whole)) == [b"one", b"two"] * 2


def test_labelled_images_are_joined_in_either_order(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    stored = LabelledImages(_whole_files(tmp_path, b"one", b"two"), np.array([4, 5]))
    array = LabelledImages(pixels, np.array([6]))
    for joined, contents, labels in (
        (stored.join(array), [b"one", b"two", pixels.tobytes()], [4, 5, 6]),
        (array.join(stored), [pixels.tobytes(), b"one", b"two"], [6, 4, 5]),
    ):
        assert _contents(joined.images) == contents
        np.testing.assert_array_equal(joined.labels, labels)
    with pytest.raises(ValueError, match="These images are in files: expected an array"):
        _ = stored.array


@pytest.mark.parametrize(
    "other",
    [
        _images(1).astype(np.float32),
        np.zeros((1, 3, 2, 3), np.uint8),
        np.zeros((1, 2, 3, 1), np.uint8),
        StoredImages.of_files(["a.png"], 2),
    ],
    ids=["float", "turned", "grey", "files"],
)
def test_images_of_another_kind_or_shape_are_not_joined(other):
    with pytest.raises(ValueError, match=r"cannot follow stored images uint8 \(2, 3, 3\): expected the same shape"):
        StoredImages.of_array(_images(2)).joined(other)


def test_side_of_encoded_images_outlives_bare_pixels():
    encoded = StoredImages.of_files(["a.png"], 4, 6)
    bare = np.zeros((1, 4, 4, 3), np.uint8)
    assert encoded.joined(bare).resized_side == 6
    assert StoredImages.of_array(bare).joined(encoded).resized_side == 6
    assert encoded[:0].joined(encoded).resized_side == 6


def test_file_that_is_gone_or_has_become_shorter_is_an_error_of_the_system(tmp_path):
    pieces = _pieces(tmp_path / "records", b"0123456789", (0, 4), (4, 6))
    pixels = StoredImages.of_pixels(str(tmp_path / "records"), 0, 1, (1, 3, 3))
    os.truncate(tmp_path / "records", 8)
    assert pieces.content(0) == b"0123"
    for images, row in ((pieces, 1), (pixels, 0)):
        with pytest.raises(OSError, match="records has become shorter since it was listed"):
            images.content(row)
    os.remove(tmp_path / "records")
    with pytest.raises(FileNotFoundError):
        pieces.content(0)


def test_place_names_the_file_and_the_byte(tmp_path):
    whole = _whole_files(tmp_path, b"one")
    pieces = _pieces(tmp_path / "records", b"0123456789", (4, 6), (0, 4))
    joined = whole.joined(pieces).joined(np.zeros((2, 2, 2, 3), np.uint8))
    assert [joined.place(row) for row in range(5)] == [
        f"{tmp_path}/0.png",
        f"{tmp_path}/records at byte 4",
        f"{tmp_path}/records at byte 0",
        "memory at byte 0",
        "memory at byte 12",
    ]


def test_checksum_is_that_of_the_contents_in_their_order(tmp_path):
    first = _whole_files(tmp_path / "a", b"one", b"two", b"two")
    known = first.checksum()
    # Where contents are makes no difference.
    assert _whole_files(tmp_path / "b", b"one", b"two", b"two").checksum() == known
    assert first[[0, 2, 1]].checksum() == known
    assert _pieces(tmp_path / "records", b"onetwo", (0, 3), (3, 3), (3, 3)).checksum() == known
    assert len(known) == 64
    others = [first[[1, 0, 2]], first[:2], first[:0], _whole_files(tmp_path / "c", b"one", b"two", b"twO")]
    # The same bytes, dealt out otherwise.
    others += [_whole_files(tmp_path / "d", b"onet", b"wo", b"two"), _whole_files(tmp_path / "e", b"onetwotwo")]
    assert len({known, *(images.checksum() for images in others)}) == 7


def test_checksum_of_pixels_is_the_same_in_memory_and_in_a_file(tmp_path):
    images = _images(3)
    (tmp_path / "pixels").write_bytes(images.tobytes())
    in_file = StoredImages.of_pixels(str(tmp_path / "pixels"), 0, 3, _SHAPE)
    assert in_file.checksum() == StoredImages.of_array(images).checksum()


def test_rows_of_one_data_set_are_joined_without_its_paths_being_copied():
    images = StoredImages.of_files(["a", "b", "c"], 4)
    joined = images[np.array([2])].joined(images[np.array([0, 1])])
    assert joined.files is images.files
    assert [joined.place(row) for row in range(3)] == ["c", "a", "b"]
