"""Looking images in files through before a phase trains on them."""

from __future__ import annotations

import builtins
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from image_files import ANIMATED_WEBP, KINDS, SIZE, bmp, in_both, painted, png, shades, store

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import headers, reading
from mnemonics_tf.data.folder import folder
from mnemonics_tf.data.reading import check_enough, look_through, report_unreadable
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages


def _files(root: Path, files: dict[str, bytes | int], size: int = SIZE, resized_side: int | None = None):
    """Files as labelled images in the given order, labelled by their number."""
    path = store(root, files)
    images = StoredImages.of_files([os.path.join(path, name) for name in files], size, resized_side)
    return LabelledImages(images, np.arange(len(files)))


def _look(data: LabelledImages, keep: bool = True, **arguments) -> tuple[LabelledImages, dict[int, str]]:
    return look_through(data, "reading", keep, **arguments)


def test_images_of_the_right_size_are_kept_as_they_are(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    data = _files(tmp_path, {f"{number}.png": png(image) for number, image in enumerate(images)})
    readable, reasons = _look(data.take(np.array([2, 0, 3])))
    np.testing.assert_array_equal(readable.array, images[[2, 0, 3]])
    np.testing.assert_array_equal(readable.labels, [2, 0, 3])
    assert (readable.array.dtype, readable.labels.dtype, reasons) == (np.uint8, np.int64, {})
    assert capsys.readouterr().err == ""  # nothing to report


def test_pictures_of_every_kind_become_rgb(tmp_path):
    files = {f"{number:02}/{name}": content for number, (name, (content, _, _)) in enumerate(KINDS.items())}
    data = folder(store(tmp_path, in_both(files)), SIZE)
    readable, reasons = _look(data.train)
    assert reasons == {}
    assert readable.array.shape == (len(KINDS), SIZE, SIZE, 3)
    for image, (name, (_, colour, tolerance)) in zip(readable.array, KINDS.items(), strict=True):
        np.testing.assert_allclose(image.astype(int), painted(colour), atol=tolerance, err_msg=name)


def test_shorter_side_is_scaled_and_the_centre_square_cut_out(tmp_path):
    # 16 x 8: quarters of 10, the middle 200. Halved, the centre 4 x 4 is the middle, whose border columns antialiasing
    # mixes with their neighbours.
    wide = np.concatenate([painted(10, 8, 4), painted(200, 8, 8), painted(10, 8, 4)], axis=1)
    readable, _ = _look(_files(tmp_path, {"1.png": png(wide)}))
    np.testing.assert_array_equal(readable.array[0, :, 1:3], painted(200, 4, 2))


def test_square_is_cut_out_of_what_the_shorter_side_is_scaled_to(tmp_path):
    # 8 x 8 with a frame of 2 pixels: at its own size, the centre 4 x 4 is what the frame encloses.
    framed = painted(10, 8, 8)
    framed[2:6, 2:6] = 200
    data = _files(tmp_path, {"1.png": png(framed)}, resized_side=8)
    np.testing.assert_array_equal(_look(data)[0].array, painted(200)[None])
    assert (_look(_files(tmp_path, {"1.png": png(framed)}))[0].array != 200).any()


@pytest.mark.parametrize("keep", [True, False])
def test_order_is_kept_over_more_files_than_the_threads_get_at_a_time(keep, tmp_path):
    one_pixel = [png(painted(shade, 1, 1)) for shade in range(251)]
    files: dict[str, bytes | int] = {f"{number:04}.png": one_pixel[number % 251] for number in range(1100)}
    files |= {"0003.png": b"", "0700.png": b"junk"}
    data = _files(tmp_path, files, 1)
    readable, reasons = _look(data, keep)
    kept = [number for number in range(1100) if number not in (3, 700)]
    assert list(reasons) == [3, 700]
    np.testing.assert_array_equal(readable.labels, kept)
    pictures = readable if keep else _look(readable)[0]
    assert shades(pictures.array) == [number % 251 for number in kept]


def _broken(root: Path) -> LabelledImages:
    """Files 0 and 9 are whole."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    jpeg, whole = tf.io.encode_jpeg(noise).numpy(), png(painted(10))
    files: dict[str, bytes | int] = {
        "0.png": whole,
        "1.png": b"",
        "2.jpg": jpeg[: len(jpeg) // 2],
        "3.jpg": b"no picture at all",
        "4.webp": ANIMATED_WEBP,
        "5.bmp": bmp(1, [], 1, b"\0" * 8),
        "6.png": whole[:-20],
        "7.png": whole,
        "8.png": whole,
        "9.png": 30,
        "10.png": whole,
    }
    data = _files(root, files)
    for name in ("7.png", "8.png", "10.png"):
        (root / name).unlink()
    (root / "7.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "8.png")  # reading it would wait for ever
    return data


_REASONS = {
    1: "the file is empty",
    2: "a truncated or damaged JPEG file",
    3: "Unknown image file format",
    4: "WebP Animation",
    5: "a BMP file without pixels",
    6: "Invalid PNG data",
    7: "not a file (a broken link, or a pipe)",
    8: "not a file (a broken link, or a pipe)",
    10: "there is no such file any more",
}


def test_files_that_cannot_be_read_are_left_out_with_a_reason_each(tmp_path):
    data = _broken(tmp_path)
    for keep in (True, False):
        readable, reasons = _look(data, keep)
        np.testing.assert_array_equal(readable.labels, [0, 9])
        assert list(reasons) == list(_REASONS)
        for row, start in _REASONS.items():
            assert reasons[row].startswith(start)
            assert "\n" not in reasons[row]
            assert "[Op:" not in reasons[row]
    assert isinstance(readable.images, StoredImages)
    assert [readable.images.place(row) for row in range(2)] == [f"{tmp_path}/0.png", f"{tmp_path}/9.png"]


def test_file_that_the_system_refuses_is_left_out_with_its_words(tmp_path, monkeypatch):
    data = _files(tmp_path, {"0.png": 1, "1.png": 2})
    content = StoredImages.content

    def refuse(images, row):
        if images.place(row).endswith("0.png"):
            raise PermissionError(13, "Permission denied", images.place(row))
        return content(images, row)

    monkeypatch.setattr(StoredImages, "content", refuse)
    readable, reasons = _look(data)
    assert reasons == {0: "Permission denied"}
    assert shades(readable.array) == [2]


def test_nothing_that_can_be_read_is_no_error(tmp_path):
    data = _files(tmp_path, {"0.png": b"", "1.png": b"junk"})
    for keep, kind in ((True, np.ndarray), (False, StoredImages)):
        readable, reasons = _look(data, keep)
        assert isinstance(readable.images, kind)
        assert readable.images.shape == (0, SIZE, SIZE, 3)
        assert len(readable) == 0
        assert len(reasons) == 2


def test_pieces_of_a_file_are_read_alone(tmp_path):
    contents = [png(painted(shade)) for shade in (5, 6, 7)]
    (tmp_path / "records").write_bytes(b"".join(contents)[:-30])
    lengths = np.array([len(content) for content in contents])
    offsets = np.cumsum(lengths) - lengths
    file, bare = np.zeros(3, np.int64), np.zeros(3, bool)
    images = StoredImages((str(tmp_path / "records"),), file, offsets, lengths, bare, (SIZE, SIZE, 3), SIZE)
    readable, reasons = _look(LabelledImages(images, np.array([0, 0, 1])))
    assert shades(readable.array) == [5, 6]
    assert "has become shorter" in reasons[2]
    with pytest.raises(UsageError, match=rf"'b' can be read \(such as '{tmp_path}/records at byte {offsets[2]}'"):
        check_enough(LabelledImages(images, np.array([0, 0, 1])), reasons, ("a", "b"), "training")


def test_one_class_is_looked_through_without_a_look_at_others(tmp_path, monkeypatch):
    files = {"hen/1.png": 10, "hen/2.png": 11, "owl/1.png": b"junk", "tit/1.png": 20}
    path = store(tmp_path, in_both(files))
    data = folder(path, SIZE)
    (tmp_path / "train/tit/1.png").unlink()
    opened, plain_open = [], builtins.open

    def noted(file, *arguments, **settings):
        opened.append(file)
        return plain_open(file, *arguments, **settings)

    monkeypatch.setattr(builtins, "open", noted)
    readable, reasons = _look(data.train.of_classes([0]))
    assert sorted(name for name in opened if str(name).startswith(path)) == [
        f"{path}/train/hen/{n}.png" for n in (1, 2)
    ]
    assert shades(readable.array) == [10, 11]
    assert reasons == {}


@pytest.mark.parametrize("keep", [True, False])
def test_values_of_each_channel_are_counted_over_the_readable_squares(keep, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    files = {f"{number}.png": png(image) for number, image in enumerate(images)}
    histogram = np.ones((3, 256), np.int64)  # what was counted before
    # Of 8 x 4, the middle 4 x 4 counts.
    tall = np.concatenate([painted(1, 2), painted(9), painted(1, 2)])
    readable, _ = _look(_files(tmp_path, {**files, "x.png": b"", "y.png": png(tall)}), keep, histogram=histogram)
    assert isinstance(readable.images, np.ndarray) == keep
    values = [channel.ravel().tolist() for channel in np.moveaxis(images, -1, 0)]
    expected = [[1 + counted.count(value) + 16 * (value == 9) for value in range(256)] for counted in values]
    np.testing.assert_array_equal(histogram, expected)


def test_pixels_are_not_kept_unless_they_are_asked_for(tmp_path, monkeypatch):
    alive, most = set(), []
    lock, pixels = threading.Lock(), reading.pixels

    def watched(content):
        image = pixels(content)
        with lock:
            alive.add(key := object())
            most.append(len(alive))
        weakref.finalize(image, alive.discard, key)
        return image

    monkeypatch.setattr(reading, "pixels", watched)
    monkeypatch.setattr(reading, "square", None)  # nothing is resized
    content = png(painted(1))
    readable, _ = _look(_files(tmp_path, {f"{number}.png": content for number in range(600)}), keep=False)
    assert len(most) == len(readable) == 600
    assert max(most) <= 8  # one for each thread


def test_images_that_fit_no_memory_are_refused_with_what_they_would_take(tmp_path):
    # 2 images x 4e18 pixels x 3 bytes, beyond what an address can tell on any machine.
    data = _files(tmp_path, {"1.png": 1, "2.png": 2}, 2_000_000_000)
    with pytest.raises(UsageError, match=r"2 images of 2000000000 x 2000000000 pixels take 24,000,000,000\.0 GB.*Set"):
        _look(data)
    assert len(_look(data, keep=False)[0]) == 2  # takes none


def test_images_in_memory_are_refused():
    with pytest.raises(ValueError, match="in memory: expected rows of files"):
        _look(LabelledImages(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int64)))


def test_what_is_left_out_is_reported_once_with_the_first_reasons(tmp_path, capsys):
    data = _broken(tmp_path)
    report_unreadable(data, _look(data)[1], "training")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "9 of 11 training images cannot be read and are left out:"
    assert lines[1] == f"  {tmp_path}/1.png: the file is empty"
    assert lines[2].startswith(f"  {tmp_path}/2.jpg: a truncated or damaged JPEG file")
    assert len(lines) == 7
    assert lines[6] == "  and 4 more"
    whole = data.take(np.array([0, 9]))
    report_unreadable(whole, _look(whole)[1], "training")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("split", ["training", "test"])
def test_classes_without_a_readable_image_are_refused_with_a_reason(split, tmp_path):
    names = ("hen", "kea", "ow'l", "<b>tit")
    files = {
        "hen/1.png": 1,
        "kea/1.png": b"",
        "kea/2.png": 2,
        "ow'l/1.png": b"",
        "ow'l/2.png": b"junk",
        "tit/1.png": b"",
    }
    data = LabelledImages(_files(tmp_path, files).images, np.array([0, 1, 1, 2, 2, 3]))
    with pytest.raises(UsageError) as raised:
        check_enough(data, _look(data)[1], names, split)
    assert str(raised.value) == (
        f"No {split} image of \"ow'l\", '<b>tit' can be read (such as \"{tmp_path}/ow'l/1.png\": the file is empty). "
        "Replace or remove such files, or leave the class out. `python -m mnemonics_tf.data.check DIR` lists every "
        "file below a folder that cannot be read."
    )
    # Classes that had no image are no matter of reading.
    enough = data.of_classes([0, 1])
    check_enough(enough, _look(enough)[1], names, split)


def test_log_of_tensorflow_is_told_once_and_without_its_time_and_place(capfd):
    calls = iter(range(2))  # what libjpeg has something to say of is decoded twice

    def decode(content):
        time = f"E0000 00:00:1795730103.53{next(calls)}   11603 jpeg_mem.cc:331] "
        os.write(2, f"{time}Premature end of JPEG data. Stopped at line 0/40\n".encode())
        raise headers.UnreadableImageError("a truncated or damaged JPEG file")

    told = "a truncated or damaged JPEG file (Premature end of JPEG data. Stopped at line 0/40)"
    assert reading.decode_contents([b"\xff\xd8"], decode) == [told]
    assert capfd.readouterr().err == ""


def test_what_others_write_meanwhile_is_passed_on_and_decodes_nothing_again(capfd):
    decoded = []

    def decode(content):
        decoded.append(content)
        os.write(2, b"half of a progress bar\n")  # by another thread of the process
        return content

    contents = [bytes([number]) for number in range(5)]
    assert reading.decode_contents(contents, decode) == contents
    assert sorted(decoded) == contents
    assert capfd.readouterr().err == "half of a progress bar\n" * 5
