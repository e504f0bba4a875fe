"""A learner's folder: whole after whatever happens, and refused if it is not what it should be."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from image_files import png, store
from tiny_learner import bars, tiny_learner

from mnemonics_tf import export, learn
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import folder
from mnemonics_tf.learner import saving
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.base import Method
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.serving.exported import read_exported
from mnemonics_tf.system import files, gin_flags, locks
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune


@dataclasses.dataclass(frozen=True)
class _Mine(Replay):
    """A method outside the package."""

    weight: float = 1.0
    name: ClassVar[str] = "mine"


@pytest.fixture(scope="module")
def learner() -> IncrementalLearner:
    learner = tiny_learner()
    learner.learn(*bars([0, 1], 8))
    return learner


@pytest.fixture(scope="module")
def saved(learner, tmp_path_factory) -> Path:
    """Read only."""
    folder = tmp_path_factory.mktemp("saved") / "learner"
    learner.save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _card(folder: Path, **changes) -> None:
    path = folder / "learner.json"
    card = json.loads(path.read_text())
    del card["checksum"]  # as earlier versions wrote it
    path.write_text(json.dumps({**card, **changes}))


def test_folder_holds_one_state(copy, learner):
    learner.save(copy)
    learner.save(copy)
    assert {path.name for path in copy.iterdir()} == {"learner.json", "states", ".lock"}
    (state,) = (copy / "states").iterdir()
    assert json.loads((copy / "learner.json").read_text())["state"] == f"states/{state.name}"
    assert {path.name for path in state.iterdir()} == {"network.weights.h5", "exemplars.npz", "means.npy", "COMPLETE"}
    with np.load(state / "exemplars.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["labels"], [0] * 4 + [1] * 4)


@pytest.mark.parametrize("broken", ["weights", "card"])
def test_save_that_fails_leaves_what_was_saved_before(copy, learner, monkeypatch, broken):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = _tree(copy)
    if broken == "weights":
        monkeypatch.setattr(saving, "save_exemplars", fail)
    else:
        monkeypatch.setattr(files, "write_text", fail)
    with pytest.raises(UsageError, match=r"cannot be written to \(No space left on device\)"):
        learner.save(copy)
    monkeypatch.undo()
    after = _tree(copy)
    assert {name: after[name] for name in before} == before
    assert IncrementalLearner.load(copy).class_names == ("0", "1")
    learner.save(copy)
    assert len(list((copy / "states").iterdir())) == 1


def test_process_that_is_killed_while_it_writes_the_first_card_may_be_started_again(learner, tmp_path):
    learner.save(tmp_path)
    # As a kill leaves it between the first byte of learner.json and its name.
    (tmp_path / "learner.json").rename(tmp_path / "learner.json.partial")
    assert learn._check_folder(str(tmp_path), {}) is None
    learner.save(tmp_path)
    assert IncrementalLearner.load(tmp_path).class_names == ("0", "1")
    assert not (tmp_path / "learner.json.partial").exists()


@pytest.mark.parametrize("shared", [True, False], ids=["loads", "saves"])
def test_whoever_works_in_the_folder_is_waited_for(copy, learner, capsys, shared):
    def save_or_load() -> IncrementalLearner | None:
        return learner.save(copy) if shared else IncrementalLearner.load(copy)

    # What learning took hours for is not lost because somebody loads the learner at that moment.
    with concurrent.futures.ThreadPoolExecutor(1) as other, locks.hold(str(copy / ".lock"), shared=shared):
        waiting = other.submit(save_or_load)
        while "another process is saving or loading there. Waiting for it" not in capsys.readouterr().err:
            assert not waiting.done()
            time.sleep(0.01)
    waiting.result()
    assert IncrementalLearner.load(copy).class_names == ("0", "1")


def test_folders_of_others_are_left_alone(learner, tmp_path):
    (tmp_path / "file").write_text("something")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    before = _tree(tmp_path)
    for call, message in (
        (lambda: learner.save(tmp_path / "file"), "a file is there"),
        (lambda: learner.save(tmp_path / "full"), "holds no learner"),
        (lambda: learner.export(tmp_path / "file"), "something else than a SavedModel"),
        (lambda: learner.export(tmp_path / "full"), "something else than a SavedModel"),
        (lambda: IncrementalLearner.load(tmp_path / "full"), "there is no learner.json in it"),
        (lambda: IncrementalLearner.load(tmp_path / "none"), "there is no such folder"),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    assert _tree(tmp_path) == before


def test_several_processes_may_load_at_once(copy):
    with saving.reading(str(copy)):
        assert IncrementalLearner.load(copy).class_names == ("0", "1")


def test_export_leaves_its_neighbours_alone_and_may_come_first(learner, tmp_path):
    for name in ("model.old", "model.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    before = _tree(tmp_path)
    for _ in range(2):
        learner.export(tmp_path / "model")
    assert {name: content for name, content in _tree(tmp_path).items() if not name.startswith("model/")} == before
    learner.export(tmp_path / "birds/serving")
    learner.save(tmp_path / "birds")
    assert IncrementalLearner.load(tmp_path / "birds").class_names == ("0", "1")
    with pytest.raises(UsageError, match="cannot be written to"):
        learner.export("/proc/model")


def test_learner_with_a_method_of_ones_own_is_loaded_with_its_class(tmp_path, monkeypatch):
    learner = tiny_learner(_Mine(weight=3.0))
    learner.learn(*bars([0, 1], 8))
    learner.save(tmp_path / "mine")
    with pytest.raises(UsageError, match=r"its method is 'mine', which is none of this package's"):
        IncrementalLearner.load(tmp_path / "mine")
    assert IncrementalLearner.load(tmp_path / "mine", method=_Mine).settings.method == _Mine(weight=3.0)
    # Commands are told its module.
    monkeypatch.setattr(gin_flags, "GIN_IMPORT", SimpleNamespace(value=[_Mine.__module__]))
    with export._saved_model(str(tmp_path / "mine")) as (model, exemplars):
        assert read_exported(model).class_names == ("0", "1")
        assert len(exemplars) == len(learner.memory)


def test_method_with_the_name_of_another_is_refused_before_it_would_be_loaded_as_that():
    class Mine(LwF):
        pass

    with pytest.raises(UsageError, match="Mine is called 'lwf', as a method of this package is"):
        IncrementalLearner(method=Mine())
    with pytest.raises(UsageError, match="Nameless has no name"):
        IncrementalLearner(method=type("Nameless", (Method,), {"losses": lambda *_: {}})())


@pytest.mark.parametrize("name", ["network.weights.h5", "exemplars.npz", "means.npy", "COMPLETE"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_damaged_file_is_named(copy, name, how):
    (path,) = copy.glob(f"states/*/{name}")
    if how == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is damaged: .* Put back a copy") as raised:
        IncrementalLearner.load(copy)
    assert "\n" not in str(raised.value)
    assert os.sep in str(raised.value)


def test_folder_whose_learner_is_damaged_is_left_as_it_is(tmp_path):
    (tmp_path / "learner.json").write_text('{"state": "../../etc", "checksum": 0}')
    with pytest.raises(UsageError, match="its checksum is another"):
        IncrementalLearner.load(tmp_path)
    assert os.listdir(tmp_path) == ["learner.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "has format 3: this version .* reads formats 1 and 2"),
        ({"format": None}, "has format None"),
        ({"method": {"name": "telepathy"}}, "its method is 'telepathy', which is none of this package's"),
        ({"memory": {"per_class": -1}}, r"is damaged: UsageError: ExemplarMemory\.per_class = -1"),
        ({"classes": {"ids": [0], "names": ["0", "1"], "sizes": [2]}}, "do not fit together"),
        ({"classes": {"ids": [], "names": [], "sizes": []}}, "do not fit together"),
        ({"state": "../../elsewhere"}, "do not fit together"),
        ({"phase": "x"}, "is damaged: ValueError"),
        ({"phase": float("inf")}, "is damaged: OverflowError"),
        ({"traits": {"image_shape": [float("nan")], "horizontal_flip": True, "crop_padding": 2}}, "IndexError"),
    ],
)
def test_card_that_says_something_else_is_refused(copy, changes, message):
    _card(copy, **changes)
    with pytest.raises(UsageError, match=message) as raised:
        IncrementalLearner.load(copy)
    assert "\n" not in str(raised.value)


def test_whole_card_whose_settings_this_machine_cannot_take_is_not_called_damaged(copy, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise UsageError("analytic.units = 10: too many for this machine.")

    monkeypatch.setattr("mnemonics_tf.learner.settings.Settings.check", refuse)
    with pytest.raises(UsageError, match=r"learner\.json: analytic\.units = 10: too many for this machine\."):
        IncrementalLearner.load(copy)


def test_learner_of_a_single_phase_with_one_exemplar_is_loaded(tmp_path):
    # Nothing is adjusted in a run without later phases, and so one exemplar is enough for it.
    learner = tiny_learner(memory=Memory(strategy="herding", per_class=2, adjust=True))
    learner.learn(*bars([0, 1], 8))
    learner.save(tmp_path / "learner")
    card = json.loads((tmp_path / "learner/learner.json").read_text())
    _card(tmp_path / "learner", memory={**card["memory"], "per_class": 1})
    assert IncrementalLearner.load(tmp_path / "learner").settings.memory.per_class == 1


def test_learner_that_keeps_files_as_they_came_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_MOST_BYTES_IN_MEMORY", 0)  # so that images stay in their files
    images, labels = bars([0, 1], 8)
    files_of = {f"photos/{label}/{row}.png": png(images[row]) for row, label in enumerate(labels)}
    store(tmp_path, files_of)
    learner = tiny_learner(memory=Memory(strategy="herding", per_class=4, adjust=False, codec="source"), image_size=8)
    learner.learn(tmp_path / "photos")
    learner.save(tmp_path / "learner")
    loaded = IncrementalLearner.load(tmp_path / "learner")
    np.testing.assert_array_equal(loaded.predict(images).probabilities, learner.predict(images).probabilities)
    with pytest.raises(UsageError, match="codec = 'source': these images are held in memory as pixels"):
        loaded.learn(*bars([2, 3], 8))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_card_that_is_no_card_is_refused(copy, content):
    (copy / "learner.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"learner\.json (is damaged|has format)"):
        IncrementalLearner.load(copy)


def test_folder_of_an_earlier_version_without_settings_of_rehearsal_is_loaded(copy):
    path = copy / "learner.json"
    card = json.loads(path.read_text())
    del card["checksum"]
    assert card.pop("rehearsal")["memory_share"] == 0.0
    path.write_text(json.dumps(card))
    assert IncrementalLearner.load(copy).settings.rehearsal == Rehearsal()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_folder_that_can_only_be_read_is_loaded(copy):
    (copy / ".lock").unlink()
    os.chmod(copy, 0o555)
    try:
        assert IncrementalLearner.load(copy).class_names == ("0", "1")
    finally:
        os.chmod(copy, 0o755)


def test_learner_with_coded_exemplars_goes_on_from_its_folder(tmp_path):
    memory = Memory(strategy="herding", adjust=False, codec="webp", bytes_per_class=900, code_new=0.5)
    learner = tiny_learner("replay", memory=memory, finetuning=BalancedFinetune(enabled=False))
    learner.learn(*bars([0, 1], 8))
    learner.save(tmp_path / "saved")
    loaded = IncrementalLearner.load(tmp_path / "saved")
    assert loaded.settings.memory == memory
    np.testing.assert_array_equal(loaded.memory.images, learner.memory.images)
    assert loaded.memory.counts == learner.memory.counts
    assert (loaded.memory.num_bytes, min(loaded.memory.counts.values()) > 1) == (learner.memory.num_bytes, True)
    with pytest.raises(UsageError, match=r"bytes_per_class = 50 leaves 50 bytes of a class, but .* of class '0'"):
        tiny_learner(memory=dataclasses.replace(memory, bytes_per_class=50)).learn(*bars([0, 1], 8))
