"""The command that looks through a folder of images ahead of a run."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from conftest import ROOT
from pictures import encoded, noise

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import check, reading
from mnemonics_tf.data import folder as source
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.memory.settings import Memory


@pytest.fixture
def call(capsys):
    """Calls `main` in this process: returns its exit code, the lines of standard output, and standard error."""

    def called(*arguments):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            code = check.main(flags.FLAGS(["mnemonics_tf.data.check", *map(str, arguments)]))
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err

    return called


def _png(height: int = 64, width: int = 64, channels: int = 3) -> bytes:
    """Each channel of a shade of its own."""
    image = np.broadcast_to(np.arange(40, 40 + channels, dtype=np.uint8), (height, width, channels))
    return tf.io.encode_png(image).numpy()


def _store(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def _classes(**sizes: int) -> dict[str, bytes]:
    content = _png()
    return {f"{name}/{number}.png": content for name, size in sizes.items() for number in range(size)}


def _below(split: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{split}/{name}": content for name, content in files.items()}


def _rows(lines: list[str]) -> dict[str, str]:
    """What follows each row's name."""
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines[1:-1] if line[0] != " "}


def test_report_of_a_folder_that_a_run_can_use(call, tmp_path):
    train = _classes(hen=4, kea=1, owl=2, tit=2)
    path = _store(tmp_path / "birds", {**_below("train", train), **_below("val", _classes(hen=1, kea=3, owl=1, tit=1))})
    code, lines, errors = call(path, "--per_class=1")
    assert (code, errors) == (0, "")
    assert lines == [
        f"{path}: 4 classes",
        "train     9 images; of a class 1 ('kea') to 4 ('hen'), median 2",
        "val       6 images; of a class 1 ('hen') to 3 ('kea'), median 1",
        "formats   15 PNG (100%)",
        "sizes     64 pixels wide, 64 high; 0 with a side below 64, to be enlarged",
        "colours   0 in shades of grey; 0 PNG with transparency, which is dropped",
        # 15 x 64 x 64 x 3 = 184,320 bytes.
        "memory    184 kB for the images at 64 x 64, held in memory by default",
        "phases    N = 1, 2 (Protocol.num_phases) with half of the classes first",
        "skipped   0 of 15 files",
        "A run needs other settings: phases as above (Protocol.num_phases = 5 does not fit).",
    ]


def test_counts_are_those_of_a_run(call, tmp_path):
    # 0.2 of 6 (1.2), of 8 (1.6) and of 2 (0.4, so the least, 1): 1, 2 and 1 for testing, unread. 1 of hen's 5 others
    # cannot be read.
    path = _store(tmp_path, _classes(hen=6, kea=8, owl=2))
    data = source.folder(str(path), 64)
    Path(data.train.images.place(0)).write_bytes(b"")
    rows = _rows(call(path)[1])
    assert rows["train"] == "11 images; of a class 1 ('owl') to 6 ('kea'), median 4"
    assert rows["test"] == "4 images; of a class 1 ('hen') to 2 ('kea'), median 1"
    found, held = check.find(str(path), 64), 0
    for part, sizes in zip((data.train, data.test), found.splits.values(), strict=True):
        readable, _ = reading.look_through(part, "reading", keep=True)
        np.testing.assert_array_equal(np.bincount(readable.labels), sizes)
        held += readable.array.nbytes
    # What the images take in memory: 15 x 64 x 64 x 3.
    assert held == 184_320
    assert rows["memory"].startswith("184 kB")


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        # 4 x 12,880^2 x 3 = 1.99e9 and 4 x 12,950^2 x 3 = 2.01e9.
        (12_880, "2.0 GB for the images at 12880 x 12880, held in memory by default"),
        (12_950, "2.0 GB for the images at 12950 x 12950, read from their files in every epoch by default"),
    ],
)
def test_memory_is_that_of_the_default(image_size, expected, tmp_path):
    path = _store(tmp_path, {**_classes(hen=4), "hen/0.png": b""})
    found = check.find(str(path), 64)
    assert found.in_memory
    in_memory = source.folder(str(path), image_size).decode_once
    totals = dataclasses.replace(found.totals, image_size=image_size)
    splits = {"train": np.array([4])}
    lines = check.report(dataclasses.replace(found, totals=totals, splits=splits, in_memory=in_memory))
    assert f"memory    {expected}" in lines


def test_sizes_and_colours_are_those_of_all_readable_images(call, tmp_path):
    shapes = {"a": (70, 50, 3), "b": (30, 90, 1), "c": (64, 64, 4), "d": (32, 32, 2), "e": (64, 1200, 3)}
    files = {f"hen/{name}.png": _png(*shape) for name, shape in shapes.items()}
    # An RGB image of one shade is grey, too.
    files["hen/f.png"] = tf.io.encode_png(np.full((64, 64, 3), 7, np.uint8)).numpy()
    rows = _rows(call(_store(tmp_path, files))[1])
    # Sides below 64 are in a, b and d; grey are b, d (with alpha) and f; alpha have c and d.
    assert rows["sizes"] == "32 to 1,200 pixels wide, 30 to 70 high; 3 with a side below 64, to be enlarged"
    assert rows["colours"] == "3 in shades of grey; 2 PNG with transparency, which is dropped"
    rows = _rows(call(tmp_path, "--image_size=32")[1])
    assert rows["sizes"].endswith("1 with a side below 32, to be enlarged")
    assert rows["memory"] == "18 kB for the images at 32 x 32, held in memory by default"  # 6 x 32 x 32 x 3 = 18,432


def test_single_transparent_colours_are_noticed():
    plain = _png()
    # A block tRNS of 6 bytes before the pixels.
    block = b"\0\0\0\6tRNS" + bytes(6) + b"\0\0\0\0"
    start = plain.index(b"IDAT") - 4
    assert check.has_alpha(plain[:start] + block + plain[start:])
    assert not check.has_alpha(plain)
    assert not check.has_alpha(plain + block)
    assert not check.has_alpha(tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy())


_BROKEN = {
    "train/hen/2.png": b"",
    "train/hen/3.png": _png()[:-20],
    "train/hen/4.jpg": b"no picture at all",
    "train/hen/5\n6.png": b"",
    "test/kea/7.png": b"",
    "test/kea/8.png": b"",
    "test/kea/9.png": b"",
}


def _with_broken(root: Path) -> Path:
    both = _classes(hen=1, kea=1)
    return _store(root, {**_below("train", both), **_below("test", both), **_BROKEN})


def test_every_skipped_file_has_a_line_with_its_reason(call, tmp_path):
    code, lines, errors = call(_with_broken(tmp_path), "--num_phases=1", "--per_class=1")
    assert (code, errors) == (0, "")
    start = lines.index("skipped   7 of 11 files:") + 1
    assert lines[start] == "  train/hen/2.png: the file is empty"
    assert lines[start + 1].startswith("  train/hen/3.png: Invalid PNG data")
    assert lines[start + 2].startswith("  train/hen/4.jpg: Unknown image file format")
    assert lines[start + 3] == r"  train/hen/5\n6.png: the file is empty"
    assert lines[start + 4 : -1] == [f"  test/kea/{number}.png: the file is empty" for number in (7, 8, 9)]
    assert lines[-1] == "A run can use it without the 7 pictures that are left out."


def test_strict_allows_no_skipped_file(call, tmp_path):
    path = _with_broken(tmp_path)
    code, lines, errors = call("--strict", path)
    assert (code, errors) == (1, "")
    assert lines[-1] == "A run could use it without the 7 pictures that are left out, which --strict does not allow."
    for name in list(_BROKEN)[1:]:
        (path / name).unlink()
    assert call("--strict", path)[1][-1].startswith("A run could use it without the picture that is left out, which")
    (path / "train/hen/2.png").unlink()
    assert call("--strict", path)[0] == 0


@pytest.mark.parametrize(
    ("num_classes", "phases", "end"),
    [
        (10, "N = 1, 5 (Protocol", "A run can use it."),
        (7, "an odd number of classes has no half: set Protocol.sizes, such as (4, 3)", "does not fit)."),
        (1, "one class is a single phase: Protocol.num_phases = 0", "does not fit)."),
    ],
)
def test_phases_fit_the_number_of_classes(num_classes, phases, end, call, tmp_path):
    path = _store(tmp_path, _classes(**{f"c{number}": 2 for number in range(num_classes)}))
    code, lines, _ = call(path, "--per_class=1")
    assert code == 0
    assert _rows(lines)["phases"].startswith(phases)
    assert lines[-1].endswith(end)


@pytest.mark.parametrize("num_classes", [1, 2, 7, 12, 100])
def test_phases_are_those_that_the_protocol_takes(num_classes):
    fitting = []
    for count in range(1, num_classes + 1):
        try:
            Protocol(num_phases=count).phase_sizes(num_classes)
            fitting.append(count)
        except UsageError:
            pass
    assert check.even_phases(num_classes) == fitting


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no folders, so no classes"),
        ({"train/hen/1.png": b"a"}, "neither 'test' nor 'val'"),
        ({"hen/1.txt": b"a"}, "no image in 'hen'"),
        ({**_classes(hen=2, owl=1)}, "'owl' with one image only"),
    ],
)
def test_what_the_source_refuses_unread_is_one_line_and_exit_code_2(files, message, call, tmp_path):
    code, lines, errors = call(_store(tmp_path, files))
    assert (code, lines) == (2, [])
    assert errors.startswith("mnemonics_tf: folder.path")
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "split", "row"),
    [
        (
            {**_classes(hen=2), "owl/1.png": b"", "owl/2.png": b"junk"},
            "training",
            ("images", "2 images; of a class 0 ('owl') to 2 ('hen'), median 1"),
        ),
        (
            {**_below("train", _classes(hen=3, owl=1)), **_below("val", _classes(hen=2)), "val/owl/2.png": b""},
            "test",
            ("val", "2 images; of a class 0 ('owl') to 2 ('hen'), median 1"),
        ),
        ({"owl/1.png": b"", "owl/2.png": b""}, "training", ("skipped", "2 of 2 files:")),
    ],
)
def test_class_without_readable_images_is_refused_after_the_report(files, split, row, call, tmp_path):
    path = _store(tmp_path, files)
    code, lines, errors = call(path)
    assert code == 2
    assert _rows(lines)[row[0]] == row[1]
    assert lines[-1] == "A run cannot use it."
    assert f"No {split} image of 'owl' can be read" in errors
    assert errors.count("\n") == 1
    # The very words of a run.
    data = source.folder(str(path), 64)
    part = data.train if split == "training" else data.test
    with pytest.raises(UsageError) as raised:
        reading.check_enough(part, reading.look_through(part, "reading", keep=False)[1], data.class_names, split)
    assert errors == f"mnemonics_tf: {raised.value}\n"


def test_class_whose_only_readable_image_is_held_out_or_not_is_refused(call, tmp_path):
    path = _store(tmp_path, {**_classes(hen=2, owl=1), "owl/2.png": b""})
    code, lines, errors = call(path)
    assert code == 2
    assert _rows(lines)["images"] == "3 images; of a class 1 ('owl') to 2 ('hen'), median 1.5"
    assert " image of 'owl' can be read" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No DIR was given"),
        (("a", "b"), "Unexpected argument 'b'"),
        (("no/such/folder",), "no/such/folder': there is no such folder"),
        (("no/such/folder", "--image_size=0"), "--image_size = 0: expected a whole number of at least 1"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(call, arguments, message):
    code, lines, errors = call(*arguments)
    assert (code, lines) == (2, [])
    assert errors.startswith("mnemonics_tf: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_images_larger_than_any_machine_are_refused_in_one_line(call, tmp_path):
    # One takes 4e18 pixels x 3 bytes.
    code, lines, errors = call(_store(tmp_path, _classes(hen=2)), "--image_size=2000000000")
    assert code == 2
    assert lines[-1] == "A run cannot use it."
    assert errors.count("\n") == 1


def test_names_that_the_terminal_cannot_show_are_spelled_out(tmp_path):
    both = _classes(hen=2, żółw=2)
    path = _store(tmp_path, {**_below("train", both), **_below("test", both), "train/hen/ż.png": b""})
    finished = subprocess.run(
        [sys.executable, "-m", "mnemonics_tf.data.check", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    lines = finished.stdout.splitlines()
    assert lines[-2] == r"  train/hen/\u017c.png: the file is empty"
    assert lines[-1].startswith("A run needs other settings and goes without the picture that is left out: ")


@pytest.mark.parametrize(
    ("num_classes", "size", "num_phases", "per_class"), [(4, 30, 1, 20), (4, 24, 1, 20), (5, 30, 1, 3), (4, 6, 2, 5)]
)
def test_verdict_is_that_of_a_run(num_classes, size, num_phases, per_class, call, tmp_path):
    path = _store(tmp_path, _classes(**{f"c{number}": size for number in range(num_classes)}))
    lines = call(path, f"--num_phases={num_phases}", f"--per_class={per_class}")[1]
    try:
        protocol = Protocol(num_phases=num_phases)
        stream = ClassStream(source.folder(str(path), 64), protocol)
        budget = Memory(strategy="random", adjust=False, per_class=per_class)
        budget.check_fits(stream.phase_sizes, stream.class_sizes.tolist(), num_parts=2)
        takes = True
    except UsageError:
        takes = False
    # Of 30 images 24 are trained on, of 24 19, and of 6 5.
    assert takes == ((num_classes, size) in ((4, 30), (4, 6)))
    assert lines[-1].startswith("A run can use it") == takes
    if (num_classes, size) == (4, 24):
        assert "ExemplarMemory.per_class of at most 19 (not 20: 'c0' has 19 training images)" in lines[-1]


def test_pictures_that_are_passed_over_are_named_and_not_strict(call, tmp_path):
    files = {**_classes(hen=2, kea=2), "hen/a.tif": b"II*\0", "kea/b.HEIC": b"x", "kea/notes.txt": b"x"}
    path = _store(tmp_path, files)
    code, lines, _ = call(path, "--strict", "--num_phases=1", "--per_class=1")
    assert code == 1
    assert "others    1 files that are no pictures: 1 .txt" in lines
    (note,) = [line for line in lines if line.startswith("note")]
    assert note.startswith(
        "note      2 of 6 pictures are in formats that are not read, and passed over: 1 .tif, 1 .heic"
    )
    assert lines[-1] == "A run could use it without the 2 pictures that are left out, which --strict does not allow."
    assert call(path, "--num_phases=1", "--per_class=1")[0] == 0


def test_images_that_are_turned_and_their_formats_are_counted(call, tmp_path):
    files = {f"hen/{number}.jpg": encoded(noise(70, 90), "JPEG", number) for number in (1, 3, 6)}
    rows = _rows(call(_store(tmp_path, {**files, "hen/4.png": _png()}))[1])
    assert rows["formats"] == "3 JPEG (75%), 1 PNG (25%)"
    assert rows["turned"] == "2 stored sideways or mirrored (EXIF), which are turned upright"
    # The sixth is stored on its side: 90 x 70 becomes 70 x 90.
    assert rows["sizes"].startswith("64 to 90 pixels wide, 64 to 90 high")
