"""Folders as people have them: what systems leave in them, other formats, names in two forms, the wrong level."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from image_files import SIZE, in_both, painted, png, store
from pictures import damaged_jpeg, encoded, gif, waves

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.folder import folder
from mnemonics_tf.data.listing import scan
from mnemonics_tf.data.reading import look_through
from mnemonics_tf.data.stream import ClassStream

_TWO = {"hen/1.png": 1, "hen/2.png": 2, "owl/1.png": 3, "owl/2.png": 4}


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/1.png",
        "lost+found/1.png",
        "$RECYCLE.BIN/1.png",
        "System Volume Information/1.png",
        "#recycle/1.png",
        ".ipynb_checkpoints/1.png",
        ".AppleDouble/1.png",
        "._1.png",
        "1.png~",
        "1.png.part",
    ],
)
@pytest.mark.parametrize("place", ["", "train/", "train/hen/", "train/hen/farm/"])
def test_what_systems_and_tools_leave_is_not_counted(name, place, tmp_path, capsys):
    data = folder(store(tmp_path, {**in_both(_TWO), place + name: 9}), SIZE)
    assert (data.class_names, len(data.train), len(data.test)) == (("hen", "owl"), 4, 4)
    assert capsys.readouterr().err == ""


def test_content_decides_over_the_suffix_and_the_rest_is_named(tmp_path, capsys):
    jpeg, tiff = encoded(waves(), "JPEG"), encoded(waves(), "TIFF")
    more = {"a.jfif": jpeg, "b.JPE": jpeg, "c": jpeg, "d.data": png(painted(1)), "e.tif": jpeg}
    others = {
        "f.tif": tiff,
        "g.TIF": tiff,
        "h": tiff,
        "i.heic": b"\0\0\0\x18ftypheic",
        "j.svg": b"<svg/>",
        "k.nef": b"x",
    }
    files = {f"hen/{name}": content for name, content in (more | others).items()}
    data = folder(store(tmp_path, in_both({**_TWO, **files, "hen/notes.txt": b"about hens"})), SIZE)
    assert np.bincount(data.train.labels).tolist() == [7, 2]
    (line,) = capsys.readouterr().err.splitlines()
    # In both splits 6 of 15 pictures.
    assert line.startswith("12 of 30 pictures are in formats that are not read, and passed over: 4 .tif, 2 ")
    assert "2 .heic" in line
    assert f"such as {tmp_path}/train/hen/" in line


def test_class_of_other_formats_alone_is_refused_with_what_it_has(tmp_path):
    files = {**_TWO, "tit/1.tif": encoded(waves(), "TIFF")}
    with pytest.raises(UsageError, match=r"no image in 'tit' .*other formats are not read: 1 \.tif"):
        folder(store(tmp_path, files), SIZE)


def test_pipes_among_the_files_are_not_waited_for(tmp_path):
    path = store(tmp_path, in_both(_TWO))
    os.mkfifo(tmp_path / "train/hen/pipe")
    assert len(folder(path, SIZE).train) == 4


def test_name_in_two_forms_is_one_class(tmp_path):
    apart, together = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    files = {f"train/{apart}/1.png": 1, f"test/{together}/1.png": 2, "train/hen/1.png": 3, "test/hen/1.png": 4}
    path = store(tmp_path, files)
    if len(os.listdir(f"{path}/train")) != 2:
        pytest.skip("this file system has one form of names")
    data = folder(path, SIZE)
    assert data.class_names == (together, "hen")
    stream = ClassStream(data, Protocol(classes=((apart,), ("hen",))))
    assert [len(stream.phase(index).train) for index in (0, 1)] == [1, 1]


def test_case_that_differs_between_splits_is_said(tmp_path):
    path = store(tmp_path, {"train/Hen/1.png": 1, "test/hen/1.png": 1})
    with pytest.raises(UsageError, match=r"'Hen'.*test' has 'hen': rename one of the two"):
        folder(path, SIZE)


def _below(top: str, files: dict[str, int]) -> dict[str, int]:
    return {f"{top}/{name}": value for name, value in files.items()}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (_below("archive", in_both(_TWO)), r"'archive' holds 'test', 'train'.* Give that folder: '.*/archive'"),
        (_below("a/b/c", in_both(_TWO)), r"'a/b/c' holds 'test', 'train'.* Give that folder: '.*/a/b/c'"),
        (
            _below("archive", _TWO),
            r"one folder, 'archive', and that holds 'hen', 'owl': .*Give that folder \('.*/archive",
        ),
        (in_both(_below("archive", _TWO)), r"train' has one folder, 'archive', and that holds 'hen', 'owl'"),
        ({**_below("v1", in_both(_TWO)), **_below("v2", in_both(_TWO))}, r"'v1', 'v2' are data sets side by side"),
        ({**_below("v1", _below("train", _TWO)), **_below("v2", _below("val", _TWO))}, "data sets side by side"),
        # The splits within the classes.
        (
            {f"{name}/{split}/1.png": 1 for name in ("hen", "owl") for split in ("train", "test")},
            r"'hen', 'owl' hold 'test', 'train', so the splits lie within the classes.*Move hen/test to test/hen",
        ),
        ({**_below("seg_train", _TWO), **_below("seg_test", _TWO)}, r"has 'seg_test', 'seg_train' but no 'train'"),
        ({**_below("train", _TWO), **_below("valid", _TWO)}, "Rename 'valid' to 'test'"),
    ],
)
def test_folders_that_are_no_classes_are_refused_with_what_to_give(files, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        folder(store(tmp_path, files), SIZE)
    assert "\n" not in str(raised.value).partition("\n  In call")[0]


def test_classes_may_be_called_like_parts_of_splits(tmp_path):
    files = {f"{name}/{number}.png": number for name in ("steam train", "test tube", "dev board") for number in (1, 2)}
    assert folder(store(tmp_path, files), SIZE).class_names == ("dev board", "steam train", "test tube")


def test_classes_with_the_same_folders_are_taken_with_a_note(tmp_path, capsys):
    files = {f"{name}/{time}/1.png": 1 for name in ("hen", "owl") for time in ("day", "night")}
    assert folder(store(tmp_path, files), SIZE).class_names == ("hen", "owl")
    assert "Each class in" in (line := capsys.readouterr().err)
    assert "'day', 'night'" in line


def test_folders_within_a_class_that_is_known_are_no_classes(tmp_path):
    files = {f"hen/{day}/{number}.png": number for day in ("monday", "friday") for number in (1, 2)}
    root = str(store(tmp_path, files))
    names, (listed,) = scan(root, fewest=1, may_be_empty=["hen", "owl"])
    assert (names, len(listed.files)) == (("hen",), 4)
    with pytest.raises(UsageError, match="'hen', and that holds 'friday', 'monday'"):
        scan(root, fewest=1, may_be_empty=["owl"])


def _look(root: Path, files: dict[str, bytes | int]):
    data = folder(store(root, in_both({f"hen/{name}": content for name, content in files.items()})), SIZE)
    return look_through(data.train, "reading", keep=True)


def test_damaged_jpegs_are_named_with_what_libjpeg_says(tmp_path, capfd):
    whole = encoded(waves(), "JPEG")
    extraneous = whole[:-2] + b"abcd" * 5 + whole[-2:]
    files = {"1.jpg": whole, "2.jpg": damaged_jpeg(), "3.png": 3, "4.jpg": extraneous, "5.jpg": damaged_jpeg(7)}
    readable, reasons = _look(tmp_path, files)
    assert len(readable) == 2
    assert list(reasons) == [1, 3, 4]
    assert reasons[1] == "a damaged JPEG file (bad Huffman code)"
    assert "extraneous bytes before marker 0xd9" in reasons[3]
    assert "JPEG data" not in capfd.readouterr().err


def test_reasons_are_in_the_users_words(tmp_path):
    jpeg = encoded(waves(), "JPEG")
    twelve = bytearray(jpeg)
    twelve[jpeg.index(b"\xff\xc0") + 4] = 12
    files = {
        "0.png": 1,
        "1.jpg": bytes(twelve),
        "2.jpg": encoded(waves(), "TIFF"),
        "3.gif": gif((4, 4), (0, 0), (4, 4), False, None)[0][:-30],
        "4.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n",
        "5.jpg": b"<!DOCTYPE html><title>404</title>",
        "6.jpg": jpeg[:-200],
    }
    _, reasons = _look(tmp_path, files)
    assert reasons == {
        1: "a truncated or damaged JPEG file (Unsupported JPEG data precision 12)",
        2: "the format is TIFF: JPEG, PNG, GIF, BMP and WebP are read",
        3: "a truncated or damaged GIF file",
        4: "a pointer of Git LFS in the place of the image: fetch it by `git lfs pull`",
        5: "a web page, no image",
        6: "a truncated or damaged JPEG file",
    }


def test_image_that_memory_has_no_room_for_is_left_out(tmp_path, monkeypatch):
    from mnemonics_tf.data import reading

    decode = reading.pixels

    def short(content):
        if content.startswith(b"GIF"):
            raise MemoryError
        return decode(content)

    monkeypatch.setattr(reading, "pixels", short)
    readable, reasons = _look(tmp_path, {"1.gif": encoded(waves(), "GIF"), "2.png": 1})
    assert (len(readable), reasons) == (1, {0: "there is not enough memory to decode it"})
