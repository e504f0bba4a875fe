"""A run made in Python: settings and data are objects, and nothing is bound anywhere."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.types import Dataset, LabelledImages
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.experiment import Run
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.analytic import Analytic
from mnemonics_tf.methods.bic import BiC
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.system import snapshots
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.system.snapshot_files import PhaseSnapshots
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_SETTINGS = Settings(
    Replay(),
    ResNet((1,), (4,), embedding_dim=4),
    Memory(strategy="random", per_class=2, adjust=False),
    ModelLevel(epochs=1, batch_size=8, milestones=(), weight_transfer="none"),
    finetuning=BalancedFinetune(enabled=False),
    probe=Probe(enabled=False),
)


def _data(num_classes: int = 4, count: int = 6) -> Dataset:
    """Noise: what is tested is not what the network makes of it."""
    generator = np.random.default_rng(0)

    def part(each: int) -> LabelledImages:
        images = generator.integers(0, 256, (num_classes * each, 8, 8, 3), np.uint8)
        return LabelledImages(images, np.repeat(np.arange(num_classes), each))

    names = tuple(f"kind {class_id}" for class_id in range(num_classes))
    return Dataset("noise", part(count), part(2), names, horizontal_flip=False, crop_padding=0)


class _Loader:
    """Loads the data and counts how often."""

    def __init__(self, data: Dataset):
        self._data, self.count = data, 0

    def __call__(self) -> Dataset:
        self.count += 1
        return self._data


def _configured(settings: Settings, load=None, protocol: Protocol | None = None) -> Configuration:
    protocol = protocol or Protocol(num_phases=2, initial_share=0.5)
    return Configuration(settings, protocol, Devices(), None, load or _Loader(_data()), lambda: f"# {settings}\n")


def test_run_needs_no_configuration_file(tmp_path):
    configuration = _configured(_SETTINGS)
    run = Run(str(tmp_path / "run"), lambda: configuration)
    assert not (tmp_path / "run").exists()
    assert run.num_phases == 3
    results = run.run()
    assert [phase.num_classes for phase in results.phases] == [2, 3, 4]
    assert json.loads((tmp_path / "run/results.json").read_text())["dataset"] == "noise"
    del run  # with it goes the lock
    # What is complete is not trained again, and told from its files.
    again = Run(str(tmp_path / "run"), lambda: configuration).run()
    assert again == results
    # Figures of an early phase that `results.json` alone still has are enough to go on.
    (tmp_path / "run/phases/000/metrics.json").unlink()
    shutil.rmtree(tmp_path / "run/phases/002")
    again = Run(str(tmp_path / "run"), lambda: configuration).run()
    assert [phase.accuracy for phase in again.phases] == [phase.accuracy for phase in results.phases]


def test_settings_are_refused_before_the_data_are_loaded(tmp_path):
    conflicts = [
        (dataclasses.replace(_SETTINGS, method=BiC(), memory=Memory(strategy="random", per_class=1, adjust=False)),
         "holds out at least one exemplar"),
        (dataclasses.replace(_SETTINGS, memory=Memory(per_class=1)), "splits each class in 2 parts"),
        (dataclasses.replace(_SETTINGS, exemplar_level=ExemplarLevel(learn_labels=True)), "only the balanced"),
        (dataclasses.replace(_SETTINGS, exemplar_level=ExemplarLevel(engine="prototype"), head="linear"),
         "linear head"),
        (dataclasses.replace(_SETTINGS, memory=Memory(per_class=0, strategy="random", adjust=False)),
         "needs exemplars"),
    ]  # fmt: skip
    for settings, message in conflicts:
        load = _Loader(_data())
        with pytest.raises(UsageError, match=message):
            Run(str(tmp_path / "run"), lambda settings=settings, load=load: _configured(settings, load))
        assert load.count == 0
    assert not (tmp_path / "run").exists()


def test_single_phase_asks_nothing_of_later_ones(tmp_path):
    # One exemplar cannot be split in two parts, and nothing is adjusted before a second phase.
    settings = dataclasses.replace(_SETTINGS, memory=Memory(per_class=1))
    Run(str(tmp_path / "run"), lambda: _configured(settings, protocol=Protocol(num_phases=0)))


@pytest.mark.parametrize("enabled", [None, True])
def test_batches_of_a_methods_own_fine_tuning_are_checked(enabled):
    # 2 exemplars of 2 classes cannot be shared by 8 devices; EEIL fine-tunes later phases by itself.
    from mnemonics_tf.learner.settings import PhasePlan

    settings = dataclasses.replace(
        _SETTINGS, method=EEIL(), finetuning=BalancedFinetune(enabled=enabled, initial_phase=False, batch_size=8)
    )
    plan = PhasePlan([2, 1], [50, 50, 50])
    settings.check_plan(plan, num_replicas=1)
    with pytest.raises(UsageError, match="6 training images in batches of 8 cannot be split among 8 devices"):
        settings.check_plan(plan, num_replicas=8)


class _KilledError(BaseException):
    """The process ends here."""


# Each long step, with as little in it as can be interrupted.
_EVERY_STEP = dataclasses.replace(
    _SETTINGS,
    memory=Memory(per_class=4, initial="herding"),
    model_level=ModelLevel(epochs=2, batch_size=8, milestones=(1,)),
    exemplar_level=ExemplarLevel(epochs=2, steps_per_epoch=2, inner_steps=1, learning_rate=100.0, optimiser="adam"),
    finetuning=BalancedFinetune(epochs=2, batch_size=8),
)


def _run_killed_in(places: dict[tuple[str, str], int], start, monkeypatch) -> list[tuple[str, str]]:
    """Starts a run again and again: it is killed once in each place, when its state has been saved so often.

    Args:
      places: phase and stage of each snapshot, and how often it is saved.
      start: makes the run.

    Returns:
      Where it was killed.
    """
    killed, count = [], collections.Counter()
    save = PhaseSnapshots.save

    def save_and_die(store, stage, state):
        save(store, stage, state)
        place = (os.path.basename(store._folder)[:3], stage)
        count[place] += 1
        if place not in killed and count[place] == places.get(place, places.get("else", 0)):
            killed.append(place)
            raise _KilledError

    monkeypatch.setattr(PhaseSnapshots, "save", save_and_die)
    monkeypatch.setattr(snapshots, "_TIMES_ITS_COST", 0)  # after every step
    while True:
        try:
            start().run()
        except _KilledError:
            continue
        return killed


def _check_same_bytes(first: Path, second: Path, phases: int) -> None:
    for phase in range(phases):
        for name in ("exemplars.npz", "checkpoint/model.weights.h5", "confusion.npz"):
            path = f"phases/{phase:03d}/{name}"
            assert (first / path).read_bytes() == (second / path).read_bytes(), path
    told = [json.loads((folder / "results.json").read_text()) for folder in (first, second)]
    for results in told:
        del results["checksum"]  # of durations, too
        for phase in results["phases"]:
            del phase["seconds"]
    assert told[0] == told[1]
    assert not list(second.glob("phases/*.snapshots"))


def test_run_that_is_killed_inside_of_steps_ends_with_the_bytes_of_one_that_is_not(tmp_path, monkeypatch):
    protocol, load = Protocol(num_phases=0), _Loader(_data())

    def run(name: str) -> Run:
        configuration = dataclasses.replace(_configured(_EVERY_STEP, load, protocol), snapshot_seconds=1e-9)
        return Run(str(tmp_path / name), lambda: configuration)

    run("whole").run()
    # In the middle of an epoch, each time: there are two epochs of three steps, of two meta-steps, and of two steps.
    places = {("000", "train_model_steps"): 4, ("000", "learn_exemplars"): 3, ("000", "finetune_balanced_steps"): 3}
    assert _run_killed_in(places, lambda: run("killed"), monkeypatch) == list(places)
    _check_same_bytes(tmp_path / "whole", tmp_path / "killed", 1)


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "number"), [("analytic", 6), ("bic", 26)])
def test_run_that_is_killed_once_in_every_stage_ends_with_the_same_bytes(tmp_path, monkeypatch, name, number):
    protocol, load = Protocol(num_phases=1, initial_share=0.5), _Loader(_data())
    probed = dataclasses.replace(
        _EVERY_STEP, method=BiC(), probe=Probe(repeats=1, epochs=1, scratch_epochs=1, batch_size=4)
    )
    fitted = dataclasses.replace(
        _SETTINGS,
        method=Analytic(units=20),
        memory=Memory(strategy="herding", per_class=0, adjust=False),
        network=ResNet((1, 1), (4, 4)),
    )
    settings = {"analytic": fitted, "bic": probed}[name]

    def run(kind: str) -> Run:
        configuration = dataclasses.replace(_configured(settings, load, protocol), snapshot_seconds=1e-9)
        return Run(str(tmp_path / kind), lambda: configuration)

    run("whole").run()
    assert len(_run_killed_in({"else": 1}, lambda: run("killed"), monkeypatch)) >= number
    _check_same_bytes(tmp_path / "whole", tmp_path / "killed", 2)
