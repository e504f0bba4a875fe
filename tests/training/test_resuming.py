"""A training that is interrupted in the middle of an epoch goes on to the bits of one that is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.data.pipeline import Augmentation, evaluation_batches, training_batches
from mnemonics_tf.data.types import ClassGroups, LabelledImages, PixelRange
from mnemonics_tf.methods.gradient_noise import GradientNoise
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices, snapshots
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.checkpoints import Checkpoints
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.progress import Progress
from mnemonics_tf.training.rehearsal import PhaseRehearsal, Rehearsal
from mnemonics_tf.training.settings import ModelLevel

_FACTORY = ClassifierFactory(ResNet((1,), (2,)), (4, 4, 1), precision="float16")
_AUGMENTATION = Augmentation(crop_padding=1, horizontal_flip=True)


class _KilledError(BaseException):
    """The process ends here."""


class _Store:
    """A store in memory, whose process ends with a certain save."""

    def __init__(self, states=None, at=None):
        self.states, self.steps, self._at = dict(states or {}), [], at

    def load(self, stage):
        return self.states.get(stage)

    def save(self, stage, state):
        self.states[stage] = {name: np.copy(value) for name, value in state.items()}
        self.steps.append(int(state["step"]))
        if len(self.steps) == self._at:
            raise _KilledError

    def set_aside(self, stage, reason):
        raise AssertionError(reason)


class _Notes(Tracker):
    """Keeps what TensorBoard would be told."""

    def __init__(self):
        super().__init__()
        self.told = {}

    def phase_scalars(self, stage, values, step):
        self.told[stage, step] = values


def _data(count: int) -> LabelledImages:
    generator = np.random.default_rng(0)
    return LabelledImages(generator.integers(0, 256, (count, 4, 4, 1), np.uint8), np.arange(count) % 4)


def _fit(store: _Store | None):
    """Trains a network with all there is: half precision, noise, memory in each batch, a mean of the weights."""
    strategy, tracker = devices.Devices().create_strategy(), _Notes()
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        model = _FACTORY.build(2, 2)
    model.train_all()
    kept = Snapshots(1e-9)
    kept.begin(store)
    checkpoints = Checkpoints(_FACTORY, strategy, (1, 2))
    data = _data(22)
    rehearsal = PhaseRehearsal(
        Rehearsal(0.375, steps_per_epoch=3, schedule="cosine", learning_rate=0.05, weight_average=0.8),
        data.labels,
        ClassGroups((2, 2)),
    )

    def batch_losses(images, labels):
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(model(images, training=True).logits, labels))}

    trainer = Trainer(strategy, PixelRange((0.5,), (0.25,)), _AUGMENTATION, tracker, checkpoints, kept)
    settings = ModelLevel(epochs=3, batch_size=8, learning_rate=0.05, milestones=(), precision="float16")
    trainer.fit(model, batch_losses, data, settings, "train_model", 7, GradientNoise(0.01, 0.5), rehearsal)
    return model.get_weights(), checkpoints.weights, tracker.told


def test_interrupted_training_goes_on_to_the_same_bits(monkeypatch):
    monkeypatch.setattr(snapshots, "_TIMES_ITS_COST", 0)
    weights, checkpoints, told = _fit(None)
    store = _Store(at=5)
    with pytest.raises(_KilledError):
        _fit(store)  # after the second of three steps of the second epoch
    again = _Store(store.states)
    resumed, kept, told_again = _fit(again)
    assert again.steps[:4] == [6, 7, 8, 9]
    for value, expected in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(value, expected)
    for values, expected in zip(kept, checkpoints, strict=True):
        for name, array in expected.items():
            np.testing.assert_array_equal(values[name], array)
    # The means of the second epoch are over all of its steps; the first is not told again.
    assert told_again == {place: values for place, values in told.items() if place[1] > 1}
    # A training that is over is not done again: no step is compiled.
    monkeypatch.setattr(Trainer, "_step", lambda *arguments: None)
    finished = _Store(again.states)
    for value, expected in zip(_fit(finished)[0], weights, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_state_of_another_network_changes_nothing():
    def progress(width: int) -> Progress:
        model = ClassifierFactory(ResNet((1,), (width,)), (4, 4, 1)).build(0, 2)
        optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        return Progress(model, optimizer, None, None, None)

    one, other = progress(2), progress(3)
    before = one.arrays()
    with pytest.raises(ValueError, match="another network or optimizer"):
        one.take(other.arrays())
    for name, value in one.arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_batches_from_a_step_on_are_those_of_the_whole():
    data = _data(10)

    def batches(first: int) -> list[np.ndarray]:
        return [np.array(images) for images, _ in training_batches(data, 4, 3, 5, _AUGMENTATION, first=first)]

    whole = batches(0)
    assert len(whole) == 9
    for first in (4, 6, 9):
        for one, other in zip(batches(first), whole[first:], strict=True):
            np.testing.assert_array_equal(one, other)
    last = [images.numpy() for images in evaluation_batches(data, 4, first=2)]
    np.testing.assert_array_equal(last, [data.images[8:]])


_TWO_DEVICES = textwrap.dedent("""
    import sys
    import numpy as np, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    sys.path.insert(0, sys.argv[1])
    import test_resuming
    from mnemonics_tf.system import snapshots
    snapshots._TIMES_ITS_COST = 0
    whole, _, _ = test_resuming._fit(None)
    store = test_resuming._Store(at=5)
    try:
        test_resuming._fit(store)
    except test_resuming._KilledError:
        pass
    again = test_resuming._Store(store.states)
    resumed, _, _ = test_resuming._fit(again)
    assert again.steps[0] == 6
    for value, expected in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(value, expected)
    # Trained on one device so far: the same up to rounding, which float16 has much of.
    one = np.load(sys.argv[2])
    moved = test_resuming._Store({"train_model_steps": dict(one)})
    resumed, _, _ = test_resuming._fit(moved)
    assert moved.steps[0] == 6
    for value, expected in zip(resumed, whole, strict=True):
        np.testing.assert_allclose(value, expected, atol=0.02)
""")


@pytest.mark.heavy
def test_interrupted_training_goes_on_on_two_devices(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "_TIMES_ITS_COST", 0)
    store = _Store(at=5)
    with pytest.raises(_KilledError):
        _fit(store)
    np.savez(tmp_path / "one.npz", **store.states["train_model_steps"])
    command = [sys.executable, "-c", _TWO_DEVICES, __file__.rpartition("/")[0], str(tmp_path / "one.npz")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr
