"""Networks of phase 0 that runs share."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.methods.base import Method
from mnemonics_tf.methods.bic import BiC
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.icarl import ICaRL
from mnemonics_tf.methods.joint import Joint
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.methods.podnet import PODNet
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run import initial_phases
from mnemonics_tf.run.initial_phases import InitialPhases, describe_initial_phase
from mnemonics_tf.system import devices, sources
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.checkpoints import Checkpoints
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.settings import ModelLevel

_FACTORY = ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1))
_DESCRIPTION = {"network": "small", "seed": 0}


def _build(factory: ClassifierFactory = _FACTORY) -> Callable[[], Classifier]:
    return lambda: factory.build(0, 3)


def _train(factory: ClassifierFactory = _FACTORY, seed: int = 0) -> Callable[[], Classifier]:
    """In the place of a training: every weight moves, and statistics of batch norm with them."""

    def train() -> Classifier:
        model = factory.build(0, 3)
        generator = np.random.default_rng(seed)
        for variable in model.initial_weights().values():
            variable.assign(np.abs(generator.normal(0, 0.5, variable.shape)) + 0.1)
        return model

    return train


def _must_not_train() -> Classifier:
    raise AssertionError("There is a trained network, and it is trained again.")


def _images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(5, 4, 4, 1)).astype(np.float32)


def _same_weights(first: Classifier, second: Classifier) -> bool:
    named, others = first.initial_weights(), second.initial_weights()
    return named.keys() == others.keys() and all(
        np.array_equal(named[name].numpy(), others[name].numpy()) for name in named
    )


def _network_file(folder: Path) -> Path:
    (path,) = folder.glob("*.npz")
    return path


def test_network_that_fits_is_not_trained_again(tmp_path):
    shared = InitialPhases(str(tmp_path))
    trained, reused = shared.network(_DESCRIPTION, _build(), _train())
    assert not reused
    # Another process of another run.
    found, reused = InitialPhases(str(tmp_path)).network(
        dict(reversed(_DESCRIPTION.items())), _build(), _must_not_train
    )
    assert reused
    assert _same_weights(found, trained)
    for output, expected in zip(found(_images())[:3], trained(_images())[:3], strict=True):
        np.testing.assert_array_equal(output, expected)


def test_what_did_not_go_as_configured_is_told_of_every_run_that_shares_the_network(tmp_path):
    shared, first, second = InitialPhases(str(tmp_path)), [], ["of the second"]

    def train() -> Classifier:
        first.append("trained again at the rate 0.05")
        return _train()()

    shared.network(_DESCRIPTION, _build(), train, first)
    assert shared.network(_DESCRIPTION, _build(), _must_not_train, second)[1]
    assert (first, second) == (["trained again at the rate 0.05"], ["of the second", *first])


@pytest.mark.parametrize("change", [{"seed": 1}, {"network": "large"}, {"epochs": 2}], ids=str)
def test_network_of_another_description_is_trained_beside_it(tmp_path, change):
    shared = InitialPhases(str(tmp_path))
    first, _ = shared.network(_DESCRIPTION, _build(), _train(seed=0))
    second, reused = shared.network(_DESCRIPTION | change, _build(), _train(seed=1))
    assert not reused
    assert not _same_weights(first, second)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    for description, expected in ((_DESCRIPTION, first), (_DESCRIPTION | change, second)):
        found, _ = shared.network(description, _build(), _must_not_train)
        assert _same_weights(found, expected)


@pytest.mark.parametrize("scale_form", ["per_neuron", "per_kernel"])
@pytest.mark.parametrize("head", ["cosine", "linear", "proxies"])
def test_network_saved_without_scale_shift_and_correction_fills_one_that_has_them(tmp_path, scale_form, head):
    plain = dataclasses.replace(_FACTORY, head=head)
    full = dataclasses.replace(plain, scale_form=scale_form, corrected=True, tells_maps=True)
    shared = InitialPhases(str(tmp_path))
    trained, _ = shared.network(_DESCRIPTION, _build(plain), _train(plain))
    found, reused = shared.network(_DESCRIPTION, _build(full), _must_not_train)
    assert reused
    assert _same_weights(found, trained)
    found.train_phase(transferring=True, old_head=True)
    for output, expected in zip(found(_images())[:3], trained(_images())[:3], strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    # And the other way round.
    found, _ = shared.network(_DESCRIPTION, _build(plain), _must_not_train)
    assert _same_weights(found, trained)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _fill_with_text(path: Path) -> None:
    path.write_text("not an archive")


def _change_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with np.load(path) as arrays:
        weight = arrays["stem/kernel"].tobytes()
    place = bytes(content).index(weight)
    content[place] ^= 1
    path.write_bytes(bytes(content))


def _change_the_last_entry(path: Path, offset: int, value: int) -> None:
    """Writes a byte of the archive's directory, by its offset in the last entry."""
    content = bytearray(path.read_bytes())
    content[bytes(content).rindex(b"PK\x01\x02") + offset] = value
    path.write_bytes(bytes(content))


def _name_an_unknown_compression(path: Path) -> None:
    _change_the_last_entry(path, 10, 99)


def _call_it_encrypted(path: Path) -> None:
    _change_the_last_entry(path, 8, 1)


def _leave_a_weight_out(path: Path) -> None:
    with np.load(path) as arrays:
        weights = {name: arrays[name] for name in arrays.files if name != "head/eta"}
    np.savez(path, **weights)


def _give_a_weight_another_shape(path: Path) -> None:
    with np.load(path) as arrays:
        weights = dict(arrays)
    np.savez(path, **weights | {"head/new_kernel": np.zeros((4, 7), np.float32)})


def _pickle_a_weight(path: Path) -> None:
    with np.load(path) as arrays:
        weights = dict(arrays)
    np.savez(path, **weights | {"head/new_kernel": np.array([{}], object)})


def _make_a_folder_of_it(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_a_weight_infinite(path: Path) -> None:
    with np.load(path) as arrays:
        weights = dict(arrays)
    weights["head/new_kernel"][0, 0] = np.nan
    np.savez(path, **weights)


def _take_it_for_another(path: Path) -> None:
    with np.load(path) as arrays:
        weights = dict(arrays)
    np.savez(path, **weights | {"description": np.array(json.dumps({"network": "small", "seed": 1}))})


def _let_it_unpack_to_gigabytes(path: Path) -> None:
    with np.load(path) as arrays:
        weights = dict(arrays)
    np.savez_compressed(path, **weights | {"head/new_kernel": np.zeros(10**8, np.float32)})


def _put_a_pipe_there(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


_DAMAGES = [
    _truncate,
    _empty,
    _fill_with_text,
    _change_a_weight,
    _name_an_unknown_compression,
    _call_it_encrypted,
    _leave_a_weight_out,
    _give_a_weight_another_shape,
    _pickle_a_weight,
    _make_a_weight_infinite,
    _take_it_for_another,
    _let_it_unpack_to_gigabytes,
    _put_a_pipe_there,
]


@pytest.mark.parametrize("damage", _DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_file_is_trained_again_and_mended(tmp_path, capsys, damage):
    shared = InitialPhases(str(tmp_path))
    trained, _ = shared.network(_DESCRIPTION, _build(), _train())
    assert capsys.readouterr().err == ""
    damage(_network_file(tmp_path))
    again, reused = shared.network(_DESCRIPTION, _build(), _train())
    assert not reused
    assert _same_weights(again, trained)
    notice = capsys.readouterr().err
    assert f"{_network_file(tmp_path)} is damaged (" in notice
    assert "its initial phase is trained again." in notice
    found, reused = shared.network(_DESCRIPTION, _build(), _must_not_train)
    assert reused
    assert _same_weights(found, trained)
    assert capsys.readouterr().err == ""


def test_any_damaged_byte_is_noticed_or_harmless(tmp_path):
    # Wherever a disk may fail: no error that the user sees, and no other weights than those that were trained.
    shared = InitialPhases(str(tmp_path))
    trained, _ = shared.network(_DESCRIPTION, _build(), _train())
    model, path = _build()(), _network_file(tmp_path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.choice(len(content), 100, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(bytes(damaged))
        found, reused = shared.network(_DESCRIPTION, lambda: model, lambda: trained)
        assert found is (model if reused else trained)
        assert _same_weights(found, trained), f"byte {place}"


def test_network_that_cannot_be_written_is_used_all_the_same(tmp_path, capsys):
    shared = InitialPhases(str(tmp_path))
    trained, _ = shared.network(_DESCRIPTION, _build(), _train())
    # A folder in the file's place: it can be neither read nor replaced, even by root.
    _make_a_folder_of_it(_network_file(tmp_path))
    capsys.readouterr()
    again, reused = shared.network(_DESCRIPTION, _build(), _train())
    assert not reused
    assert _same_weights(again, trained)
    assert "cannot be written (Is a directory): other runs train again." in capsys.readouterr().err


def test_failed_training_leaves_nothing_and_lets_go(tmp_path):
    shared = InitialPhases(str(tmp_path))

    def fail() -> Classifier:
        raise UsageError("diverged")

    with pytest.raises(UsageError, match="diverged"):
        shared.network(_DESCRIPTION, _build(), fail)
    assert list(tmp_path.glob("*.npz*")) == []
    _, reused = shared.network(_DESCRIPTION, _build(), _train())
    assert not reused


def test_half_written_file_of_a_killed_process_is_not_read(tmp_path):
    shared = InitialPhases(str(tmp_path))
    trained, _ = shared.network(_DESCRIPTION, _build(), _train())
    path = _network_file(tmp_path)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(path.read_bytes()[:100])
    path.unlink()
    again, reused = shared.network(_DESCRIPTION, _build(), _train())
    assert not reused
    assert _same_weights(again, trained)
    assert not partial.exists()


def test_file_says_what_its_network_depends_on(tmp_path):
    InitialPhases(str(tmp_path)).network(_DESCRIPTION, _build(), _train())
    with np.load(_network_file(tmp_path), allow_pickle=False) as arrays:
        assert json.loads(str(arrays["description"])) == _DESCRIPTION


# Holds the lock as another run does while it trains: until it is told to go on, and then its network is there.
_OTHER_RUN = textwrap.dedent("""
    import fcntl, os, sys
    lock, ready, path = sys.argv[1:]
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print("training", flush=True)
        sys.stdin.readline()
        os.replace(ready, path)
""")


def test_second_process_waits_for_the_first_and_takes_its_network(tmp_path, capsys):
    shared = InitialPhases(str(tmp_path / "shared"))
    trained, _ = shared.network(_DESCRIPTION, _build(), _train())
    path = _network_file(tmp_path / "shared")
    ready = shutil.move(path, tmp_path / "ready.npz")
    command = [sys.executable, "-c", _OTHER_RUN, str(path.with_suffix(".lock")), str(ready), str(path)]
    found: list[tuple[Classifier, bool]] = []
    waiting = threading.Thread(target=lambda: found.append(shared.network(_DESCRIPTION, _build(), _must_not_train)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "training\n"
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        # A network of another description is not held up.
        _, reused = shared.network(_DESCRIPTION | {"seed": 1}, _build(), _train())
        assert not reused
        other.communicate("go on\n")
    waiting.join(60)
    ((model, reused),) = found
    assert reused
    assert _same_weights(model, trained)
    assert "Another process is training the same initial phase: waiting for it ..." in capsys.readouterr().err


def test_process_that_was_killed_while_it_trained_holds_nobody_up(tmp_path):
    shared = InitialPhases(str(tmp_path))
    shared.network(_DESCRIPTION, _build(), _train())
    path = _network_file(tmp_path)
    path.unlink()
    command = [sys.executable, "-c", _OTHER_RUN, str(path.with_suffix(".lock")), "", ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        other.kill()
        other.wait()
        _, reused = shared.network(_DESCRIPTION, _build(), _train())
    assert not reused


def test_folder_is_made_where_it_is_missing(tmp_path, monkeypatch):
    InitialPhases(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    InitialPhases("~/networks")
    assert (tmp_path / "networks").is_dir()


def test_relative_folder_stays_where_it_was_though_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = InitialPhases("networks")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shared.network(_DESCRIPTION, _build(), _train())
    assert len(list((tmp_path / "networks").glob("*.npz"))) == 1


@pytest.mark.parametrize("below", [False, True])
def test_file_in_the_place_of_the_folder_is_a_usage_error(tmp_path, below):
    path = tmp_path / "networks"
    path.write_text("in the way")
    folder = path / "shared" if below else path
    message = rf"--initial_phases_dir = {folder}: expected a folder that can be written to\."
    with pytest.raises(UsageError, match=message):
        InitialPhases(str(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_to_is_a_usage_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="expected a folder that can be written to"):
        InitialPhases(str(tmp_path))


_DATA = LabelledImages(np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4, 1), np.array([0, 1, 2, 0, 1, 2]))


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(devices.Devices().create_strategy(), PixelRange((0.5,), (0.25,)), Augmentation(1, True), Tracker())


def _key(
    trainer: Trainer,
    data: LabelledImages = _DATA,
    factory: ClassifierFactory = _FACTORY,
    method: Method = LUCIR(),  # noqa: B008 - frozen
    settings: ModelLevel = ModelLevel(),  # noqa: B008 - frozen
    seed: int = 0,
    deterministic: bool = True,
) -> str:
    """What files are named by, as JSON: the description must be writable so."""
    description: dict[str, Any] = describe_initial_phase(data, factory, method, settings, trainer, seed, deterministic)
    return json.dumps(description, sort_keys=True)


def _other_image() -> LabelledImages:
    images = _DATA.images.copy()
    images[3, 2, 1] += 1
    return LabelledImages(images, _DATA.labels)


_OTHERS = {
    "one pixel": {"data": _other_image()},
    "images also coded": {"data": dataclasses.replace(_DATA, coded=_DATA.images + 1)},
    "images coded otherwise": {"data": dataclasses.replace(_DATA, coded=_DATA.images + 2)},
    "one label": {"data": LabelledImages(_DATA.images, np.array([0, 1, 2, 0, 2, 2]))},
    "order of images": {"data": _DATA.take(np.array([3, 1, 2, 0, 4, 5]))},
    "fewer images": {"data": _DATA.take(slice(0, 5))},
    "seed": {"seed": 1},
    "blocks": {"factory": ClassifierFactory(ResNet((2,), (4,)), (4, 4, 1))},
    "widths": {"factory": ClassifierFactory(ResNet((1,), (5,)), (4, 4, 1))},
    "embedding": {"factory": ClassifierFactory(ResNet((1,), (4,), embedding_dim=3), (4, 4, 1))},
    "last ReLU": {"factory": ClassifierFactory(ResNet((1,), (4,), last_relu=True), (4, 4, 1))},
    "head": {"factory": dataclasses.replace(_FACTORY, head="linear")},
    "loss of PODNet": {"method": PODNet()},
    "loss of iCaRL": {"method": ICaRL(targets="sigmoid")},
    "gradient noise": {"method": EEIL(noise_scale=0.3)},
    "epochs": {"settings": ModelLevel(epochs=161)},
    "batch size": {"settings": ModelLevel(batch_size=64)},
    "learning rate": {"settings": ModelLevel(learning_rate=0.2)},
    "milestones": {"settings": ModelLevel(milestones=(80,))},
    "decay": {"settings": ModelLevel(decay=0.2)},
    "momentum": {"settings": ModelLevel(momentum=0.8)},
    "weight decay": {"settings": ModelLevel(weight_decay=1e-4)},
    "determinism": {"deterministic": False},
}


@pytest.mark.parametrize("change", _OTHERS.values(), ids=list(_OTHERS))
def test_whatever_changes_the_training_of_phase_0_changes_the_key(trainer, change):
    assert _key(trainer, **change) != _key(trainer)


def test_all_those_keys_are_different(trainer):
    keys = [_key(trainer, **change) for change in _OTHERS.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "change",
    [
        {"pixel_range": PixelRange((0.4,), (0.25,))},
        {"augmentation": Augmentation(1)},
        {"augmentation": Augmentation(2)},
    ],
    ids=str,
)
def test_what_is_done_to_the_images_changes_the_key(trainer, change):
    assert _key(dataclasses.replace(trainer, **change)) != _key(trainer)


def test_how_often_images_are_coded_changes_the_key_where_there_are_coded_ones(trainer):
    often = dataclasses.replace(trainer, augmentation=dataclasses.replace(trainer.augmentation, coded_share=0.5))
    coded = dataclasses.replace(_DATA, coded=_DATA.images + 1)
    assert _key(often, coded) != _key(trainer, coded)
    assert _key(often) == _key(trainer)


def test_precision_and_the_size_that_files_are_scaled_to_change_the_key(trainer, tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path in paths:
        Path(path).write_bytes(tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy())
    stored = [LabelledImages(StoredImages.of_files(paths, 4, side), np.arange(2)) for side in (4, 6)]
    keys = {_key(trainer, data=data) for data in stored}
    keys |= {_key(trainer, data=stored[0], settings=ModelLevel(precision="bfloat16"))}
    assert len(keys) == 3
    assert _key(trainer, data=stored[0]) in keys


_LATER = {
    "same again": {"data": LabelledImages(_DATA.images.copy(), _DATA.labels.copy())},
    "no weight transfer": {"settings": ModelLevel(weight_transfer="none")},
    "weight transfer by kernel": {
        "settings": ModelLevel(weight_transfer="per_kernel"),
        "factory": dataclasses.replace(_FACTORY, scale_form="per_kernel"),
    },
    "no distillation": {"settings": ModelLevel(distillation=False)},
    "correction of logits": {"method": BiC(), "factory": dataclasses.replace(_FACTORY, corrected=True)},
    "maps": {"factory": dataclasses.replace(_FACTORY, tells_maps=True)},
    "LwF": {"method": LwF()},
    "iCaRL": {"method": ICaRL(classification_weight=0.3)},
    "EEIL": {"method": EEIL()},
    "Joint": {"method": Joint()},
    "Replay": {"method": Replay()},
    "weights of LUCIR": {"method": LUCIR(less_forget_weight=10.0)},
    "lists for tuples": {"factory": ClassifierFactory(ResNet([1], [4]), (4, 4, 1))},
}


@pytest.mark.parametrize("change", _LATER.values(), ids=list(_LATER))
def test_what_comes_after_phase_0_does_not_change_the_key(trainer, change):
    assert _key(trainer, **change) == _key(trainer)


def test_key_changes_with_the_source_of_the_training(trainer, monkeypatch):
    before = _key(trainer)
    monkeypatch.setattr(sources, "checksum", lambda modules: "edited")
    assert _key(trainer) != before


def test_sources_are_what_the_training_imports_and_no_more():
    found = sources.closure(initial_phases._SOURCES)
    assert {
        "mnemonics_tf.training.model_level",
        "mnemonics_tf.training.loop",
        "mnemonics_tf.methods.lucir",
        "mnemonics_tf.models.resnet",
        "mnemonics_tf.models.layers",
        "mnemonics_tf.data.pipeline",
        "mnemonics_tf.losses",
        "mnemonics_tf.runtime",
        "mnemonics_tf.system.seeds",
    } <= found
    assert not {
        name for name in found if name.startswith(("mnemonics_tf.report", "mnemonics_tf.run.", "mnemonics_tf.bil"))
    }


@pytest.mark.parametrize("owner", [ModelLevel, ClassifierFactory, ResNet, PixelRange, Augmentation])
def test_every_field_counts_unless_it_is_marked(trainer, owner):
    # A new setting must not be forgotten: a network of other settings would be taken for the right one.
    described = json.loads(_key(trainer))
    places = {
        ModelLevel: described["settings"],
        ClassifierFactory: described["factory"],
        ResNet: described["factory"]["network"],
        PixelRange: described["trainer"]["pixel_range"],
        Augmentation: described["trainer"]["augmentation"],
    }
    unmarked = {field.name for field in dataclasses.fields(owner) if not field.metadata.get("later_phases_only")}
    assert set(places[owner]) == unmarked


def test_networks_of_the_same_seed_are_the_same_with_and_without_what_comes_later():
    # What sharing rests on: scale, shift, correction and maps draw no random number and change no output.
    outputs = []
    for factory in (_FACTORY, ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1), "per_kernel", "cosine", True, True)):
        keras.utils.set_random_seed(5)
        outputs.append(factory.build(0, 3)(_images(), training=True).logits.numpy())
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_networks_on_the_way_are_kept_beside_the_network_and_trained_for_where_they_are_missing(tmp_path, capsys):
    shared = InitialPhases(str(tmp_path))
    strategy = tf.distribute.get_strategy()
    calls = []

    def wanted(factory=_FACTORY) -> tuple[Checkpoints, Callable[[], Classifier]]:
        checkpoints = Checkpoints(factory, strategy, (1, 2))

        def train() -> Classifier:
            calls.append(factory)
            for epoch in (1, 2, 3):
                model = _train(factory, seed=epoch)()
                checkpoints(model, "train_model", epoch)
                checkpoints(model, "finetune_balanced", epoch)
            return model

        return checkpoints, train

    # An earlier run has kept the network alone.
    model, _ = shared.network(_DESCRIPTION, _build(), _train(seed=3))
    kept, train = wanted()
    shared.checkpoints(_DESCRIPTION, model, kept, train)
    assert (len(calls), len(kept.weights)) == (1, 2)
    assert "it is trained again" in capsys.readouterr().err
    # A run with another form of weight transfer finds them; what it has beside is as in its own network.
    other = dataclasses.replace(_FACTORY, scale_form="per_neuron")
    found, train = wanted(other)
    model = other.build(0, 3)
    shared.checkpoints(_DESCRIPTION, model, found, train)
    assert len(calls) == 1
    for weights, expected in zip(found.weights, kept.weights, strict=True):
        assert weights.keys() == model.named_weights().keys() > expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(weights[name], value)
    # A damaged file is as good as none.
    (path,) = tmp_path.glob("*.after1-2.npz")
    path.write_bytes(path.read_bytes()[:-50])
    again, train = wanted()
    shared.checkpoints(_DESCRIPTION, _build()(), again, train)
    assert (len(calls), again.complete) == (2, True)
