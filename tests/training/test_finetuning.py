"""Balanced fine-tuning: when it happens, what it trains, and by which losses."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import ClassGroups, LabelledImages, PixelRange
from mnemonics_tf.methods.base import Method
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.finetuning import SoftTargets, cross_entropy_of, method_losses_of
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.settings import BalancedFinetune

_FACTORY = ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1), "per_neuron")
_GROUPS = ClassGroups((2, 1))


@pytest.fixture(scope="module")
def strategy():
    return devices.Devices().create_strategy()


@pytest.fixture
def model(strategy) -> Classifier:
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        return _FACTORY.build(2, 1)


# enabled, initial_phase, whether the method does it by itself: phase 0, later phases.
_TABLE = [
    (True, True, True, True, True),
    (True, True, False, True, True),
    (True, False, True, False, True),
    (True, False, False, False, True),
    (False, True, True, False, False),
    (False, True, False, False, False),
    (False, False, True, False, False),
    (False, False, False, False, False),
    (None, True, True, False, True),
    (None, True, False, False, False),
    (None, False, True, False, True),
    (None, False, False, False, False),
]


@pytest.mark.parametrize(("enabled", "initial_phase", "by_method", "first", "later"), _TABLE)
def test_fine_tuning_is_a_switch_or_the_methods_own(enabled, initial_phase, by_method, first, later):
    settings = BalancedFinetune(enabled=enabled, initial_phase=initial_phase)
    assert settings.applies_to(0, by_method) is first
    for phase in (1, 2, 25):
        assert settings.applies_to(phase, by_method) is later


def _exemplars() -> LabelledImages:
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), np.uint8)
    return LabelledImages(images, np.repeat([0, 1, 2], 4))


def _finetune(model: Classifier, strategy, **settings) -> None:
    trainer = Trainer(strategy, PixelRange((0.5,), (0.25,)), Augmentation(), Tracker())
    batch_losses = method_losses_of(Replay(), model, None, None, _GROUPS)
    stage = BalancedFinetune(epochs=2, batch_size=6, learning_rate=0.5, **settings)
    trainer.fit(model, batch_losses, _exemplars(), stage, "finetune_balanced", seed=0)


def test_training_the_head_leaves_the_backbone_as_it_is_bit_for_bit(model, strategy):
    backbone = [weight.tobytes() for weight in model.backbone.get_weights()]
    head = model.head.get_weights()
    model.train_head()
    # Momentum and decay must not move what is not trained either.
    _finetune(model, strategy, momentum=0.9, weight_decay=0.1)
    assert [weight.tobytes() for weight in model.backbone.get_weights()] == backbone
    for now, then in zip(model.head.get_weights(), head, strict=True):
        assert np.abs(now - then).max() > 1e-3


def test_training_all_moves_every_weight_but_the_statistics_of_batch_norm(model, strategy):
    before = {variable.path: variable.numpy() for variable in model.variables}
    model.train_all()
    _finetune(model, strategy)
    moved = {variable.path for variable in model.variables if (variable.numpy() != before[variable.path]).any()}
    assert moved == {variable.path for variable in model.trainable_variables}
    assert not any("moving" in path for path in moved)


@dataclasses.dataclass(frozen=True)
class _Spy(Method):
    """Writes down what its fine-tuning is shown."""

    seen: list = dataclasses.field(default_factory=list)

    name: ClassVar[str] = "spy"

    def finetuning_losses(self, outputs, teacher, before, labels, groups):
        self.seen.append((outputs, teacher, before, labels, groups))
        return {}


def _batch() -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant(np.random.default_rng(1).normal(size=(5, 4, 4, 1)), tf.float32), tf.constant([0, 1, 2, 2, 1])


def test_method_is_shown_the_network_its_teacher_and_itself_before_all_by_frozen_batch_norm(model):
    teacher, before = _FACTORY.build(0, 2), _FACTORY.copy(model)
    model.head.new_kernel.assign(-model.head.new_kernel)
    images, labels = _batch()
    statistics = [weight for each in (model, teacher, before) for weight in each.get_weights()]
    spy = _Spy()
    assert method_losses_of(spy, model, teacher, before, _GROUPS)(images, labels) == {}
    ((*outputs, seen_labels, groups),) = spy.seen
    for of_network, network in zip(outputs, (model, teacher, before), strict=True):
        np.testing.assert_array_equal(of_network.logits, network(images, training=False).logits)
    assert (seen_labels is labels, groups) == (True, _GROUPS)
    after = [weight for each in (model, teacher, before) for weight in each.get_weights()]
    for now, then in zip(after, statistics, strict=True):
        np.testing.assert_array_equal(now, then)


def test_method_without_teacher_is_shown_none(model):
    spy = _Spy()
    method_losses_of(spy, model, None, None, _GROUPS)(*_batch())
    assert spy.seen[0][1:3] == (None, None)


def test_eeil_distils_all_classes_while_it_fine_tunes(model):
    teacher, before = _FACTORY.build(0, 2), _FACTORY.copy(model)
    terms = method_losses_of(EEIL(), model, teacher, before, _GROUPS)(*_batch())
    assert set(terms) == {"cross_entropy", "distillation", "distillation_of_new"}
    # A single new class has a softmax of 1: no entropy and nothing to lose.
    assert float(terms["distillation_of_new"]) == pytest.approx(0, abs=1e-6)


def _soft(logits: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def test_soft_targets_add_the_distillation_of_the_classes_that_each_network_knows(model):
    teacher, before = _FACTORY.build(0, 2), _FACTORY.copy(model)
    model.head.new_kernel.assign(-model.head.new_kernel)
    images, labels = _batch()
    soft_targets = SoftTargets((teacher, before), weight=0.5, temperature=3.0)
    terms = method_losses_of(Replay(), model, None, None, _GROUPS, soft_targets)(images, labels)
    logits, of_teacher, of_before = (each(images).logits.numpy() for each in (model, teacher, before))
    value = 0.0
    for told in (of_teacher, of_before):
        value -= (_soft(told, 3.0) * np.log(_soft(logits[:, : told.shape[1]], 3.0))).sum(axis=1).mean()
    assert float(terms["soft_targets"]) == pytest.approx(0.5 * value, rel=1e-5)
    plain = method_losses_of(Replay(), model, None, None, _GROUPS)(images, labels)
    assert set(terms) - set(plain) == {"soft_targets"}
    assert float(terms["cross_entropy"]) == float(plain["cross_entropy"])


def test_plain_losses_are_cross_entropy_by_frozen_batch_norm(model):
    images, labels = _batch()
    terms = cross_entropy_of(model)(images, labels)
    assert set(terms) == {"cross_entropy"}
    expected = tf.reduce_mean(losses.cross_entropy(model(images, training=False).logits, labels))
    assert float(terms["cross_entropy"]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"enabled": "yes"},
        {"initial_phase": None},
        {"trained": "heads"},
        {"epochs": 0},
        {"distil_from": "all"},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^BalancedFinetune\.{name} = "):
        BalancedFinetune(**settings)
