"""Whole runs on a folder of images: read from their files in every epoch, and held in memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, TINY_BINDINGS, run_main

from mnemonics_tf.data.decoding import centre_square
from mnemonics_tf.memory.exemplar_file import read_exemplars

_Main = Callable[[Sequence[str]], tuple[int, str]]

_NAMES = ["ant", "bee", "cat", "dog", "elk", "fox"]
# The cat arrives with the second phase, the elk with the first.
_PHASES = (("elk", "bee", "fox", "dog"), ("cat", "ant"))
_ORDER = [4, 1, 5, 3, 2, 0]
_BROKEN = {"train/cat/4.png": b"", "test/elk/1.jpg": b"no picture"}


def _animals(root: Path) -> Path:
    """Nine images to train on and three to test of each class, noise of its colour, and two broken files."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(_NAMES):
        for split, count in (("train", 9), ("test", 3)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                height, width = generator.integers(16, 40, 2)
                image = generator.normal([120 + 3 * label, 120, 140 - 3 * label], 40, (height, width, 3))
                image = np.clip(image, 0, 255).astype(np.uint8)
                encode, suffix = ((tf.io.encode_png, "png"), (tf.io.encode_jpeg, "jpg"))[number % 2]
                (root / split / name / f"{number}.{suffix}").write_bytes(encode(image).numpy())
    for name, content in _BROKEN.items():
        (root / name).write_bytes(content)
    return root


def _arguments(run: Path, animals: Path, *bindings: str) -> list[str]:
    bindings = (
        *TINY_BINDINGS,
        f'folder.path = "{animals}"',
        "folder.image_size = 16",
        f"Protocol.classes = {_PHASES}",
        "ModelLevel.batch_size = 10",
        "ExemplarLevel.classes_per_chunk = 2",
        "ExemplarLevel.batch_size = 8",
        "ExemplarLevel.inner_batch_size = 4",
        "ExemplarLevel.learning_rate = 6e3",  # moves pixels by more than rounding in so few steps
        "ExemplarLevel.adjust_learning_rate = 6e3",
        "Probe.enabled = False",
        *bindings,
    )
    return [
        f"--gin_file={ROOT}/configs/methods/lucir.gin",
        f"--gin_file={ROOT}/configs/datasets/folder.gin",
        *(f"--gin_param={binding}" for binding in bindings),
        f"--output_dir={run}",
    ]


_QUICK = ("Experiment.method = @replay", "BalancedFinetune.enabled = False", 'ExemplarLevel.engine = "head"')
_STREAMED = ("folder.in_memory = False", "folder.resized_crop = True")


@pytest.fixture(scope="module")
def animals(tmp_path_factory) -> Path:
    return _animals(tmp_path_factory.mktemp("data") / "animals")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory, animals) -> Path:
    """The folder of a finished run that reads random windows from files. Read only."""
    folder = tmp_path_factory.mktemp("runs") / "streamed"
    finished = run_main(_arguments(folder, animals, *_STREAMED))
    assert finished.returncode == 0, finished.stderr
    (folder.parent / "stdout.txt").write_text(finished.stdout)
    (folder.parent / "stderr.txt").write_text(finished.stderr)
    return folder


def _exemplars(folder: Path, phase: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"phases/{phase:03d}/exemplars.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def _check_same_exemplars(first: Path, second: Path, phases: Sequence[int] = (0, 1)) -> None:
    for phase in phases:
        name = f"phases/{phase:03d}/exemplars.npz"
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_streamed_run_learns_and_adjusts_exemplars(streamed):
    first, second = (_exemplars(streamed, phase) for phase in (0, 1))
    assert (second["images"].shape, second["images"].dtype) == ((24, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(second["labels"], np.repeat(_ORDER, 4))
    np.testing.assert_array_equal(first["labels"], np.repeat(_ORDER[:4], 4))
    adjusted = np.abs(second["images"][:16].astype(int) - first["images"]).reshape(4, -1)
    assert (adjusted.max(axis=1) > 0).all()  # in every class
    results = _read_json(streamed / "results.json")
    assert (results["dataset"], results["exemplars"], results["adjust_exemplars"]) == ("animals", "mnemonics", True)
    assert [phase["exemplars_per_class"] for phase in results["phases"]] == [4, 4]


def test_exemplars_are_learned_from_images_of_their_own_class(streamed, animals):
    files = [path for path in sorted((animals / "train").glob("*/*")) if path.stat().st_size]
    real = np.stack([centre_square(tf.io.decode_image(path.read_bytes()), 16) for path in files]).astype(int)
    arrays = _exemplars(streamed, 1)
    for label, image in zip(arrays["labels"], arrays["images"], strict=True):
        distances = np.abs(real - image).mean(axis=(1, 2, 3))
        assert files[distances.argmin()].parent.name == _NAMES[label]
        # Moved by learning, and far nearer to where it began than images of noise are to one another.
        assert 0 < distances.min() < 0.7 * np.median(distances)


def test_images_that_cannot_be_read_are_listed_with_the_reason(streamed, animals):
    skipped = _read_json(streamed / "skipped.json")
    assert set(skipped) == {str(animals / name) for name in _BROKEN}
    assert skipped[str(animals / "train/cat/4.png")] == "the file is empty"
    assert "Unknown image file format" in skipped[str(animals / "test/elk/1.jpg")]
    stderr = (streamed.parent / "stderr.txt").read_text()
    assert "1 of 18 training images cannot be read" in stderr
    assert "1 of 12 test images cannot be read" in stderr
    assert "skipped      2 images, listed in" in (streamed.parent / "stdout.txt").read_text()


def test_note_on_the_data_holds_names_order_and_statistics(streamed):
    data = _read_json(streamed / "data.json")
    assert data["class_names"] == _NAMES
    assert data["class_order"] == _ORDER
    assert data["phase_sizes"] == [4, 2]
    assert len(data["pixel_range"]["mean"]) == len(data["pixel_range"]["std"]) == 3


def test_finished_run_leaves_no_scratch(streamed):
    assert [name for name in os.listdir(streamed) if name.startswith("scratch-")] == []


def test_run_that_failed_in_its_second_phase_ends_like_one_that_did_not(streamed, tmp_path, call_main: _Main):
    """Also: two runs with the same seed, in different processes, have the same bytes."""
    animals, run = _animals(tmp_path / "animals"), tmp_path / "run"
    arguments = _arguments(run, animals, *_STREAMED)
    whole = {path: path.read_bytes() for path in (animals / "train/ant").iterdir()}
    for path in whole:
        path.write_bytes(b"no picture")
    code, shown = call_main(arguments)
    assert code == 2
    # What was left out is said first, as ever.
    assert shown.splitlines()[-1].startswith("mnemonics_tf: No training image of 'ant' can be read (such as '")
    assert [path.name for path in (run / "phases").iterdir()] == ["000"]
    assert [phase["num_classes"] for phase in _read_json(run / "results.json")["phases"]] == [4]
    _check_same_exemplars(run, streamed, [0])

    # Not with other classes.
    (animals / "train/gnu").mkdir()
    (animals / "test/gnu").mkdir()
    for split in ("train", "test"):
        for number in range(9):
            shutil.copy(animals / "train/bee/0.png", animals / split / f"gnu/{number}.png")
    code, shown = call_main(arguments)
    assert (code, shown.count("\n")) == (2, 1)
    assert f"the run began with other data: class_names of {run}/data.json differ" in shown
    for split in ("train", "test"):
        shutil.rmtree(animals / split / "gnu")

    for path, content in whole.items():
        path.write_bytes(content)
    code, shown = call_main(arguments)
    assert code == 0, shown
    _check_same_exemplars(run, streamed)
    accuracies = [
        [phase["accuracy"] for phase in _read_json(folder / "results.json")["phases"]] for folder in (run, streamed)
    ]
    assert accuracies[0] == accuracies[1]


def test_run_goes_on_where_its_data_have_moved_and_not_with_others(tmp_path, call_main: _Main):
    run, first = tmp_path / "run", _animals(tmp_path / "job1" / "animals")
    code, shown = call_main(_arguments(run, first, *_QUICK))
    assert code == 0, shown
    results = _read_json(run / "results.json")
    shutil.rmtree(run / "phases/001")
    shutil.move(tmp_path / "job1", tmp_path / ("a_longer_name_" * 8))  # the binding goes on in a second line
    moved = tmp_path / ("a_longer_name_" * 8) / "animals"
    code, shown = call_main(_arguments(run, moved, *_QUICK))
    assert code == 0, shown
    assert [phase["accuracy"] for phase in _read_json(run / "results.json")["phases"]] == [
        phase["accuracy"] for phase in results["phases"]
    ]
    # Another image of a class that phase 0 has learned, of another size in bytes. A finished run shows what it has.
    before = shutil.copy(moved / "test/elk/0.png", tmp_path)
    (moved / "test/elk/0.png").write_bytes((moved / "test/bee/1.jpg").read_bytes())
    code, shown = call_main(_arguments(run, moved, *_QUICK))
    assert (code, shown.count("\n")) == (0, 1)
    assert shown.startswith(
        "The results are those of the data as they were. Data set 'animals': the test images of 'elk'"
    )
    shutil.rmtree(run / "phases/001")
    code, shown = call_main(_arguments(run, moved, *_QUICK))
    assert (code, shown.count("\n")) == (2, 1)
    assert "the test images of 'elk' are not those with which the run began" in shown
    shutil.copy(before, moved / "test/elk/0.png")
    # Of a class that is still to come: it is told, and is no obstacle to those who go on from there.
    (moved / "test/cat/0.png").write_bytes((moved / "test/bee/1.jpg").read_bytes())
    code, shown = call_main(_arguments(run, moved, *_QUICK))
    assert (code, shown.count("the images of 'cat' are not those with which the run began.")) == (0, 1)
    assert call_main(_arguments(run, moved, *_QUICK)) == (0, "")


@pytest.mark.heavy
def test_run_that_holds_its_images_learns_the_same_from_whole_squares(animals, tmp_path, call_main: _Main):
    """Padding, cropping and mirroring draw by the same seeds, wherever images are kept."""
    held, streamed = tmp_path / "held", tmp_path / "streamed"
    for folder, in_memory in ((held, True), (streamed, False)):
        code, shown = call_main(_arguments(folder, animals, f"folder.in_memory = {in_memory}", *_QUICK))
        assert code == 0, shown
        assert len(_read_json(folder / "skipped.json")) == 2
    _check_same_exemplars(held, streamed)
    assert _read_json(held / "data.json") == _read_json(streamed / "data.json")


def test_streamed_exemplars_are_kept_as_codes_of_so_many_bytes(animals, tmp_path, call_main: _Main):
    coded = ('ExemplarMemory.codec = "jpeg"', "ExemplarMemory.quality = 80", "ExemplarMemory.bytes_per_class = 1500")
    chosen = ('ExemplarMemory.strategy = "random"', "ExemplarMemory.adjust = False", "ExemplarMemory.per_class = 20")
    bindings = (*_STREAMED, *_QUICK, *coded, *chosen)
    code, shown = call_main(_arguments(tmp_path / "run", animals, *bindings))
    assert code == 0, shown
    phases = _read_json(tmp_path / "run/results.json")["phases"]
    for number, phase in enumerate(phases):
        path = tmp_path / f"run/phases/{number:03d}/exemplars.npz"
        exemplars = read_exemplars(path)
        assert (exemplars.images.shape[1:], exemplars.images.dtype) == ((16, 16, 3), np.uint8)
        assert set(exemplars.labels) == set(_ORDER[: phase["num_classes"]])
        assert len(exemplars.images) == phase["num_exemplars"]
        assert sum(array.nbytes for array in _exemplars(tmp_path / "run", number).values()) == phase["memory_bytes"]
        assert 750 < phase["bytes_per_class"] <= 1500
    before = read_exemplars(path).images
    shutil.rmtree(tmp_path / "run/phases/001")
    code, shown = call_main(_arguments(tmp_path / "run", animals, *bindings))
    assert code == 0, shown
    np.testing.assert_array_equal(read_exemplars(path).images, before)
    for slip, message in (
        ("ExemplarMemory.code_new = 0.5", "code_new = 0.5: of a data set that is streamed"),
        (
            "ExemplarMemory.bytes_per_class = 100",
            "bytes_per_class = 100 leaves 100 bytes of a class, but an exemplar of",
        ),
    ):
        code, shown = call_main(_arguments(tmp_path / "no", animals, *bindings, slip))
        assert (code, shown.count("\n")) == (2, 1)
        assert message in shown
        assert not (tmp_path / "no").exists()


@pytest.mark.heavy
def test_streamed_exemplars_are_kept_as_the_files_they_came_in(animals, tmp_path, call_main: _Main):
    chosen = ('ExemplarMemory.strategy = "random"', "ExemplarMemory.adjust = False", 'ExemplarMemory.codec = "source"')
    bindings = (*_STREAMED, *_QUICK, *chosen, "ExemplarMemory.bytes_per_class = 6000", "ExemplarMemory.per_class = 20")
    run = tmp_path / "run"
    code, shown = call_main(_arguments(run, animals, *bindings))
    assert code == 0, shown
    files = {path.read_bytes(): path.parent.name for path in animals.glob("train/*/*")}
    arrays = _exemplars(run, 1)
    contents = [piece.tobytes() for piece in np.split(arrays["codes"], np.cumsum(arrays["lengths"]))[:-1]]
    assert [files[content] for content in contents] == [_NAMES[label] for label in arrays["labels"]]
    phase = _read_json(run / "results.json")["phases"][1]
    assert sum(array.nbytes for array in arrays.values()) == phase["memory_bytes"]
    assert phase["bytes_per_class"] <= 6000
    before = (run / "phases/001/exemplars.npz").read_bytes()
    shutil.rmtree(run / "phases/001")
    code, shown = call_main(_arguments(run, animals, *bindings))
    assert code == 0, shown
    assert (run / "phases/001/exemplars.npz").read_bytes() == before
    code, shown = call_main(_arguments(tmp_path / "no", animals, *chosen, "folder.in_memory = True"))
    assert (code, shown.count("\n")) == (2, 1)
    assert "Set in_memory = False of a folder" in shown
