"""A run made in Python: settings and data are objects, and nothing is bound anywhere."""

from __future__ import annotations

import dataclasses
import json

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
from mnemonics_tf.methods.bic import BiC
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.run.snapshots import PhaseSnapshots
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.training.loop import Trainer
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


def test_interrupted_phase_goes_on_with_the_epoch_after_its_last(tmp_path, monkeypatch):
    settings = dataclasses.replace(
        _SETTINGS,
        memory=Memory(per_class=2, adjust=False),
        exemplar_level=ExemplarLevel(epochs=3, steps_per_epoch=1, inner_steps=1, learning_rate=100.0),
    )
    protocol, load = Protocol(num_phases=0), _Loader(_data())

    def run(name: str) -> Run:
        return Run(str(tmp_path / name), lambda: _configured(settings, load, protocol))

    whole = run("whole").run()
    saved, trained = [], []
    save, fit = PhaseSnapshots.save, Trainer.fit

    def stop_after_two_epochs(snapshots, stage, state):
        save(snapshots, stage, state)
        saved.append((stage, int(state.get("epoch", 0))))
        if saved[-1] == ("learn_exemplars", 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PhaseSnapshots, "save", stop_after_two_epochs)
        with pytest.raises(KeyboardInterrupt):
            run("stopped").run()
    folder = tmp_path / "stopped/phases/000.snapshots"
    assert {path.name for path in folder.iterdir()} == {"train_model.npz", "learn_exemplars.npz"}
    monkeypatch.setattr(Trainer, "fit", lambda *args, **kwargs: trained.append(args) or fit(*args, **kwargs))
    monkeypatch.setattr(PhaseSnapshots, "save", lambda own, *args: saved.append(args[0]) or save(own, *args))
    resumed = run("stopped").run()
    # Nothing is trained again, and one of three epochs is left.
    assert (trained, saved[3:]) == ([], ["learn_exemplars"])
    name = "phases/000/exemplars.npz"
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert resumed.average_accuracy == whole.average_accuracy
    assert not folder.exists()


def test_damaged_snapshot_is_passed_over(tmp_path, capsys):
    snapshots = PhaseSnapshots(str(tmp_path / "000.snapshots"), writes=True)
    assert snapshots.load("learn_exemplars") is None
    snapshots.save("learn_exemplars", {"pixels": np.arange(4.0), "epoch": np.array(2)})
    loaded = snapshots.load("learn_exemplars")
    np.testing.assert_array_equal(loaded["pixels"], np.arange(4.0))
    path = tmp_path / "000.snapshots/learn_exemplars.npz"
    path.write_bytes(path.read_bytes()[:-40])
    assert snapshots.load("learn_exemplars") is None
    assert "learn_exemplars starts anew" in capsys.readouterr().err
    # Workers that write nothing read all the same.
    PhaseSnapshots(str(tmp_path / "001.snapshots"), writes=False).save("x", {"y": np.zeros(1)})
    assert not (tmp_path / "001.snapshots").exists()
