"""Images in folders of one's own."""

from __future__ import annotations

import builtins
import os
import re
from pathlib import Path

import gin
import numpy as np
import pytest
from conftest import ROOT
from image_files import SIZE, in_both, painted, shades, store

from mnemonics_tf import config
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.folder import folder, is_held_in_memory
from mnemonics_tf.data.reading import look_through
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages


def _shades(part: LabelledImages) -> list[int]:
    """The one shade of each painted image, read from its file."""
    readable, reasons = look_through(part, "reading", keep=True)
    assert not reasons
    return shades(readable.array)


def _text(raised: pytest.ExceptionInfo) -> str:
    """What the user sees of an error: gin adds a line of its own, which `main` takes off."""
    return str(raised.value).partition("\n  In call to configurable")[0]


_TWO_CLASSES = {"train/hen/1.png": 10, "train/owl/1.png": 20, "test/hen/1.png": 30, "test/owl/1.png": 40}


def test_files_are_listed_with_what_a_run_makes_of_them(tmp_path):
    path = store(tmp_path / "birds", _TWO_CLASSES)
    data = folder(f"{path}/", SIZE, horizontal_flip=False, crop_padding=1, resized_side=6)
    for part, split in ((data.train, "train"), (data.test, "test")):
        assert isinstance(part.images, StoredImages)
        assert part.images.files == (f"{path}/{split}/hen/1.png", f"{path}/{split}/owl/1.png")
        assert (part.images.shape, part.images.resized_side) == ((2, SIZE, SIZE, 3), 6)
        np.testing.assert_array_equal(part.labels, [0, 1])
        assert part.labels.dtype == np.int64
    assert (data.name, data.image_shape, data.class_names) == ("birds", (SIZE, SIZE, 3), ("hen", "owl"))
    assert (data.horizontal_flip, data.crop_padding, data.resized_crop) == (False, 1, False)
    assert data.pixel_range is None
    assert folder(path, SIZE).train.images.resized_side == SIZE


@pytest.mark.parametrize(
    "files", [in_both({"hen/1.png": b"", "owl/1.png": b"junk"}), {"hen/1.jpg": b"", "hen/2.gif": 1}]
)
def test_listing_opens_no_file(files, tmp_path, monkeypatch):
    path = store(tmp_path, files)

    def refuse(file, *_arguments, **_settings):
        raise AssertionError(f"{file} was opened")

    for module in (builtins, os):
        monkeypatch.setattr(module, "open", refuse)
    data = folder(path, SIZE)
    assert len(data.train) + len(data.test) == len(files)


def test_path_below_the_working_directory_holds_wherever_a_run_goes(tmp_path, monkeypatch):
    store(tmp_path / "birds", _TWO_CLASSES)
    monkeypatch.chdir(tmp_path)
    data = folder("birds", SIZE)
    monkeypatch.chdir("/")
    assert _shades(data.train) == [10, 20]


def test_classes_and_files_are_sorted_by_name(tmp_path):
    # Written in an order that is sorted neither forwards nor backwards.
    files = {"ant/9.png": 3, "ant/10.png": 4, "ant/7.png": 6, "zebra/b.png": 1, "zebra/a.png": 2, "Bee/1.png": 5}
    data = folder(store(tmp_path, in_both(files)), SIZE)
    # In the plain order of characters: capitals come before small letters, and the 1 of 10 before 7.
    assert data.class_names == ("Bee", "ant", "zebra")
    assert _shades(data.train) == _shades(data.test) == [5, 4, 6, 3, 2, 1]
    np.testing.assert_array_equal(data.train.labels, [0, 1, 1, 1, 2, 2])


def test_val_holds_the_test_images_where_there_is_no_test(tmp_path):
    val = {"val/hen/1.png": 50, "val/owl/1.png": 60}
    path = store(tmp_path / "val", {name: _TWO_CLASSES[name] for name in list(_TWO_CLASSES)[:2]} | val)
    assert _shades(folder(path, SIZE).test) == [50, 60]
    assert _shades(folder(store(tmp_path / "both", _TWO_CLASSES | val), SIZE).test) == [30, 40]


def test_files_are_found_at_any_depth_and_others_ignored(tmp_path):
    more = {"2.PnG": 11, "farm/coop 3/3.png": 12, "farm/4.png": 13}
    ignored = {"notes.txt": b"about hens", ".5.png": 14, ".cache/6.png": 15, "../.trash/7.png": 16, "../list.csv": b"a"}
    path = store(tmp_path, {**_TWO_CLASSES, ".git/train/8.png": 17, "list.csv": b"a"})
    store(tmp_path / "train/hen", {**more, **ignored})
    data = folder(path, SIZE)
    assert data.class_names == ("hen", "owl")
    # 1.png, 2.PnG, farm/4.png, farm/coop 3/3.png: '4' comes before 'c'.
    assert _shades(data.train) == [10, 11, 13, 12, 20]


def test_links_are_followed_but_not_in_circles(tmp_path):
    path = store(tmp_path / "birds", {**_TWO_CLASSES, "train/hen/farm/2.png": 11})
    (tmp_path / "birds/train/hen/farm/up").symlink_to(tmp_path / "birds/train/hen")
    (tmp_path / "birds/train/hen/more").symlink_to(store(tmp_path / "elsewhere", {"3.png": 12}))
    assert _shades(folder(path, SIZE).train) == [10, 11, 12, 20]


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "it's",
        'say "cheese"',
        "ptak żółty",
        "鳥",
        "100%",
        "a\nb",
        "--x",
        "[a]*",
        "a..b",
        "<b>x&amp;",
        "a\\b",
    ],
)
def test_names_of_any_kind_work(name, tmp_path):
    path = store(tmp_path / name, {**_TWO_CLASSES, **in_both({f"{name}/{name}.png": 9})})
    data = folder(path, SIZE)
    assert data.name == name
    assert set(data.class_names) == {"hen", "owl", name}
    assert _shades(data.train)[data.class_names.index(name)] == 9


def _unsplit(root: Path, **sizes: int) -> str:
    """Classes of so many images each; no two images have the same shade."""
    files = [f"{name}/{number}.png" for name, size in sizes.items() for number in range(size)]
    return store(root, {file: shade for shade, file in enumerate(files)})


def test_share_of_every_class_is_held_out(tmp_path):
    data = folder(_unsplit(tmp_path, hen=10, kea=5, owl=2), SIZE, test_share=0.3)
    # 3 of 10; 1.5 of 5, which goes to the even 2; 0.6 of 2, so 1.
    np.testing.assert_array_equal(np.bincount(data.test.labels), [3, 2, 1])
    np.testing.assert_array_equal(np.bincount(data.train.labels), [7, 3, 1])
    assert sorted(_shades(data.train) + _shades(data.test)) == list(range(17))


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.99, 3)])
def test_split_leaves_an_image_to_either_side(share, expected, tmp_path):
    data = folder(_unsplit(tmp_path, hen=4, owl=4), SIZE, test_share=share)
    np.testing.assert_array_equal(np.bincount(data.test.labels), [expected] * 2)


def test_split_follows_its_seed(tmp_path):
    path = _unsplit(tmp_path, hen=20, owl=20)
    first, second, other = (_shades(folder(path, SIZE, split_seed=seed).test) for seed in (3, 3, 4))
    assert first == second != other


def test_class_of_one_image_cannot_be_split(tmp_path):
    with pytest.raises(UsageError, match="'kea', 'owl' with one image only: expected at least 2 in a class") as raised:
        folder(_unsplit(tmp_path, hen=2, owl=1, kea=1), SIZE)
    assert "\n" not in _text(raised)


@pytest.mark.parametrize("split", ["train", "test", None])
def test_folder_without_files_is_a_class_without_images(split, tmp_path):
    path = store(tmp_path, {"hen/1.png": 1, "hen/2.png": 2, "kea/1.png": 3, "kea/2.png": 4} if split is None else {})
    store(tmp_path, in_both({"hen/1.png": 1, "kea/1.png": 2}) if split else {})
    folder_of_class = tmp_path / (split or "") / "kea"
    for file in folder_of_class.iterdir():
        file.unlink()
    with pytest.raises(UsageError, match=rf"no image in 'kea' in '{folder_of_class.parent}'"):
        folder(path, SIZE)


def test_images_are_held_up_to_two_gigabytes(tmp_path):
    # 2e9 / (224 * 224 * 3) = 13,286.4 images; of 64 pixels a side 162,760.4.
    assert [is_held_in_memory(count, 224) for count in (13_286, 13_287)] == [True, False]
    assert [is_held_in_memory(count, 64) for count in (162_760, 162_761)] == [True, False]
    path = store(tmp_path, _TWO_CLASSES)
    # Of 4 images 1.99 and 2.01 GB; a training image alone would fit.
    assert [folder(path, size).decode_once for size in (SIZE, 12_880, 12_950)] == [True, True, False]
    assert folder(path, SIZE, in_memory=False).decode_once is False
    assert folder(path, SIZE, resized_crop=True).decode_once is False  # windows are cut out of the files' images
    assert folder(path, SIZE, resized_crop=True, in_memory=True).decode_once is True
    assert folder(path, 12_950, in_memory=True).decode_once is True


def test_random_windows_take_the_place_of_padding(tmp_path):
    path = store(tmp_path, _TWO_CLASSES)
    assert folder(path, SIZE).crop_padding == 4
    for given in (None, 0):
        data = folder(path, SIZE, crop_padding=given, resized_crop=True)
        assert (data.crop_padding, data.resized_crop) == (0, True)
    with pytest.raises(
        UsageError, match=r"crop_padding = 2 with folder\.resized_crop = True: .* Leave one of them out"
    ):
        folder(path, SIZE, crop_padding=2, resized_crop=True)


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
        folder(store(tmp_path, files), SIZE)
    text = _text(raised)
    assert text.startswith("folder.path")
    assert str(tmp_path) in text
    assert "\n" not in text


def test_path_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", store(tmp_path, {"birds.zip": b"PK"}))
    with pytest.raises(UsageError, match=r"nowhere': there is no such folder\. Give a folder: expected path/train"):
        folder(str(tmp_path / "nowhere"), SIZE)
    with pytest.raises(UsageError, match=r"folder\.path = '': there is no such folder"):
        folder("", SIZE)
    with pytest.raises(UsageError, match=rf"'{tmp_path}/birds\.zip': that is a file\. Give a folder"):
        folder("~/birds.zip", SIZE)


def test_class_whose_name_is_no_text_is_refused(tmp_path):
    path = store(tmp_path, _TWO_CLASSES)
    try:
        os.mkdir(os.fsencode(path) + b"/train/h\xff")
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    with pytest.raises(UsageError, match=r"'h\\udcff' in .* is not UTF-8 text\. Rename"):
        folder(path, SIZE)


@pytest.mark.parametrize("closed", ["train", "train/hen", "train/hen/farm"])
def test_folder_that_may_not_be_listed_is_named(closed, tmp_path, monkeypatch):
    path = store(tmp_path, {**_TWO_CLASSES, "train/hen/farm/2.png": 1})
    scandir = os.scandir

    def refuse(parent):
        if os.fspath(parent) == os.path.join(path, closed):
            raise PermissionError(13, "Permission denied", parent)
        return scandir(parent)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=rf"{closed}' cannot be listed \(Permission denied\)"):
        folder(path, SIZE)


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
        ({"resized_crop": 1}, r"folder\.resized_crop = 1"),
        ({"resized_side": 0}, r"folder\.resized_side = 0"),
        ({"resized_side": 3}, r"folder\.resized_side = 3: expected at least folder\.image_size = 4.*Raise it"),
        ({"in_memory": "yes"}, r"folder\.in_memory = 'yes': expected True or False"),
    ],
)
def test_impossible_settings_are_usage_errors_that_name_them(settings, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        folder(**{"path": str(tmp_path), "image_size": SIZE, **settings})


def test_shipped_configuration_asks_for_the_path_and_reads_it(tmp_path):
    shipped = str(ROOT / "configs/datasets/folder.gin")
    path = store(tmp_path / "birds", _TWO_CLASSES)
    try:
        config.parse([shipped], ["Experiment.method = @lucir"])
        with pytest.raises(UsageError, match=r"folder\.path = None: expected the folder"):
            config.build("Experiment").load_dataset()
        config.parse([shipped], ["Experiment.method = @lucir", f"folder.path = {path!r}"])
        data = config.build("Experiment").load_dataset()
    finally:
        gin.clear_config()
    assert (data.name, data.image_shape) == ("birds", (64, 64, 3))
    assert (data.crop_padding, data.resized_crop, data.decode_once) == (4, False, True)
    readable, _ = look_through(data.train, "reading", keep=True)
    np.testing.assert_array_equal(readable.array[1], painted(20, 64, 64))


def test_shipped_configuration_takes_the_settings_for_224_pixels(tmp_path):
    shipped = ROOT / "configs/datasets/folder.gin"
    path = store(tmp_path, _TWO_CLASSES)
    text = shipped.read_text()
    start = text.index("# 224:")
    # As the header spells them out, over two lines.
    lines = text[start : text.index("\n\n", start)].splitlines()[1:]
    bindings = [part.strip() for line in lines for part in re.split(r"\s{2,}", line.strip("# "))]
    assert len(bindings) == 6
    try:
        config.parse([str(shipped)], ["Experiment.method = @lucir", f"folder.path = {path!r}", *bindings])
        data = config.build("Experiment").load_dataset()
        network = config.build("ResNet")
        assert network.stem == "7x7"
        assert (network.blocks, network.widths) == ((2, 2, 2, 2), (64, 128, 256, 512))
    finally:
        gin.clear_config()
    assert (data.image_shape, data.resized_crop, data.crop_padding) == ((224, 224, 3), True, 0)
    assert data.train.images.resized_side == 256
