"""`learn` and `predict` as a user would call them: a folder, then more of it without the old images, then questions."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from conftest import ROOT
from photographs import NAMES, picture, write

from mnemonics_tf import export, learn, predict
from mnemonics_tf.learner.answers import Evaluation, Learned
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.system import screen, stopping

_TINY = ("--size=16", "--memory=4", "--epochs=1", "--method=replay")
_SIZE = {"height": 36, "width": 48}


@dataclasses.dataclass(frozen=True)
class _Ended:
    """How a command ended: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str


def _call(command, *arguments: str | Path) -> _Ended:
    stdout, stderr = io.StringIO(), io.StringIO()
    last_words = mock.patch.object(screen, "last_words", lambda text: stderr.write(f"{text}\n"))
    with flagsaver.flagsaver(), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), last_words:
        flags.FLAGS.unparse_flags()
        code = command.main(flags.FLAGS(["mnemonics_tf", *map(str, arguments)]))
    return _Ended(code, stdout.getvalue(), stderr.getvalue())


@dataclasses.dataclass(frozen=True)
class _Taught:
    """A learner that learned two classes, and then two more beside further images of the first.

    Attributes:
      folder: of the learner.
      images: of each arrival, two folders.
      stopped: what the first command said, which a signal has stopped in its first step.
      ended: what the command said of each; of the first arrival the one that went on.
    """

    folder: Path
    images: tuple[Path, Path]
    stopped: _Ended
    ended: tuple[_Ended, _Ended]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> _Taught:
    """Read only."""
    root = tmp_path_factory.mktemp("learn")
    first = write(root / "january", NAMES[:2], 10, **_SIZE)
    second = write(root / "march", NAMES[2:4], 10, **_SIZE)
    write(second, NAMES[:1], 5, first=10, **_SIZE)
    folder = root / "learner"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "asked", lambda: "SIGTERM")
        stopped = _call(learn, folder, first, *_TINY)
    begun = _call(learn, folder, first, *_TINY)
    shutil.move(first, root / "gone")
    return _Taught(folder, (root / "gone", second), stopped, (begun, _call(learn, folder, second, "--epochs=1")))


@pytest.fixture(scope="module")
def learner(taught) -> IncrementalLearner:
    return IncrementalLearner.load(taught.folder)


@pytest.fixture
def copy(taught, tmp_path) -> Path:
    return Path(shutil.copytree(taught.folder, tmp_path / "learner"))


def test_command_says_what_is_new_how_long_it_takes_and_what_came_of_it(taught):
    begun, taught_more = taught.ended
    assert [(ended.code, ended.stderr) for ended in taught.ended if ended.code] == []
    lines = begun.stdout.splitlines()
    assert lines[0].startswith(f"New in {taught.images[0].parent}/january: 2 new classes ('barred', 'checked'), ")
    assert lines[1].startswith("Learning them takes about ")
    shown = taught_more.stdout
    assert "2 new classes ('cross', 'disc') and more images of 'barred', " in shown
    assert "knows       4 classes: barred, checked, cross, disc\n" in shown
    assert "of classes known before: " in shown
    assert "\nforgotten   " in shown
    assert f"model       {taught.folder}/model" in shown


def test_signal_stops_after_the_step_and_the_same_command_goes_on(taught):
    assert taught.stopped.code == 3
    line = taught.stopped.stderr.splitlines()[-1]
    assert line.startswith("mnemonics_tf: stopped by SIGTERM; what train_model_steps has come to is kept. Go on with: ")
    assert "It goes on with what an interrupted attempt to learn this has come to." in taught.ended[0].stderr
    assert "It goes on" not in taught.ended[1].stderr
    assert len(list((taught.folder / "states").iterdir())) == 1  # and no progress


def test_learner_in_two_arrivals_is_as_one_that_sees_all_at_once(taught, learner, tmp_path):
    for folder in taught.images:
        shutil.copytree(folder, tmp_path / "all", dirs_exist_ok=True)
    news = IncrementalLearner(image_size=16, validation_share=0.2).what_is_new(tmp_path / "all")
    assert learner.class_names == news.new_classes == NAMES[:4]
    assert tf.saved_model.load(str(taught.folder / "model")).classes()["class_ids"].numpy().tolist() == [0, 1, 2, 3]
    (state,) = (taught.folder / "states").iterdir()
    with np.load(state / "seen.npz") as seen:
        for part, held_out in ((news.train, False), (news.test, True)):
            found = {digest.tobytes() for digest in seen["digests"][seen["is_held_out"] == held_out]}
            assert found == {digest.tobytes() for digest in part.digests}


def test_accuracies_are_those_of_held_out_images(taught, learner):
    last = learner.history[-1]
    held_out = learner._state.seen.held_out
    assert last.num_images == len(held_out)
    # What the network itself says of the pictures that the folder of its state holds.
    answers = learner.predict(held_out.array)
    assert last.accuracy == pytest.approx(100 * np.mean(answers.ids == held_out.labels))
    assert f"accuracy    {last.accuracy:.1f} % of {last.num_images} held-out images" in taught.ended[1].stdout


def test_epochs_are_for_one_time(learner):
    assert learner.settings.model_level.epochs == 30  # what suits images of 16 pixels


def test_what_is_recognised_less_well_may_be_forgotten():
    before = Evaluation(75.0, {}, {"ant": 100.0, "bee": 50.0, "cat": 75.0}, 12, 3)
    after = Evaluation(70.0, {}, {"ant": 75.0, "bee": 50.0, "cat": 100.0, "dog": 50.0}, 16, 4)
    learned = Learned(("dog",), {"dog": 9}, before, after, 75.0, 3.0)
    assert learned.forgotten == {"ant": (100.0, 75.0)}
    assert Learned(("dog",), {"dog": 9}, None, after, None, 3.0).forgotten == {}


def test_nothing_is_learned_twice(copy, taught):
    before = json.loads((copy / "learner.json").read_text())
    ended = _call(learn, copy, taught.images[1])
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Nothing is new in {taught.images[1]}: 25 images that were seen before.")
    assert json.loads((copy / "learner.json").read_text()) == before


def test_predict_answers_what_can_be_read_and_names_the_rest(taught, tmp_path):
    photograph = taught.images[0] / "barred/000.jpg"  # stored turned
    content = photograph.read_bytes()
    for name, broken in (("empty.jpg", b""), ("cut.jpg", content[:300]), ("text.png", b"no picture\n")):
        (tmp_path / name).write_bytes(broken)
    asked = [photograph, *(tmp_path / name for name in ("empty.jpg", "cut.jpg", "text.png", "none.jpg")), photograph]
    ended = _call(predict, taught.folder / "model", *asked, "--top=2")
    assert ended.code == 2
    named = [line.partition(" cannot be read: ")[0] for line in ended.stderr.splitlines()]
    assert named == [f"mnemonics_tf: {path}" for path in asked[1:5]]
    first, second = ended.stdout.splitlines()
    assert first == second
    assert first.startswith(f"{photograph}: ")
    assert first.count(" %") == 2


def test_model_and_learner_answer_alike(taught, learner):
    paths = sorted(taught.images[1].glob("*/00[0-3].jpg"))
    asked = [_call(predict, folder, *paths, "--top=4") for folder in (taught.folder, taught.folder / "model")]
    assert [ended.code for ended in asked] == [0, 0]
    assert asked[0].stdout == asked[1].stdout
    best = [line.partition(": ")[2].rpartition(" %, ")[0].split(" ")[0] for line in asked[0].stdout.splitlines()]
    assert best == list(learner.predict(paths))


def test_learner_becomes_a_version_for_each_state(copy, taught, tmp_path, monkeypatch, capfd):
    export_model = IncrementalLearner.export
    # As TensorFlow's libraries do when they are loaded.
    monkeypatch.setattr(
        IncrementalLearner, "export", lambda *given: (os.write(2, b"a library talks\n"), export_model(*given))
    )
    for _ in range(2):  # the second time nothing is new
        ended = _call(export, copy, tmp_path / "models", "--name=tiles", "--format=serving")
        assert (ended.code, ended.stderr) == (0, "")
    assert "a library talks" not in capfd.readouterr().err
    assert "Nothing is new" in ended.stdout
    assert {path.name for path in (tmp_path / "models/tiles").iterdir()} == {"1"}
    photographs = sorted(taught.images[1].glob("*/00[0-3].jpg"))
    asked = _call(predict, tmp_path / "models/tiles/1", *photographs)
    # The graph reads the very files as `predict` does.
    model = tf.saved_model.load(str(tmp_path / "models/tiles/1"))
    answer = model.serve_jpeg(tf.constant([path.read_bytes() for path in photographs]))
    shown = [line.partition(": ")[2].split(" ")[0] for line in asked.stdout.splitlines()]
    assert [name.decode() for name in answer["class_names"].numpy()] == shown


def test_photograph_is_turned_as_its_camera_noted(taught, tmp_path):
    path = tmp_path / "upright.png"
    path.write_bytes(tf.io.encode_png(picture("barred", 0, **_SIZE)).numpy())
    ended = _call(predict, taught.folder / "model", path, taught.images[0] / "barred/000.jpg", "--top=1")
    probabilities = [float(line.split(" ")[-2]) for line in ended.stdout.splitlines()]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=3.0)  # JPEG loses a little


@contextlib.contextmanager
def _files_of_at_most(num_bytes: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_model_of_a_state_that_was_undone_is_exported_anew(copy, taught):
    # As after a copy of an earlier learner was put back without its model: states are numbered as they were.
    mark = copy / "model/assets.extra/state"
    (state,) = (copy / "states").iterdir()
    with (state / "COMPLETE").open("a") as file:
        file.write(" ")
    before = mark.read_text()
    ended = _call(learn, copy, taught.images[1])
    assert ended.code == 0
    assert mark.read_text() != before
    again = (copy / "model/saved_model.pb").stat().st_mtime_ns
    assert _call(learn, copy, taught.images[1]).code == 0
    assert (copy / "model/saved_model.pb").stat().st_mtime_ns == again


def test_export_without_space_loses_nothing_and_is_made_up_for(copy, taught):
    shutil.rmtree(copy / "model")
    (copy / ".model.k1lled/new").mkdir(parents=True)  # as a process leaves it that is killed while it exports
    with _files_of_at_most(50_000):
        ended = _call(learn, copy, taught.images[1])
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"mnemonics_tf: {copy}/model cannot be written (File too large). ")
    assert f"What was learned is saved in {copy}: make room, and the same command exports it" in line
    assert {path.name for path in copy.iterdir()} == {"learner.json", "states", ".lock", ".learning"}
    assert _call(learn, copy, taught.images[1]).code == 0
    assert _call(predict, copy / "model", taught.images[1] / "disc/001.jpg").code == 0


def test_second_process_is_kept_out(copy, taught):
    script = (
        "import sys, time; from mnemonics_tf.system import locks; held = locks.hold(sys.argv[1]); print(1, flush=True);"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(copy / ".learning")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        ended = _call(learn, copy, taught.images[1])
        other.kill()
    assert ended.code == 4
    assert "another process is learning there" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Expected two folders"),
        (("{new}", "{images}", "x"), "Unexpected argument 'x'"),
        (("", "{images}"), "LEARNER_DIR is empty: expected a path."),
        (("{new}", "{none}"), "IMAGES_DIR = {none}: there is no such folder"),
        (("{new}", "{none}/images"), "IMAGES_DIR = {none}/images: there is no such folder"),
        (("{new}/images: all", "{none}"), "IMAGES_DIR = {none}: there is no such folder"),
        (("{new}", "{twice}"), "IMAGES_DIR = {twice}: there is nothing to begin with, as no image is left"),
        (("{new}", ""), "IMAGES_DIR is empty: expected a path"),
        (("{new}", "{learner}"), "IMAGES_DIR = {learner}: that is the folder of a learner."),
        (("{new}", "{learner}/model"), "IMAGES_DIR = {learner}/model: that is the folder of a model."),
        (("{images}/birds", "{images}"), "LEARNER_DIR = {images}/birds: it lies in IMAGES_DIR, where every folder is"),
        (("{new}", "{empty}"), "IMAGES_DIR: '{empty}' has no folders, so no classes"),
        (("{run}", "{images}"), "LEARNER_DIR = {run}: that is the folder of a run."),
        (("{learner}/model", "{images}"), "that is an exported model, which learns no more"),
        (("{images}", "{images}"), "the folder is not empty and holds no learner"),
        (("{images}/cross/000.jpg", "{images}"), "a file is there"),
        (("{learner}", "{images}", "--method=icarl"), "--method = icarl: the learner in {learner} was begun with"),
        (("{learner}", "{images}", "--memory=5"), "--memory = 5: the learner"),
        (("{learner}", "{images}", "--from_run={run}"), "--from_run: there is a learner in {learner} already"),
        (("{new}", "{images}", "--from_run={run}", "--seed=1"), "--seed and --from_run: "),
        (("{new}", "{images}", "--from_run={images}"), "{images}: there is no config.gin in it"),
        (("{new}", "{images}", "--method=lucyr"), "Did you mean 'lucir'"),
        (("{new}", "{images}", "--memory=2Q"), "--memory = '2Q': expected a number"),
        (("{new}", "{images}", f"--memory={'9' * 5000}"), "expected a number of exemplars a class, or bytes"),
        (("{new}", "{images}", "--held_out=1.0"), "--held_out = 1.0"),
        (("{new}", "{images}", "--epochs=0"), "--epochs = 0"),
        (
            ("{new}", "{images}", "--backbone=ResNet50"),
            "--backbone=ResNet50: a model of keras.applications starts from",
        ),
        (("{new}", "{images}", "--backbone=small", "--weights={images}"), "--weights with --backbone=small"),
        (("{new}", "{images}", "--weights={none}"), "--weights = {none}: there is no such file."),
        (("{new}", "{images}", "--weights={file}", "--backbone=ResNet5"), "Did you mean 'ResNet50'"),
        (("{new}", "{images}", "--weights={file}", "--size=20"), "--backbone=MobileNetV2 with --size=20: "),
        (("{new}", "{images}", "--weights={file}"), "do not fit the model 'mobilenetv2'"),
        (("{learner}", "{images}", "--weights={file}"), "--weights = {file}: the learner in {learner} was begun with"),
    ],
)
def test_mistake_is_one_line_and_touches_nothing(taught, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.gin").write_text("")
    for name in ("ant", "bee"):
        shutil.copytree(taught.images[1] / "disc", tmp_path / "twice" / name)
    names = {
        "twice": tmp_path / "twice",
        "new": tmp_path / "new",
        "none": tmp_path / "none",
        "empty": tmp_path / "empty",
        "run": tmp_path / "run",
        "learner": taught.folder,
        "images": taught.images[1],
        "file": tmp_path / "run/config.gin",
    }
    ended = _call(learn, *(each.format(**names) for each in arguments))
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert message.format(**names) in line
    assert not names["new"].exists()


@pytest.mark.parametrize(
    ("flag", "is_same"),
    [("--memory=4", True), ("--learn_exemplars", True), ("--memory=5", False), ("--nolearn_exemplars", False)],
)
def test_flags_of_the_memory_are_compared_one_by_one(copy, taught, monkeypatch, flag, is_same):
    card = json.loads((copy / "learner.json").read_text())
    card["memory"] |= {"strategy": "mnemonics", "adjust": True}  # as `--memory=4 --learn_exemplars` begins one
    (copy / "learner.json").write_text(json.dumps(card))
    monkeypatch.setattr(learn, "_learn", lambda *arguments: None)
    ended = _call(learn, copy, taught.images[1], flag)
    assert ended.code == (0 if is_same else 2)
    assert ("was begun with another" in ended.stderr) != is_same


def test_memory_in_bytes(tmp_path):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["mnemonics_tf", "--memory=2MB", "--learn_exemplars"])
        memory = learn._options()["memory"]
    assert (memory.total_bytes, memory.codec, memory.strategy) == (2_000_000, "webp", "mnemonics")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{none}", "x.jpg"), "MODEL_DIR = {none}: there is no such folder"),
        (("{images}", "x.jpg"), "MODEL_DIR = {images}: no model and no learner is in it"),
        ((), "Expected a model and images"),
        (("", "x.jpg"), "MODEL_DIR is empty: expected a path"),
        (("{learner}",), "Expected a model and images"),
        (("{learner}", "x.jpg", "--top=0"), "--top = 0"),
        (("{broken}", "x.jpg"), "MODEL_DIR = {broken}: no model that mnemonics_tf exported ("),
    ],
)
def test_mistake_in_a_question_is_one_line(taught, tmp_path, arguments, message):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/saved_model.pb").write_bytes(b"x")
    names = {"none": "/no/such", "images": taught.images[1], "learner": taught.folder, "broken": tmp_path / "broken"}
    ended = _call(predict, *(each.format(**names) for each in arguments))
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert message.format(**names) in line


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "IMAGES_DIR: '{images}' has no folders, so no classes"),
        (("ant/1.txt", "bee/1.jpg"), "IMAGES_DIR: no image in 'ant' in '{images}'"),
        (("ant/1.jpg",), "There is one class, 'ant'"),
        (("ant/1.jpg", "Ant/1.jpg"), "IMAGES_DIR: the classes 'Ant' and 'ant' in '{images}' differ only by case"),
    ],
)
def test_what_names_of_files_tell_is_said_before_tensorflow_is_imported(tmp_path, monkeypatch, names, message):
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    (tmp_path / "images").mkdir(exist_ok=True)
    monkeypatch.setattr(learn, "_learn", None)  # which imports it
    ended = _call(learn, tmp_path / "learner", tmp_path / "images")
    assert ended.code == 2
    assert ended.stderr.startswith(f"mnemonics_tf: {message.format(images=tmp_path / 'images')}")
    assert not (tmp_path / "learner").exists()


@pytest.mark.parametrize("module", ["learn", "predict", "export"])
def test_help_needs_no_tensorflow(module):
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"mnemonics_tf.{module}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0
    assert "flags:" in finished.stdout
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "mnemonics_tf.system.screen" in imported
    assert not imported & {"tensorflow", "keras", "scipy", "sklearn"}
