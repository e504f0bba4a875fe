"""The objective `matching`: its loss by NumPy, its gradient by differences, and what learning by it does."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_optimiser import PIXELS, InterruptionError, Kept, Notes, kept_in, three_classes

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import codec_of
from mnemonics_tf.memory.optimising.forgetting import Forgetting
from mnemonics_tf.memory.optimising.matching import MatchedStatistics
from mnemonics_tf.memory.optimising.objective_settings import Matching
from mnemonics_tf.memory.optimising.optimiser import ExemplarOptimiser
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.memory.selection import real_slots
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import snapshots
from mnemonics_tf.system.tracking import Tracker

NETWORK = ResNet(blocks=(1, 1), widths=(4, 6))
LEVEL = ExemplarLevel(
    objective="matching", optimiser="adam", learning_rate=0.05, epochs=3, steps_per_epoch=6, batch_size=90
)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return ClassifierFactory(NETWORK, (6, 6, 1), head="linear").build(0, 3)


def _objective(model, checkpoints=(), **settings) -> MatchedStatistics:
    settings = Matching(**{"perturbation": 0.0, **settings})
    return MatchedStatistics(model, NETWORK.stage_outputs, PIXELS, LEVEL, settings, checkpoints)


def test_network_with_random_layers_is_matched():
    # Dropout keeps a random state among its variables, which is no weight.
    inputs = keras.Input((6, 6, 1))
    maps = keras.layers.Conv2D(4, 3, padding="same", name="stage1_out")(inputs)
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.5)(maps))
    backbone = Backbone(keras.Model(inputs, outputs), stages=("stage1_out",))
    model = ClassifierFactory(backbone, (6, 6, 1), head="linear").build(0, 3)
    objective = MatchedStatistics(model, ("stage1_out",), PIXELS, LEVEL, Matching(gradients="head"), ())
    exemplars, real = three_classes(2, 0), three_classes(20, 1)
    variables = ExemplarVariables(exemplars, 3, codec_of(1, False), PIXELS, LEVEL)
    found = objective.task(exemplars, real, 0, "learn").step(variables, 0, np.random.default_rng(0))
    assert np.isfinite(found.meta.loss)


def _normalised(data: LabelledImages) -> np.ndarray:
    return (data.images.astype(np.float32) / 255 - 0.5) / 0.25


def _shares(labels: np.ndarray) -> np.ndarray:
    members = np.eye(3, dtype=np.float32)[labels]
    return members / members.sum(axis=0)


def _statistics(model, images: np.ndarray) -> list[np.ndarray]:
    """The outputs of both stages, of 6 x 6 and 3 x 3 pixels, each a cell of its own, and embeddings."""
    layers = [model.backbone.get_layer(name).output for name in NETWORK.stage_outputs]
    *maps, features = keras.Model(model.backbone.input, [*layers, model.backbone.output])(images, training=False)
    return [*(each.numpy().reshape(len(images), -1) for each in maps), features.numpy()]


def _loss_by_numpy(model, exemplars: LabelledImages, real: LabelledImages) -> float:
    terms = []
    pairs = zip(_statistics(model, _normalised(real)), _statistics(model, _normalised(exemplars)), strict=True)
    for of_real, of_exemplars in pairs:
        apart, within = [], []
        for label in range(3):
            members = of_real[real.labels == label]
            apart.append(((members.mean(axis=0) - of_exemplars[exemplars.labels == label].mean(axis=0)) ** 2).sum())
            within.append(((members - members.mean(axis=0)) ** 2).sum(axis=1).mean())
        terms.append(np.mean(apart) / np.mean(within))
    return float(np.mean(terms))


def _spread_by_numpy(model, exemplars: LabelledImages, real: LabelledImages) -> float:
    terms = []
    pairs = zip(_statistics(model, _normalised(real)), _statistics(model, _normalised(exemplars)), strict=True)
    for of_real, of_exemplars in pairs:
        apart = length = 0.0
        for label in range(3):
            members = of_real[real.labels == label]
            variances = members.var(axis=0)
            of_class = ((of_exemplars[exemplars.labels == label] - members.mean(axis=0)) ** 2).mean(axis=0)
            apart += ((variances - of_class) ** 2).sum()
            length += (variances**2).sum()
        terms.append(apart / length)
    return float(np.mean(terms))


def _head_gradient_by_numpy(model, data: LabelledImages) -> np.ndarray:
    """Of the mean over classes of the mean cross-entropy of a class, by the kernel and bias of the linear head."""
    features = _statistics(model, _normalised(data))[-1]
    logits = features @ model.head.by_class("kernel").numpy() + model.head.by_class("bias").numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    errors = (probabilities - np.eye(3)[data.labels]) * _shares(data.labels).sum(axis=1, keepdims=True) / 3
    return np.concatenate([(features.T @ errors).ravel(), errors.sum(axis=0)])


def _call(objective, exemplars: LabelledImages, real: LabelledImages, change=None, fixed=None):
    """Loss and gradient `[n, H, W, C]` of a meta-step, whose pixels are those of `exemplars` and `change`."""
    variables = ExemplarVariables(exemplars, 3, codec_of(1, False), PIXELS, LEVEL, fixed)
    if change is not None:
        variables._pixels.assign_add(change)
    found = objective.task(exemplars, real, 0, "learn").step(variables, 0, np.random.default_rng(0))
    return float(found.meta.loss), found.meta.exemplars.numpy()


def test_loss_and_gradient_are_those_of_the_formulas(model):
    exemplars, real = three_classes(4, seed=1), three_classes(30, seed=2)
    loss, _ = _call(_objective(model), exemplars, real)
    expected = _loss_by_numpy(model, exemplars, real)
    assert loss == pytest.approx(expected, rel=1e-4)

    loss, _ = _call(_objective(model, spread_weight=0.5), exemplars, real)
    spread = _spread_by_numpy(model, exemplars, real)
    assert spread > 0.01
    assert loss == pytest.approx(expected + 0.5 * spread, rel=1e-4)

    gradients = [_head_gradient_by_numpy(model, each) for each in (real, exemplars)]
    apart = np.sum((gradients[0] - gradients[1]) ** 2) / np.sum(gradients[0] ** 2)
    loss, _ = _call(_objective(model, gradients="head", gradient_weight=0.5), exemplars, real)
    assert loss == pytest.approx(expected + 0.5 * apart, rel=1e-4)

    # Along one direction, with gradients of the last block. They jump where a ReLU changes sides, which is no part of
    # a derivative: the step is so short that hardly any does.
    objective = _objective(model, gradients="block", gradient_weight=0.5)
    loss, gradient = _call(objective, exemplars, real)
    direction = gradient / np.linalg.norm(gradient)
    ends = [_call(objective, exemplars, real, step * direction)[0] for step in (0.001, -0.001)]
    assert (ends[0] - ends[1]) / 0.002 == pytest.approx(np.linalg.norm(gradient), rel=0.03)
    assert loss != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("gradients", ["none", "head", "block"])
def test_exemplars_that_stay_count_as_the_others_do_and_have_no_gradient(model, gradients):
    exemplars, real = three_classes(4, seed=1), three_classes(30, seed=2)
    objective = _objective(model, gradients=gradients, spread_weight=0.5)
    loss, gradient = _call(objective, exemplars, real)
    # Some of the first class, all of the second, none of the third.
    fixed = np.array([True, False, False, True] + [True] * 4 + [False] * 4)
    assert np.abs(gradient).max(axis=(1, 2, 3)).min() > 0
    of_some, by_moving = _call(objective, exemplars, real, fixed=fixed)
    assert of_some == pytest.approx(loss, rel=1e-5)
    assert not by_moving[fixed].any()
    np.testing.assert_allclose(by_moving[~fixed], gradient[~fixed], rtol=1e-3, atol=1e-5 * np.abs(gradient).max())
    # All of them, as where each class has one exemplar.
    of_none, gradient = _call(objective, exemplars, real, fixed=np.ones(12, bool))
    assert of_none == pytest.approx(loss, rel=1e-5)
    assert not gradient.any()

    of_none, by_none = _call(objective, exemplars, real, fixed=np.ones(12, bool))
    assert of_none == pytest.approx(loss, rel=1e-5)
    assert not by_none.any()


def test_networks_are_those_that_were_kept_and_the_trained_one(model):
    named = {name: variable.numpy() for name, variable in model.named_weights().items()}
    kept = {name: value + 1 for name, value in named.items()}
    objective = _objective(model, [kept])
    draws = [objective.drawn(np.random.default_rng(seed), objective.networks).weights for seed in range(20)]
    firsts = {
        float(np.ravel(each.backbone[0])[0] - np.ravel(model.backbone.trainable_variables[0])[0]) for each in draws
    }
    assert {round(each, 3) for each in firsts} == {0.0, 1.0}
    # Statistics of batch norm and the head go with the weights.
    changed = next(each for each in draws if np.ravel(each.backbone[0])[0] != np.ravel(draws[0].backbone[0])[0])
    for part in ("statistics", "head"):
        apart = [np.abs(a - b).max() for a, b in zip(getattr(draws[0], part), getattr(changed, part), strict=True)]
        assert min(apart) > 0.9
    perturbed = _objective(model, perturbation=0.1)
    noisy = perturbed.drawn(np.random.default_rng(0), perturbed.networks).weights.backbone
    for value, variable in zip(noisy, model.backbone.trainable_variables, strict=True):
        size = np.sqrt(np.mean((value - variable.numpy()) ** 2) / max(np.mean(variable.numpy() ** 2), 1e-9))
        # Of 36 numbers or more the deviation is within 40 % of what it shall be.
        assert size == (0 if len(variable.shape) < 2 else pytest.approx(0.1, rel=0.4))


def test_network_of_a_later_phase_says_nothing_of_classes_that_played_new_ones(model):
    class OnePhase:
        def after(self, num_phases, exemplars, data, seed, stage):
            assert num_phases == 1
            assert exemplars.images.dtype == np.uint8
            return [Forgetting({}, np.array([0]))]  # with the weights of the trained network

    exemplars, data = three_classes(4, seed=1), three_classes(30, seed=2)
    settings = Matching(perturbation=0.0, later_phases=1)
    objective = MatchedStatistics(model, NETWORK.stage_outputs, PIXELS, LEVEL, settings, (), OnePhase())
    task = objective.task(exemplars, data, 0, "learn")
    variables = ExemplarVariables(exemplars, 3, codec_of(1, False), PIXELS, LEVEL)
    moved = set()
    for seed in range(12):
        found = task.step(variables, 0, np.random.default_rng(seed))
        lengths = np.sqrt(np.sum(found.meta.exemplars.numpy() ** 2, axis=(1, 2, 3)))
        moved.add(tuple(sorted({int(label) for label in exemplars.labels[lengths > 0]})))
    assert moved == {(0, 1, 2), (1, 2)}


def test_network_that_learned_all_classes_of_a_step_as_new_ones_is_not_drawn_for_it(model):
    class Blind:
        """Gives a network that took class 0 for a new one, and sees nothing any more."""

        def after(self, num_phases, exemplars, data, seed, stage):
            weights = {name: np.zeros(variable.shape, np.float32) for name, variable in model.named_weights().items()}
            return [Forgetting(weights, np.array([0]))]

    exemplars, data = three_classes(4, seed=1), three_classes(30, seed=2)
    settings = Matching(perturbation=0.0, later_phases=1, classes=1)
    objective = MatchedStatistics(model, NETWORK.stage_outputs, PIXELS, LEVEL, settings, (), Blind())
    task = objective.task(exemplars, data, 0, "learn")
    variables = ExemplarVariables(exemplars, 3, codec_of(1, False), PIXELS, LEVEL)
    seen = {label: set() for label in range(3)}
    for index in range(3):  # one class each
        for seed in range(8):
            moves = np.abs(task.step(variables, index, np.random.default_rng(seed)).meta.exemplars.numpy())
            (label,) = task._classes(index)
            seen[int(label)].add(bool(moves.any()))
    assert seen == {0: {True}, 1: {True, False}, 2: {True, False}}


def test_learning_lowers_the_loss_keeps_real_slots_and_goes_on_after_an_interruption(model, monkeypatch):
    monkeypatch.setattr(snapshots, "_TIMES_ITS_COST", 0)
    level = dataclasses.replace(LEVEL, real_share=0.5, project_every=4, augmentation=("crop",))
    initial, data = three_classes(4, seed=1), three_classes(40, seed=2)

    def optimiser(tracker, kept):
        objective = _objective(model, perturbation=0.05, classes=2)
        return ExemplarOptimiser(model, PIXELS, level, tracker, snapshots=kept, objective=objective)

    notes = Notes()
    learned = optimiser(notes, None).learn(initial, data, seed=0)
    losses = [notes.scalars["learn_exemplars", epoch]["meta_loss"] for epoch in (1, 3)]
    assert losses[1] < 0.9 * losses[0]
    change = np.abs(np.rint(learned.images) - initial.images).max(axis=(1, 2, 3))
    fixed = real_slots(initial.labels, 0.5)
    np.testing.assert_array_equal(change > 0, ~fixed)
    # To the bit, as floats are kept too.
    np.testing.assert_array_equal(learned.images[fixed], initial.images[fixed])
    assert _loss_by_numpy(model, learned, data) < _loss_by_numpy(model, initial, data)

    interrupted = Kept(at=5)
    with pytest.raises(InterruptionError):
        optimiser(Tracker(), kept_in(interrupted)).learn(initial, data, seed=0)
    again = optimiser(Tracker(), kept_in(Kept(interrupted.states))).learn(initial, data, seed=0)
    np.testing.assert_array_equal(again.images, learned.images)


def test_real_slots_are_spread_from_the_most_important_on():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])
    assert real_slots(labels, 0.5)[labels == 0].tolist() == [True, False, True, False, True]
    assert real_slots(labels, 0.25)[labels == 1].tolist() == [True, False, False, False]
    assert not real_slots(labels, 0).any()
    # Of the first k slots share * k, rounded up, for every k.
    for share in (0.1, 0.3, 0.7):
        counts = np.cumsum(real_slots(np.zeros(20, int), share))
        assert counts.tolist() == [-(-round(10 * share) * k // 10) for k in range(1, 21)]


def test_networks_see_what_will_be_kept_and_the_gradient_passes(model):
    level = dataclasses.replace(LEVEL, project_every=1)
    data = three_classes(2, seed=1)
    images = LabelledImages(np.clip(data.images + np.float32(0.3), 0, 255), data.labels)
    variables = ExemplarVariables(images, 3, codec_of(1, False, "jpeg", 50), PIXELS, level)
    np.testing.assert_allclose(variables.images(), _normalised(images), atol=1e-5)
    variables.project()
    form = codec_of(1, False, "jpeg", 50).format((6, 6, 1))
    coded = np.stack([form.decode(form.encode(image)) for image in np.rint(images.images).astype(np.uint8)])
    np.testing.assert_allclose(variables.images(), _normalised(LabelledImages(coded, data.labels)), atol=1e-5)
    assert np.abs(coded - images.images).max() > 2
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(variables.images() ** 2)
    np.testing.assert_allclose(tape.gradient(total, variables._pixels), 2 * variables.images(), rtol=1e-5)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_steps_of_pixels_are_those_of_the_formulas(optimiser):
    from mnemonics_tf.memory.optimising.pixel_steps import PixelSteps

    gradients = np.random.default_rng(0).normal(size=(3, 2, 2, 2, 1)).astype(np.float32)
    steps = PixelSteps(optimiser, 0.9 if optimiser == "sgd" else 0.0, (2, 2, 2, 1))
    first = second = 0.0
    for count, gradient in enumerate(gradients, 1):
        if optimiser == "sgd":
            first = 0.9 * first + 0.5 * gradient
            expected = 0.1 * first
        else:
            first, second = 0.9 * first + 0.1 * 0.5 * gradient, 0.999 * second + 0.001 * (0.5 * gradient) ** 2
            expected = 0.1 * (first / (1 - 0.9**count)) / (np.sqrt(second / (1 - 0.999**count)) + 1e-8)
        np.testing.assert_allclose(steps.step(tf.constant(gradient), 0.5, 0.1), expected, rtol=1e-4)


def test_epochs_that_are_kept_are_spread_and_do_not_include_the_last():
    assert Matching(checkpoints=3).epochs_kept(8) == (2, 4, 6)
    assert Matching(checkpoints=3).epochs_kept(160) == (40, 80, 120)
    assert Matching(checkpoints=3).epochs_kept(2) == (1,)
    assert Matching(checkpoints=3).epochs_kept(1) == Matching(checkpoints=0).epochs_kept(9) == ()


@pytest.mark.parametrize(
    "settings",
    [{"checkpoints": -1}, {"perturbation": -0.1}, {"classes": 0}, {"gradients": "all"}, {"gradient_weight": 0.0}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match=f"Matching.{next(iter(settings))}"):
        Matching(**settings)


def test_batches_have_two_images_of_a_class():
    Matching(classes=10).check_batches(20)
    with pytest.raises(UsageError, match=r"Matching\.classes = 10 with ExemplarLevel\.batch_size = 19"):
        Matching(classes=10).check_batches(19)
