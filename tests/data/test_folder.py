"""Images in folders of one's own."""

from __future__ import annotations

import base64
import os
import struct
from pathlib import Path

import gin
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from mnemonics_tf import config
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.folder import folder
from mnemonics_tf.experiment import Experiment

_SIZE = 4  # pixels a side, in most tests


def _painted(value: int | tuple[int, int, int], height: int = _SIZE, width: int = _SIZE) -> np.ndarray:
    return np.broadcast_to(np.array(value, np.uint8), (height, width, 3)).copy()


def _png(image: np.ndarray) -> bytes:
    return tf.io.encode_png(image).numpy()


def _store(root: Path, files: dict[str, bytes | int]) -> str:
    """Writes files below `root`, each with its bytes or as a PNG of one shade of grey; returns `root` as text."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else _png(_painted(content)))
    return str(root)


def _in_both(files: dict[str, bytes | int]) -> dict[str, bytes | int]:
    return {f"{split}/{name}": content for split in ("train", "test") for name, content in files.items()}


def _shades(images: np.ndarray) -> list[int]:
    """The one shade of each painted image."""
    np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1, :1], images.shape))
    return images[:, 0, 0, 0].tolist()


def _text(raised: pytest.ExceptionInfo) -> str:
    """What the user sees of an error: gin adds a line of its own, which `main` takes off."""
    return str(raised.value).partition("\n  In call to configurable")[0]


_TWO_CLASSES = {"train/hen/1.png": 10, "train/owl/1.png": 20, "test/hen/1.png": 30, "test/owl/1.png": 40}


def test_images_of_the_right_size_are_read_as_they_are(tmp_path, capsys):
    train, test = np.random.default_rng(0).integers(0, 256, (2, 4, _SIZE, _SIZE, 3), np.uint8)
    names = ("hen/0.png", "hen/1.png", "owl/0.png", "owl/1.png")
    for split, images in (("train", train), ("test", test)):
        _store(tmp_path / "birds" / split, {name: _png(image) for name, image in zip(names, images, strict=True)})
    data = folder(f"{tmp_path}/birds/", _SIZE, horizontal_flip=False, crop_padding=1)
    for part, images in ((data.train, train), (data.test, test)):
        np.testing.assert_array_equal(part.images, images)
        np.testing.assert_array_equal(part.labels, [0, 0, 1, 1])
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int64)
    assert (data.name, data.image_shape, data.class_names) == ("birds", (_SIZE, _SIZE, 3), ("hen", "owl"))
    assert (data.horizontal_flip, data.crop_padding, data.pixel_range) == (False, 1, None)
    assert capsys.readouterr().err == ""  # nothing to report


def test_classes_and_files_are_sorted_by_name(tmp_path):
    # Written in an order that is sorted neither forwards nor backwards.
    files = {"ant/9.png": 3, "ant/10.png": 4, "ant/7.png": 6, "zebra/b.png": 1, "zebra/a.png": 2, "Bee/1.png": 5}
    data = folder(_store(tmp_path, _in_both(files)), _SIZE)
    # In the plain order of characters: capitals come before small letters, and the 1 of 10 before 7.
    assert data.class_names == ("Bee", "ant", "zebra")
    assert _shades(data.train.images) == _shades(data.test.images) == [5, 4, 6, 3, 2, 1]
    np.testing.assert_array_equal(data.train.labels, [0, 1, 1, 1, 2, 2])


def test_val_holds_the_test_images_where_there_is_no_test(tmp_path):
    val = {"val/hen/1.png": 50, "val/owl/1.png": 60}
    path = _store(tmp_path / "val", {name: _TWO_CLASSES[name] for name in list(_TWO_CLASSES)[:2]} | val)
    assert _shades(folder(path, _SIZE).test.images) == [50, 60]
    assert _shades(folder(_store(tmp_path / "both", _TWO_CLASSES | val), _SIZE).test.images) == [30, 40]


def test_files_are_found_at_any_depth_and_others_ignored(tmp_path):
    more = {"2.PnG": 11, "farm/coop 3/3.png": 12, "farm/4.png": 13}
    ignored = {"notes.txt": b"about hens", ".5.png": 14, ".cache/6.png": 15, "../.trash/7.png": 16, "../list.csv": b"a"}
    path = _store(tmp_path, {**_TWO_CLASSES, ".git/train/8.png": 17, "list.csv": b"a"})
    _store(tmp_path / "train/hen", {**more, **ignored})
    data = folder(path, _SIZE)
    assert data.class_names == ("hen", "owl")
    # 1.png, 2.PnG, farm/4.png, farm/coop 3/3.png: '4' comes before 'c'.
    assert _shades(data.train.images) == [10, 11, 13, 12, 20]


def test_links_are_followed_but_not_in_circles(tmp_path):
    path = _store(tmp_path / "birds", {**_TWO_CLASSES, "train/hen/farm/2.png": 11})
    (tmp_path / "birds/train/hen/farm/up").symlink_to(tmp_path / "birds/train/hen")
    (tmp_path / "birds/train/hen/more").symlink_to(_store(tmp_path / "elsewhere", {"3.png": 12}))
    assert _shades(folder(path, _SIZE).train.images) == [10, 11, 12, 20]


@pytest.mark.parametrize(
    "name", ["two words", "it's", 'say "cheese"', "ptak żółty", "鳥", "100%", "a\nb", "--x", "[a]*"]
)
def test_names_of_any_kind_work(name, tmp_path):
    path = _store(tmp_path / name, {**_TWO_CLASSES, **_in_both({f"{name}/{name}.png": 9})})
    data = folder(path, _SIZE)
    assert data.name == name
    assert set(data.class_names) == {"hen", "owl", name}
    assert _shades(data.train.images)[data.class_names.index(name)] == 9


def _bmp(bits: int, rows: list[bytes], width: int, palette: bytes = b"") -> bytes:
    """A bitmap without compression; `rows` from the bottom up, without their padding to 4 bytes."""
    pixels = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, len(rows), 1, bits, 0, 0, 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def _gif(*shades: int) -> bytes:
    """Frames of 1x1 pixel in two colours, black for 0 and (200, 100, 50) for 1."""
    # Codes of 3 bits, lowest first: clear 4, the colour, end 5.
    codes = [(4 | shade << 3 | 5 << 6).to_bytes(2, "little") for shade in shades]
    frames = [b"\x2c\0\0\0\0\1\0\1\0\0" + b"\2\2" + code + b"\0" for code in codes]
    return b"GIF89a\1\0\1\0\x80\0\0" + bytes([0, 0, 0, 200, 100, 50]) + b"".join(frames) + b";"


def _cmyk_jpeg(stored: tuple[int, int, int, int]) -> bytes:
    """An 8x8 JPEG of four channels in Adobe's manner, 255 is no ink. Values differ from 128 by at least 64.

    The one coefficient of a flat block is 8 * (value - 128), divided by 8 in the table of quantisation. It takes 7
    bits: code 0 of the first Huffman table, then the number (plus 127 if negative); code 0 of the second ends it.
    """
    numbers = [value - 128 for value in stored]
    bits = "".join(f"0{number if number > 0 else number + 127:07b}0" for number in numbers)
    pixels = int(bits.ljust(40, "1"), 2).to_bytes(5, "big").replace(b"\xff", b"\xff\0")
    segments = (
        (0xEE, b"Adobe\0\x64\0\0\0\0\0"),
        (0xDB, bytes([0, *[8] * 64])),
        (0xC0, bytes([8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0])),
        (0xC4, bytes([0x00, 1, *[0] * 15, 7])),  # a single code, of one bit: a number of 7 bits
        (0xC4, bytes([0x10, 1, *[0] * 15, 0])),  # likewise: the end of the block
        (0xDA, bytes([4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0])),
    )
    head = b"".join(bytes([0xFF, mark]) + (len(body) + 2).to_bytes(2, "big") + body for mark, body in segments)
    return b"\xff\xd8" + head + pixels + b"\xff\xd9"


_RGB, _BGR = (200, 100, 50), bytes([50, 100, 200])
_GREYS = b"".join(bytes([shade, shade, shade, 0]) for shade in range(256))
# Content, colour and tolerance; JPEG converts colours and rounds.
_KINDS = {
    "flat.jpg": (tf.io.encode_jpeg(_painted(_RGB, 8, 8), quality=100).numpy(), _RGB, 2),
    "grey.jpeg": (tf.io.encode_jpeg(_painted(70, 8, 8)[..., :1], quality=100).numpy(), (70, 70, 70), 1),
    # Red, green and blue are cyan, magenta and yellow times black / 255: 255, 192, 64 times 204 / 255 = 0.8.
    "print.jpg": (_cmyk_jpeg((255, 192, 64, 204)), (204, 153, 51), 1),
    "grey.png": (_png(_painted(70)[..., :1]), (70, 70, 70), 0),
    "transparent.png": (_png(np.concatenate([_painted(_RGB), np.full((4, 4, 1), 9, np.uint8)], -1)), _RGB, 0),
    # The upper byte of 16 bits.
    "deep.png": (_png(np.full((4, 4, 3), 0xABCD, np.uint16)), (0xAB, 0xAB, 0xAB), 0),
    "deep_grey.png": (_png(np.full((4, 4, 1), 0x1234, np.uint16)), (0x12, 0x12, 0x12), 0),
    "a.gif": (_gif(1), _RGB, 0),
    "film.gif": (_gif(1, 0, 0), _RGB, 0),
    "a.bmp": (_bmp(24, [_BGR * 3] * 3, 3), _RGB, 0),
    "transparent.bmp": (_bmp(32, [(_BGR + b"\x09") * 3] * 3, 3), _RGB, 0),
    "palette.bmp": (_bmp(8, [b"\2" * 3] * 3, 3, palette=b"\0" * 8 + _BGR + b"\0"), _RGB, 0),
    "grey.bmp": (_bmp(8, [bytes([70])] * 2, 1, palette=_GREYS), (70, 70, 70), 0),
    # One pixel without loss.
    "a.webp": (base64.b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvAAAAAAdQsiJXpv+BiOh/AAA="), _RGB, 0),
    "wrong_suffix.jpg": (_png(_painted(_RGB)), _RGB, 0),
}


def test_pictures_of_every_kind_become_rgb(tmp_path):
    contents = [content for content, _, _ in _KINDS.values()]
    files = {
        f"{number:02}/{name}": content for number, (name, content) in enumerate(zip(_KINDS, contents, strict=True))
    }
    data = folder(_store(tmp_path, _in_both(files)), _SIZE)
    assert data.train.images.shape == (len(_KINDS), _SIZE, _SIZE, 3)
    for image, (name, (_, colour, tolerance)) in zip(data.train.images, _KINDS.items(), strict=True):
        np.testing.assert_allclose(image.astype(int), _painted(colour), atol=tolerance, err_msg=name)


def test_shorter_side_is_scaled_and_the_centre_square_cut_out(tmp_path):
    # 16 x 8: quarters of 10, the middle 200. Halved, the centre 4 x 4 is the middle, whose border columns antialiasing
    # mixes with their neighbours.
    wide = np.concatenate([_painted(10, 8, 4), _painted(200, 8, 8), _painted(10, 8, 4)], axis=1)
    path = _store(tmp_path, _in_both({"hen/1.png": _png(wide)}))
    np.testing.assert_array_equal(folder(path, _SIZE).train.images[0, :, 1:3], _painted(200, 4, 2))


def test_order_is_kept_over_more_files_than_the_threads_get_at_a_time(tmp_path):
    shades = [number % 251 for number in range(1100)]
    one_pixel = {shade: _png(_painted(shade, 1, 1)) for shade in set(shades)}
    files = {f"train/owl/2_{number:04}.png": one_pixel[shade] for number, shade in enumerate(shades)}
    path = _store(tmp_path, {**_TWO_CLASSES, **files})
    data = folder(path, 1)
    assert _shades(data.train.images) == [10, 20, *shades]
    np.testing.assert_array_equal(data.train.labels, [0] + [1] * 1101)


_ANIMATED_WEBP = base64.b64decode(
    "UklGRooAAABXRUJQVlA4WAoAAAACAAAAAAAAAAAAQU5JTQYAAAAAAAAAAABBTk1GKgAAAAAAAAAAAAAAAAAAAAAAAAJWUDhMEQAAAC8AAAAAB1CyIl"
    "em/4GI6H8AAEFOTUYsAAAAAAAAAAAAAAAAAAAAAAAAAFZQOEwUAAAALwAAAAAHUIFUCCAACpr+x4iI/gc="
)


def test_files_that_cannot_be_read_are_left_out_and_reported_once(tmp_path, capsys):
    whole = tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).numpy()
    broken = {
        "train/hen/2.png": b"",
        "train/hen/3.jpg": whole[: len(whole) // 2],
        "train/hen/4.jpg": b"no picture at all",
        "train/owl/0.webp": _ANIMATED_WEBP,
        "train/owl/2.bmp": _bmp(1, [b"\0"], 1, b"\0" * 8),
        "test/hen/2.png": _png(_painted(1))[:-20],
    }
    path = _store(tmp_path, {**_TWO_CLASSES, "train/hen/5.png": 11, **broken})
    (tmp_path / "test/owl/3.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "test/owl/4.png")  # reading it would wait for ever
    data = folder(path, _SIZE)
    assert _shades(data.train.images) == [10, 11, 20]
    np.testing.assert_array_equal(data.train.labels, [0, 0, 1])
    assert _shades(data.test.images) == [30, 40]
    lines = capsys.readouterr().err.splitlines()
    # Of 4 + 1 + 6 + 2 files, 8 are broken; five are shown, in order.
    assert lines[0] == f"8 of 13 image files in {path} cannot be read and are left out:"
    assert lines[1] == "  train/hen/2.png: the file is empty"
    assert lines[2].startswith("  train/hen/3.jpg: Uncompress failed")
    assert lines[3].startswith("  train/hen/4.jpg: Unknown image file format")
    assert lines[4].startswith("  train/owl/0.webp: WebP Animation")
    assert lines[5].startswith("  train/owl/2.bmp: Number of channels")
    assert lines[6:] == ["  and 3 more"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_without_a_readable_image_is_refused_with_the_reason(split, tmp_path, capsys):
    path = _store(tmp_path, {**_TWO_CLASSES, f"{split}/owl/1.png": b"", f"{split}/owl/2.png": b"junk"})
    with pytest.raises(UsageError) as raised:
        folder(path, _SIZE)
    assert _text(raised) == (
        f"folder.path: no image of 'owl' in '{path}/{split}' can be read (such as '{path}/{split}/owl/1.png': the file "
        "is empty). Replace the files or remove the class."
    )
    assert capsys.readouterr().err.startswith("2 of 5 image files")


def _unsplit(root: Path, **sizes: int) -> str:
    """Classes of so many images each; no two images have the same shade."""
    files = [f"{name}/{number}.png" for name, size in sizes.items() for number in range(size)]
    return _store(root, {file: shade for shade, file in enumerate(files)})


def test_share_of_every_class_is_held_out(tmp_path):
    data = folder(_unsplit(tmp_path, hen=10, kea=5, owl=2), _SIZE, test_share=0.3)
    # 3 of 10; 1.5 of 5, which goes to the even 2; 0.6 of 2, so 1.
    np.testing.assert_array_equal(np.bincount(data.test.labels), [3, 2, 1])
    np.testing.assert_array_equal(np.bincount(data.train.labels), [7, 3, 1])
    assert sorted(_shades(data.train.images) + _shades(data.test.images)) == list(range(17))


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.99, 3)])
def test_split_leaves_an_image_to_either_side(share, expected, tmp_path):
    data = folder(_unsplit(tmp_path, hen=4, owl=4), _SIZE, test_share=share)
    np.testing.assert_array_equal(np.bincount(data.test.labels), [expected] * 2)


def test_split_follows_its_seed_and_not_broken_files(tmp_path):
    path = _unsplit(tmp_path, hen=20, owl=20)
    first, second, other = (_shades(folder(path, _SIZE, split_seed=seed).test.images) for seed in (3, 3, 4))
    assert first == second != other
    _store(tmp_path, {"hen/0_broken.png": b""})
    assert _shades(folder(path, _SIZE, split_seed=3).test.images) == first


def test_class_of_one_readable_image_cannot_be_split(tmp_path):
    path = _unsplit(tmp_path, hen=2, owl=1, kea=1)
    _store(tmp_path, {"owl/9.png": b""})
    with pytest.raises(UsageError, match="'kea', 'owl' with one readable image only: expected at least 2 in a class"):
        folder(path, _SIZE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no folders, so no classes: expected path/train/<class>"),
        ({"1.png": 1, "2.png": 2}, "has no folders, so no classes"),
        ({"train/1.png": 1, "test/1.png": 2}, "train' has no folders, so no classes"),
        ({"train/hen/1.png": 1}, r"found 'train', neither 'test' nor 'val'.*Add test images.*must be renamed"),
        ({"train/a/1.png": 1, "validation/a/1.png": 1}, "found 'train', 'validation', neither 'test' nor 'val'"),
        ({"test/hen/1.png": 1, "val/hen/1.png": 1}, r"has 'test', 'val' but no 'train'.*Rename"),
        ({"Train/hen/1.png": 1, "Test/hen/1.png": 1}, r"has 'Test', 'Train' but no 'train'.*Rename"),
        ({**_TWO_CLASSES, "train/kea/1.png": 1}, r"/train' has 'kea', '.*/test' has not.*Add what is missing"),
        ({**_TWO_CLASSES, "test/kea/1.png": 1}, r"/test' has 'kea', '.*/train' has not.*Add what is missing"),
        (
            {**_TWO_CLASSES, **{f"train/x{number}/1.png": 1 for number in range(7)}},
            "'x0', 'x1', 'x2', 'x3', 'x4' and 2 more",
        ),
        (
            {**_TWO_CLASSES, "train/kea/1.tif": b"", "test/kea/1.png": 1},
            r"no image in 'kea' in '.*/train'.*\.bmp, \.gif",
        ),
        ({**_TWO_CLASSES, "test/kea/.1.png": 1, "train/kea/1.png": 1}, r"no image in 'kea' in '.*/test'.*remove"),
        ({"hen/1.png": 1, "hen/2.png": 1, "Hen/1.png": 1}, "'Hen' and 'hen' in .* differ only by case.*rename one"),
        # One letter with an accent, or a letter and an accent.
        ({"\u00e9mu/1.png": 1, "e\u0301mu/1.png": 1}, "differ only by case or by how accents are stored"),
    ],
)
def test_folders_that_are_not_laid_out_so_are_refused_in_one_line(files, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        folder(_store(tmp_path, files), _SIZE)
    text = _text(raised)
    assert text.startswith("folder.path")
    assert str(tmp_path) in text
    assert "\n" not in text


def test_path_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", _store(tmp_path, {"birds.zip": b"PK"}))
    with pytest.raises(UsageError, match=r"nowhere': there is no such folder\. Give a folder: expected path/train"):
        folder(str(tmp_path / "nowhere"), _SIZE)
    with pytest.raises(UsageError, match=r"folder\.path = '': there is no such folder"):
        folder("", _SIZE)
    with pytest.raises(UsageError, match=rf"'{tmp_path}/birds\.zip': that is a file\. Give a folder"):
        folder("~/birds.zip", _SIZE)


def test_class_whose_name_is_no_text_is_refused(tmp_path):
    path = _store(tmp_path, _TWO_CLASSES)
    try:
        os.mkdir(os.fsencode(path) + b"/train/h\xff")
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    with pytest.raises(UsageError, match=r"'h\\udcff' in .* is not UTF-8 text\. Rename"):
        folder(path, _SIZE)


@pytest.mark.parametrize("closed", ["train", "train/hen", "train/hen/farm"])
def test_folder_that_may_not_be_listed_is_named(closed, tmp_path, monkeypatch):
    path = _store(tmp_path, {**_TWO_CLASSES, "train/hen/farm/2.png": 1})
    scandir = os.scandir

    def refuse(parent):
        if os.fspath(parent) == os.path.join(path, closed):
            raise PermissionError(13, "Permission denied", parent)
        return scandir(parent)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=rf"{closed}' cannot be listed \(Permission denied\)"):
        folder(path, _SIZE)


def test_images_that_fit_no_memory_are_refused_with_what_they_would_take(tmp_path):
    # 2 images x 4e18 pixels x 3 bytes, beyond what an address can tell on any machine.
    with pytest.raises(UsageError, match=r"folder\.image_size = 2000000000: 2 images .* take 24000000000\.0 GB"):
        folder(_store(tmp_path, _TWO_CLASSES), 2_000_000_000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": None}, r"folder\.path = None: expected the folder that holds the images: set it"),
        ({"path": 7}, r"folder\.path = 7"),
        ({"image_size": None}, r"folder\.image_size = None: expected .* such as 64: set it"),
        ({"image_size": 0}, r"folder\.image_size = 0"),
        ({"image_size": 2.5}, r"folder\.image_size = 2\.5"),
        ({"test_share": 0}, r"folder\.test_share = 0"),
        ({"test_share": 1.0}, r"folder\.test_share = 1\.0"),
        ({"split_seed": -1}, r"folder\.split_seed = -1"),
        ({"crop_padding": -1}, r"folder\.crop_padding = -1"),
        ({"horizontal_flip": "False"}, r"folder\.horizontal_flip = 'False'"),
    ],
)
def test_impossible_settings_are_usage_errors_that_name_them(settings, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        folder(**{"path": str(tmp_path), "image_size": _SIZE, **settings})


def test_shipped_configuration_asks_for_the_path_and_reads_it(tmp_path):
    shipped = str(ROOT / "configs/datasets/folder.gin")
    path = _store(tmp_path / "birds", _TWO_CLASSES)
    try:
        config.parse([shipped], ["Experiment.method = @lucir"])
        with pytest.raises(UsageError, match=r"folder\.path = None: expected the folder"):
            Experiment().load_dataset()
        config.parse([shipped], ["Experiment.method = @lucir", f"folder.path = {path!r}"])
        data = Experiment().load_dataset()
    finally:
        gin.clear_config()
    assert (data.name, data.image_shape) == ("birds", (64, 64, 3))
    np.testing.assert_array_equal(data.train.images[1], _painted(20, 64, 64))
