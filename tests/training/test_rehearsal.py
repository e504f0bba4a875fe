"""How later phases use memory: adjusted logits, rates, mean weights, and what the trainer is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses, runtime
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase, PixelRange
from mnemonics_tf.methods import available
from mnemonics_tf.methods.icarl import ICaRL
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.classifier import ClassifierFactory, Outputs
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import train_model
from mnemonics_tf.training.rehearsal import PhaseRehearsal, Rehearsal
from mnemonics_tf.training.settings import ModelLevel

_PIXELS = PixelRange((0.5,), (0.25,))
_FACTORY = ClassifierFactory(ResNet((1,), (2,)), (4, 4, 1))
# Two old classes with 2 and 4 exemplars, two new ones with 12 images each.
_GROUPS = ClassGroups((2, 2))
_LABELS = np.repeat([2, 3, 0, 1], [12, 12, 2, 4])


def _offsets(settings: Rehearsal, labels: list[int], batch_size: int = 10) -> np.ndarray:
    return PhaseRehearsal(settings, _LABELS, _GROUPS).offsets(batch_size)(tf.constant(labels, tf.int64)).numpy()


def test_offsets_are_logarithms_of_what_a_step_sees_of_each_class():
    # Plain batches: 2, 4, 12, 12 images. Offsets matter up to a constant.
    plain = _offsets(Rehearsal(logit_adjustment=1.0), [0, 3])
    np.testing.assert_allclose(plain, np.log([[2, 4, 12, 12]] * 2) - np.log(12), rtol=1e-5)
    # A share of 0.6: 6 of 10 images are memory, a third of them of class 0; 4 are new, half of them of each class.
    paired = _offsets(Rehearsal(logit_adjustment=2.0, memory_share=0.6), [0])
    np.testing.assert_allclose(paired, 2 * (np.log([[2, 4, 2, 2]]) - np.log(4)), rtol=1e-5)


def test_five_times_a_hundred_images_count_as_five_hundred():
    labels = np.concatenate([np.repeat([0, 1], 20), np.repeat([2, 3], 500)])
    settings = Rehearsal(logit_adjustment=1.0, memory_share=1 / 6)  # 200 of 1200 images are memory's
    offsets = PhaseRehearsal(settings, labels, _GROUPS).offsets(120)(tf.constant([0])).numpy()
    np.testing.assert_allclose(offsets, np.log([[100, 100, 500, 500]]) - np.log(500), rtol=1e-5)


def test_class_without_images_counts_as_one_exemplar():
    labels = np.repeat([1, 2, 3], [4, 8, 8])
    offsets = PhaseRehearsal(Rehearsal(logit_adjustment=1.0), labels, _GROUPS).offsets(10)(tf.constant([1])).numpy()
    np.testing.assert_allclose(offsets, np.log([[1, 4, 8, 8]]) - np.log(8), rtol=1e-5)


_LOGITS = np.array([[1.0, 2.0, -1.0, 0.5], [0.3, -0.2, 1.1, 0.9], [2.0, 0.0, 1.0, 3.0]], np.float32)
_OF = [1, 2, 3]


def _outputs(offsets) -> Outputs:
    unit = tf.constant(np.eye(3, 4, dtype=np.float32))
    return Outputs(unit, tf.constant(_LOGITS / 4), tf.constant(_LOGITS), 4.0, (), offsets)


def _by_hand(rows) -> float:
    """Mean of -log(exp(z_true) / sum of exp(z)) of `(logits, true)`."""
    return float(np.mean([np.log(np.exp(row).sum()) - row[true] for row, true in rows]))


@pytest.mark.parametrize("name", ["lucir", "lwf", "icarl", "bic", "eeil", "wa", "replay"])
def test_cross_entropy_of_every_method_is_of_adjusted_logits(name):
    settings = Rehearsal(separated_softmax=True)
    outputs = _outputs(_offsets(settings, _OF))
    terms = available()[name]().losses(outputs, None, tf.constant(_OF, tf.int64), _GROUPS)
    # The exemplar of class 1 over all four classes, images of classes 2 and 3 over those two.
    expected = _by_hand([(_LOGITS[0], 1), (_LOGITS[1, 2:], 0), (_LOGITS[2, 2:], 1)])
    assert float(terms["cross_entropy"]) == pytest.approx(expected, rel=1e-5)
    adjusted = _outputs(_offsets(Rehearsal(logit_adjustment=0.5), _OF))
    terms = available()[name]().losses(adjusted, None, tf.constant(_OF, tf.int64), _GROUPS)
    expected = _by_hand([(row + 0.5 * np.log([2, 4, 12, 12]), true) for row, true in zip(_LOGITS, _OF, strict=True)])
    assert float(terms["cross_entropy"]) == pytest.approx(expected, rel=1e-5)


def test_distillation_is_of_plain_logits():
    method, labels = available()["lwf"](), tf.constant(_OF, tf.int64)
    teacher = Outputs(*[tf.constant(part) for part in (np.eye(3, 4), _LOGITS[:, :2] / 4, _LOGITS[:, :2])])
    plain, adjusted = (
        method.losses(_outputs(offsets), teacher, labels, _GROUPS)
        for offsets in (None, _offsets(Rehearsal(logit_adjustment=1.0), _OF))
    )
    assert float(plain["distillation"]) == float(adjusted["distillation"])


def test_nca_of_podnet_adds_offsets_to_scaled_similarities():
    offsets = _offsets(Rehearsal(logit_adjustment=1.0, separated_softmax=True), _OF)
    terms = available()["podnet"](margin=0.2).losses(_outputs(offsets), None, tf.constant(_OF, tf.int64), _GROUPS)
    values = []
    counts = np.log([2, 4, 12, 12])
    for row, true in zip(_LOGITS.astype(np.float64) + counts, _OF, strict=True):
        others = [row[k] for k in range(4) if k != true and (true < 2 or k >= 2)]
        values.append(max(0.0, np.log(np.exp(others).sum()) - (row[true] - 4 * 0.2)))
    assert min(values[:2]) > 0
    assert float(terms["nca"]) == pytest.approx(np.mean(values), rel=1e-5)


def test_nothing_is_added_where_nothing_is_to_be():
    assert PhaseRehearsal(Rehearsal(memory_share=0.5), _LABELS, _GROUPS).offsets(10) is None
    assert PhaseRehearsal(Rehearsal(separated_softmax=True), _LABELS, ClassGroups((4,))).offsets(10) is None
    assert not ICaRL(targets="sigmoid").adjusts_logits
    assert ICaRL().adjusts_logits


def test_more_images_of_the_first_classes_are_adjusted_for_as_those_of_later_ones():
    # A learner of one arrival has no old classes; what comes of one of them stands beside exemplars of the others.
    labels = np.concatenate([np.zeros(50, int), np.repeat([1, 2], 5)])
    used = Rehearsal(logit_adjustment=1.0)
    for groups in (ClassGroups((3,)), ClassGroups((2, 1))):
        offsets = PhaseRehearsal(used, labels, groups).offsets(10)(tf.constant([0, 2])).numpy()
        np.testing.assert_allclose(offsets, np.log([[50, 5, 5]] * 2) - np.log(50), rtol=1e-5)


def test_phase_without_new_classes_tells_nothing_to_be_memory():
    used = Rehearsal(
        memory_share=0.5, separated_softmax=True, logit_adjustment=1.0, augment="exemplars", steps_per_epoch=3,
        learning_rate=0.02, weight_average=0.9,
    ).without_new_classes()  # fmt: skip
    assert used == Rehearsal(logit_adjustment=1.0, learning_rate=0.02, weight_average=0.9)
    assert Rehearsal(augment="all").without_new_classes().augment == "all"
    # Images of a class that is known, and exemplars of the class that came last, come alike.
    labels = np.concatenate([np.zeros(200, int), np.repeat(np.arange(10), 20)])
    draws = PhaseRehearsal(used, labels, ClassGroups((5, 4, 1))).mixture.draws(128)
    np.testing.assert_array_equal(draws, 1)


def test_rates_of_later_phases():
    level = ModelLevel(epochs=4, learning_rate=0.1, milestones=(2,), decay=0.5)
    cosine = [Rehearsal(learning_rate=0.2, schedule="cosine").learning_rate_at(epoch, level) for epoch in range(4)]
    # 0.1 * (1 + cos(0, 45, 90, 135 degrees))
    np.testing.assert_allclose(cosine, [0.2, 0.1 + 0.1 / np.sqrt(2), 0.1, 0.1 - 0.1 / np.sqrt(2)])
    steps = [Rehearsal(learning_rate=0.2).learning_rate_at(epoch, level) for epoch in range(4)]
    np.testing.assert_allclose(steps, [0.2, 0.2, 0.1, 0.1])
    assert Rehearsal().learning_rate_at(3, level) == level.learning_rate_at(3)
    assert Rehearsal(schedule="cosine").learning_rate_at(0, level) == 0.1


@pytest.fixture(scope="module")
def strategy():
    return devices.Devices().create_strategy()


def _plain_losses(model, training: bool):
    def batch_losses(images, labels):
        logits = model(images, training=training).logits
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(logits, labels))}

    return batch_losses


def test_final_weights_are_the_mean_of_those_after_each_step(strategy):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
    data = LabelledImages(images, _LABELS)
    trainer = Trainer(strategy, _PIXELS, Augmentation(), Tracker())
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        model = _FACTORY.build(2, 2)
    model.train_phase(transferring=False, old_head=False)
    initial = model.get_weights()

    def trained(epochs: int, decay: float) -> dict[str, np.ndarray]:
        model.set_weights(initial)
        level = ModelLevel(epochs=epochs, batch_size=30, learning_rate=0.2, milestones=())  # a step an epoch
        rehearsal = PhaseRehearsal(Rehearsal(weight_average=decay), _LABELS, _GROUPS)
        trainer.fit(model, _plain_losses(model, True), data, level, "train_model", 0, None, rehearsal)
        return {variable.path: variable.numpy() for variable in model.variables}

    first, second, third = (trained(epochs, 0.0) for epochs in (1, 2, 3))
    mean = trained(3, 0.5)
    moved = 0
    for path, last in third.items():
        # Weights 1/4, 1/2, 1 over their sum, 7/4.
        expected = (first[path] / 4 + second[path] / 2 + last) / 1.75
        np.testing.assert_allclose(mean[path], expected, atol=2e-6, err_msg=path)
        moved += np.abs(expected - last).max() > 1e-3
        if path.endswith("old_kernel"):  # frozen
            np.testing.assert_array_equal(mean[path], last)
    assert moved > 5
    assert any("moving" in path and np.abs(mean[path] - third[path]).max() > 1e-4 for path in mean)


@dataclasses.dataclass(frozen=True)
class _Recorder(Trainer):
    """Trains nothing, and keeps what it is told."""

    calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def fit(self, model, batch_losses, data, settings, stage, seed, noise=None, rehearsal=None, xla=False):
        self.calls.append({"losses": batch_losses, "data": data, "rehearsal": rehearsal})


def _images(labels: np.ndarray) -> LabelledImages:
    return LabelledImages(np.random.default_rng(1).integers(0, 256, (len(labels), 4, 4, 1), np.uint8), labels)


def test_phases_are_trained_as_they_are_told_and_phase_0_is_not_touched(strategy):
    recorder = _Recorder(strategy, _PIXELS, Augmentation(), Tracker())
    level = ModelLevel(epochs=1, batch_size=10, weight_transfer="none")
    new, exemplars = _images(_LABELS[:24]), _images(_LABELS[24:])
    use = Rehearsal(memory_share=0.5, separated_softmax=True, augment="exemplars")
    initial = Phase(0, ClassGroups((2,)), exemplars)
    model, predictor = train_model(None, initial, None, _FACTORY, LUCIR(), level, recorder, 0, use)
    assert recorder.calls[0]["rehearsal"] is None
    later = Phase(1, _GROUPS, new)
    train_model(predictor, later, exemplars, _FACTORY, LUCIR(), level, recorder, 0, use)
    rehearsal = recorder.calls[1]["rehearsal"]
    np.testing.assert_array_equal(rehearsal.mixture.is_memory, recorder.calls[1]["data"].labels < 2)
    np.testing.assert_array_equal(rehearsal.jittered, rehearsal.mixture.is_memory)
    assert PhaseRehearsal(Rehearsal(augment="all"), _LABELS, _GROUPS).jittered.all()
    # New images alone: their cross-entropy does not see old classes, so that of two classes, at most log(2) at first.
    images, labels = tf.random.stateless_normal((6, 4, 4, 1), (1, 2)), tf.constant([2, 3] * 3)
    separated = recorder.calls[1]["losses"](images, labels)["cross_entropy"]
    train_model(predictor, later, exemplars, _FACTORY, LUCIR(), level, recorder, 0)
    assert recorder.calls[2]["rehearsal"] is None
    plain = recorder.calls[2]["losses"](images, labels)["cross_entropy"]
    assert float(separated) < float(plain)
    assert model.num_classes == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"memory_share": 1.0},
        {"memory_share": -0.1},
        {"steps_per_epoch": 4},
        {"separated_softmax": 1},
        {"logit_adjustment": -1.0},
        {"learning_rate": 0.0},
        {"schedule": "linear"},
        {"augment": "memory"},
        {"weight_average": 1.0},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^Rehearsal\.{name} = "):
        Rehearsal(**settings)
