"""A learner whose process is killed goes on in the middle of the step, and ends with the bytes of one that was not."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_learner import bars, tiny_learner

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import Arrival
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.system import snapshots
from mnemonics_tf.system.snapshot_files import PhaseSnapshots
from mnemonics_tf.verify import verdicts


class _KilledError(BaseException):
    """The process ends here."""


def _files(folder: Path) -> dict[str, bytes]:
    """All that a learner consists of."""
    return {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".progress-" not in str(path) and path.name != ".lock"
    }


def _teach(folder: Path) -> None:
    """What a script would do: the saved learner learns two further classes, and is saved."""
    learner = IncrementalLearner.load(folder)
    learner.learn(*bars([2, 3], 8), progress=folder)
    learner.save(folder)


def test_learner_that_is_killed_inside_of_steps_ends_with_the_same_bytes(tmp_path, monkeypatch, capsys):
    begun = tiny_learner("replay")
    begun.learn(*bars([0, 1], 8))
    for name in ("whole", "killed"):
        begun.save(tmp_path / name)
    before = _files(tmp_path / "killed")
    _teach(tmp_path / "whole")

    save, counts = PhaseSnapshots.save, dict.fromkeys(("train_model_steps", "finetune_balanced_steps"), 0)

    def save_and_die(store: PhaseSnapshots, stage: str, state) -> None:
        save(store, stage, state)
        if stage in counts:
            counts[stage] += 1
            if counts[stage] == (3 if stage == "train_model_steps" else 1):  # in the middle of an epoch of two steps
                raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr(PhaseSnapshots, "save", save_and_die)
        patch.setattr(snapshots, "_TIMES_ITS_COST", 0)
        patch.setattr("mnemonics_tf.learner.journal.SECONDS_APART", 1e-9)  # after every step
        for _ in counts:
            with pytest.raises(_KilledError):
                _teach(tmp_path / "killed")
            assert _files(tmp_path / "killed") == before
            (note,) = [each for each in verdicts(str(tmp_path / "killed")) if each.state == "note"]
            assert note.why == "what an interrupted attempt to learn has come to"
    shown = capsys.readouterr().err
    assert shown.count("It goes on with what an interrupted attempt") == 1
    _teach(tmp_path / "killed")
    # Eight epochs of two steps, and the end: none was taken twice, and the third attempt has trained no more.
    assert counts == {"train_model_steps": 8 * 2 + 1, "finetune_balanced_steps": 1}
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "killed/states").iterdir()} == {"000001"}


def test_progress_of_other_images_or_settings_is_not_taken(tmp_path, monkeypatch, capsys):
    def keep_and_die(learner: IncrementalLearner, arrival: Arrival) -> None:
        learner._journal.store(0).save("train_model_steps", {"step": np.array(1)})
        raise _KilledError

    def attempt(images_seed: int = 0, **changes) -> str:
        """What a learner says that dies when its first state is kept."""
        with pytest.raises(_KilledError):
            tiny_learner("replay", **changes).learn(*bars([0, 1], 8, images_seed), progress=tmp_path / "new")
        return capsys.readouterr().err

    monkeypatch.setattr(IncrementalLearner, "advance", keep_and_die)
    other = "An attempt with other images or settings was interrupted, and this one begins anew; "
    assert "interrupted" not in attempt()
    assert "It goes on with what an interrupted attempt" in attempt()
    assert other in attempt(images_seed=1)
    assert other in attempt(seed=1)
    assert "It goes on with what an interrupted attempt" in attempt(images_seed=1)
    assert len(list((tmp_path / "new/states").glob("first.progress-*"))) == 3


def test_folder_of_something_else_is_refused_before_anything_is_learned(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="the folder is not empty and holds no learner"):
        tiny_learner("replay").learn(*bars([0, 1], 8), progress=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def _small() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()])


@pytest.mark.parametrize(
    "settings",
    [{"memory": Memory(total_bytes=4000, codec="webp", adjust=False)}, {"backbone": _small()}],
    ids=["codes of two phases", "network of its own"],
)
def test_saved_and_loaded_learners_find_what_the_same_attempt_has_come_to(tmp_path, monkeypatch, settings):
    learner = tiny_learner("replay", **settings)
    for classes in ([0, 1], [2]):
        learner.learn(*bars(classes, 8))
    learner.save(tmp_path / "learner")
    found = []

    def keep_and_die(learner: IncrementalLearner, arrival: Arrival) -> None:
        store = learner._journal.store(0)
        found.append(store.load("train_model_steps"))
        store.save("train_model_steps", {"step": np.array(1)})
        raise _KilledError

    monkeypatch.setattr(IncrementalLearner, "advance", keep_and_die)
    for each in (learner, IncrementalLearner.load(tmp_path / "learner")):
        with pytest.raises(_KilledError):
            each.learn(*bars([3], 8), progress=tmp_path / "learner")
    assert found[0] is None
    assert found[1]["step"] == 1


def test_attempt_that_came_to_its_end_is_not_called_interrupted(tmp_path, capsys):
    learner = tiny_learner("replay")
    for classes in ([0, 1], [2]):
        learner.learn(*bars(classes, 8), progress=tmp_path / "learner")
    assert "interrupted" not in capsys.readouterr().err
