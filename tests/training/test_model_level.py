"""The model level: what a phase's network starts from, what it is trained on and by, and what the method may add."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase, PixelRange
from mnemonics_tf.methods.base import Method
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.joint import Joint
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import train_model
from mnemonics_tf.training.settings import ModelLevel

_PIXELS = PixelRange((0.5,), (0.25,))
_FACTORY = ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1), "per_neuron")
# Two steps an epoch on 16 images of new classes and 4 exemplars.
_SHORT = ModelLevel(epochs=2, batch_size=10, learning_rate=0.05, milestones=())


def _images(labels, seed: int) -> LabelledImages:
    labels = np.asarray(labels, np.int64)
    return LabelledImages(np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 1), np.uint8), labels)


_INITIAL = Phase(0, ClassGroups((2,)), _images([0, 1] * 8, 0))
_LATER = Phase(1, ClassGroups((2, 2)), _images([2, 3] * 8, 1))
_EXEMPLARS = _images([0, 1, 0, 1], 2)


@dataclasses.dataclass(frozen=True)
class _Spy(Method):
    """Cross-entropy; writes down how it is called."""

    events: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    starts_imprinted: bool = False

    name: ClassVar[str] = "spy"

    @property
    def imprints(self):
        return self.starts_imprinted

    def losses(self, outputs, teacher, labels, groups):
        self.events.append(("losses", None if teacher is None else teacher.logits.shape[1], groups))
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.logits, labels))}

    def training_data(self, phase, exemplars, generator):
        self.events.append(("training_data", phase.index, generator.random()))
        return phase.train.take(slice(0, 10)), phase.train.take(slice(10, None))

    def complete(self, model, predictor, held_out, groups):
        self.events.append(("complete", len(held_out), groups))
        assert predictor.model is model
        # Trained, folded, and every weight trainable again.
        assert model.head.old_kernel.trainable
        model.head.new_kernel.assign(tf.ones_like(model.head.new_kernel))

    def of(self, kind: str) -> list[tuple]:
        return [event[1:] for event in self.events if event[0] == kind]


@dataclasses.dataclass(frozen=True)
class _Recorder(Trainer):
    """Trains nothing, which saves the tracing, and keeps what it was to train."""

    calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def fit(self, model, batch_losses, data, settings, stage, seed, noise=None, rehearsal=None, xla=False):
        trained = {variable.name for variable in model.trainable_variables}
        kernel = model.head.new_kernel.numpy()
        call = {"data": data, "stage": stage, "noise": noise, "trained": trained, "new_kernel": kernel}
        self.calls.append(call | {"losses": batch_losses, "model": model})


@pytest.fixture(scope="module")
def strategy():
    return devices.Devices().create_strategy()


@pytest.fixture(scope="module")
def previous(strategy) -> Predictor:
    """The network of phase 0, untrained. Read only."""
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        model = _FACTORY.build(0, 2)
    return Predictor(model, _PIXELS, Tracker())


@pytest.fixture
def recorder(strategy) -> _Recorder:
    return _Recorder(strategy, _PIXELS, Augmentation(), Tracker())


@pytest.fixture
def trainer(strategy) -> Trainer:
    return Trainer(strategy, _PIXELS, Augmentation(), Tracker())


def _train(trainer: Trainer, previous: Predictor | None, method: Method, settings: ModelLevel = _SHORT, seed: int = 0):
    phase, exemplars = (_INITIAL, None) if previous is None else (_LATER, _EXEMPLARS)
    return train_model(previous, phase, exemplars, _FACTORY, method, settings, trainer, seed)


def _count_calls(monkeypatch, model) -> list[bool]:
    """The `training` argument of each Python call of a network."""
    seen = []
    call = model.call

    def counted(images, training=False):
        seen.append(training)
        return call(images, training=training)

    monkeypatch.setattr(model, "call", counted)
    return seen


def test_teacher_is_called_once_in_a_phase_and_in_inference_mode(previous, trainer, monkeypatch):
    # The step is traced once, so once is all that Python sees of four steps.
    before = previous.model.get_weights()
    called = _count_calls(monkeypatch, previous.model)
    model, predictor = _train(trainer, previous, LwF())
    assert called == [False]
    for now, then in zip(previous.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    # Weight transfer is folded: scales are one again, and the weights are trained from here on.
    assert predictor.model is model
    assert model.num_classes == 4
    for layer in model.scale_shift_layers:
        np.testing.assert_array_equal(layer.scale, np.ones(layer.scale.shape))
        assert not layer.transferring
    # Something was trained at all.
    assert np.abs(model.head.old_kernel.numpy() - previous.model.head.new_kernel.numpy()).max() > 1e-4


@pytest.mark.parametrize(
    ("method", "distillation"), [(LwF(), False), (Replay(), True), (Joint(), True)], ids=["off", "replay", "joint"]
)
def test_teacher_is_never_called_without_distillation(previous, recorder, monkeypatch, method, distillation):
    called = _count_calls(monkeypatch, previous.model)
    _train(recorder, previous, method, dataclasses.replace(_SHORT, distillation=distillation))
    (call,) = recorder.calls
    terms = call["losses"](tf.zeros([2, 4, 4, 1]), tf.constant([0, 3]))
    assert set(terms) == {"cross_entropy"}
    assert called == []


def test_losses_see_the_teacher_of_the_old_classes_and_the_groups(previous, recorder):
    spy = _Spy()
    _train(recorder, previous, spy)
    recorder.calls[0]["losses"](tf.zeros([2, 4, 4, 1]), tf.constant([0, 3]))
    assert spy.of("losses") == [(2, ClassGroups((2, 2)))]


def test_initial_phase_has_no_teacher_and_nothing_to_complete(recorder):
    spy = _Spy(starts_imprinted=True)
    model, _ = _train(recorder, None, spy)
    recorder.calls[0]["losses"](tf.zeros([2, 4, 4, 1]), tf.constant([0, 1]))
    assert spy.of("losses") == [(None, ClassGroups((2,)))]
    assert spy.of("complete") == []
    assert (model.head.num_old_classes, model.head.num_new_classes) == (0, 2)


def test_network_is_trained_on_what_the_method_says_and_completed_by_what_it_held_out(previous, recorder):
    spy = _Spy()
    model, _ = _train(recorder, previous, spy)
    (call,) = recorder.calls
    np.testing.assert_array_equal(call["data"].images, _LATER.train.images[:10])
    assert spy.of("complete") == [(6, ClassGroups((2, 2)))]
    np.testing.assert_array_equal(model.head.new_kernel, np.ones((4, 2)))
    assert call["stage"] == "train_model"


def test_choice_of_training_data_follows_the_seed(previous, recorder):
    spy = _Spy()
    for seed in (0, 0, 1):
        _train(recorder, previous, spy, seed=seed)
    draws = [draw for _, draw in spy.of("training_data")]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("imprints", [True, False])
def test_new_weights_start_from_their_images_only_if_the_method_says_so(previous, recorder, imprints):
    _train(recorder, previous, _Spy(starts_imprinted=imprints))
    images = (_LATER.train.images.astype(np.float32) / 255 - 0.5) / 0.25
    features = previous.model.backbone(images).numpy()
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    length = np.linalg.norm(previous.model.head.new_kernel, axis=0).mean()
    cosines = []
    for column, label in zip(recorder.calls[0]["new_kernel"].T, (2, 3), strict=True):
        mean = units[_LATER.train.labels == label].mean(axis=0)
        cosines.append(column @ mean / np.linalg.norm(mean) / length)
    if imprints:
        np.testing.assert_allclose(cosines, 1, rtol=1e-5)
    else:
        assert not np.allclose(cosines, 1, rtol=1e-2)


@pytest.mark.parametrize("trains_old_head", [True, False])
@pytest.mark.parametrize("weight_transfer", ["none", "per_neuron"])
def test_trained_weights_are_those_that_settings_and_method_say(previous, recorder, weight_transfer, trains_old_head):
    class Choosy(_Spy):
        pass

    Choosy.trains_old_head = trains_old_head
    model, _ = _train(recorder, previous, Choosy(), dataclasses.replace(_SHORT, weight_transfer=weight_transfer))
    expected = {"kernel"} if weight_transfer == "none" else {"scale", "shift"}
    expected |= {"gamma", "beta", "new_kernel", "eta"} | ({"old_kernel"} if trains_old_head else set())
    assert recorder.calls[0]["trained"] == expected
    assert {variable.name for variable in model.trainable_variables} == {
        *("kernel", "gamma", "beta", "old_kernel", "new_kernel", "eta")
    }


def test_initial_phase_trains_weights_even_with_weight_transfer(recorder):
    _train(recorder, None, Replay())
    assert recorder.calls[0]["trained"] == {"kernel", "gamma", "beta", "new_kernel", "eta"}


def test_methods_noise_reaches_the_training(previous, recorder):
    for method in (EEIL(), EEIL(noise_scale=0.3)):
        _train(recorder, previous, method)
    assert recorder.calls[0]["noise"] is None
    assert recorder.calls[1]["noise"].scale == 0.3


@pytest.mark.parametrize("settings", [{"weight_transfer": "all"}, {"distillation": "no"}], ids=str)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^ModelLevel\.{name} = "):
        ModelLevel(**settings)


class _Returning(Replay):
    """A method whose losses are those that a test wants."""

    name: ClassVar[str] = "returning"
    found: ClassVar[Any] = None

    def losses(self, outputs, teacher, labels, groups):
        return self.found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a": tf.zeros([])}, None),
        ({"a": tf.zeros([2])}, r"_Returning.losses returned 'a' of shape \(2,\): expected a scalar, such as"),
        ({"a": 0.5}, "_Returning.losses returned 'a' of shape None"),
        (tf.zeros([]), "_Returning.losses returned EagerTensor: expected scalar losses by name"),
        ({}, "_Returning.losses returned dict: expected scalar losses by name"),
    ],
    ids=["scalar", "of a batch", "number", "tensor", "none"],
)
def test_losses_that_are_no_scalars_by_name_are_refused(recorder, monkeypatch, found, expected):
    monkeypatch.setattr(_Returning, "found", found)
    _train(recorder, None, _Returning())
    losses_of_batch = recorder.calls[0]["losses"]
    images, labels = tf.zeros([2, 4, 4, 1]), tf.constant([0, 1])
    if expected is None:
        assert losses_of_batch(images, labels) is found
        return
    with pytest.raises(UsageError, match=expected):
        losses_of_batch(images, labels)
