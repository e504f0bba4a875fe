"""BiC: its loss, what it holds out, and the correction that it fits, against NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, LABELS, NUM_OLD

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import ClassGroups, LabelledImages, PixelRange
from mnemonics_tf.methods.bic import BiC, fit_correction
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system.tracking import Tracker


def test_terms_are_weighted_by_the_share_of_old_classes():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    terms = BiC().losses(outputs, teacher, tf.constant(LABELS), GROUPS)
    # lambda = K / (K + M) = 5 / 7.
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {
            "cross_entropy": 2 / 7 * oracles.cross_entropy(outputs.logits, LABELS),
            "distillation": 5 / 7 * oracles.distillation(outputs.logits[:, :NUM_OLD], teacher.logits),
        },
        rel=1e-10,
    )


def test_temperature_reaches_the_distillation():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    distillation = BiC(temperature=3.0).losses(outputs, teacher, tf.constant(LABELS), GROUPS)["distillation"]
    expected = 5 / 7 * oracles.distillation(outputs.logits[:, :NUM_OLD], teacher.logits, 3.0)
    assert float(distillation) == pytest.approx(expected, rel=1e-10)


def test_distillation_is_lowest_where_the_network_answers_as_the_teacher_does():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    same = outputs._replace(logits=tf.concat([teacher.logits, outputs.logits[:, NUM_OLD:]], axis=1))
    distillation = BiC().losses(same, teacher, tf.constant(LABELS), GROUPS)["distillation"]
    assert float(distillation) == pytest.approx(5 / 7 * oracles.entropy(teacher.logits), rel=1e-10)


# 3 old classes with 10, 12 and 11 exemplars (pixels 0 to 32), 2 more with 10; 12 images of each of 2 new classes.
def _exemplars() -> LabelledImages:
    return oracles.images_of(np.repeat(np.arange(5), [10, 12, 11, 10, 10]))


def _split(method: BiC, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
    return method.training_data(oracles.a_phase(), _exemplars(), np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("share", "count"),
    [
        (0.1, 1),
        (0.3, 3),
        (0.39, 3),  # 3.9 of the smallest class, rounded down
        (0.01, 1),  # at least one
        (0.9, 9),
    ],
)
def test_as_many_images_of_every_class_are_held_out_old_or_new(share, count):
    data, held_out = _split(BiC(held_out_share=share))
    np.testing.assert_array_equal(np.bincount(held_out.labels), [count] * 7)
    np.testing.assert_array_equal(np.bincount(data.labels), np.array([10, 12, 11, 10, 10, 12, 12]) - count)


def test_the_budget_of_the_paper_holds_out_two_of_twenty():
    exemplars = oracles.images_of(np.repeat(np.arange(5), 20))
    data, held_out = BiC().training_data(oracles.a_phase(30), exemplars, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(held_out.labels), [2] * 7)
    np.testing.assert_array_equal(np.bincount(data.labels), [18] * 5 + [28] * 2)


@pytest.mark.parametrize(("new_per_class", "count"), [(15, 1), (20, 2), (1, 0)])
def test_new_class_with_few_images_is_trained_on(new_per_class, count):
    # A budget of bytes may leave 200 exemplars of an old class, of which a tenth is more than there are new images.
    exemplars = oracles.images_of(np.repeat(np.arange(5), 200))
    phase = oracles.a_phase(new_per_class)
    data, held_out = BiC().training_data(phase, exemplars, np.random.default_rng(0))
    old = max(count, 1)
    np.testing.assert_array_equal(np.bincount(held_out.labels, minlength=7), [old] * 5 + [count] * 2)
    np.testing.assert_array_equal(np.bincount(data.labels), [200 - old] * 5 + [new_per_class - count] * 2)
    if not count:  # then nothing tells how new logits are biased, and the network stays as it is
        BiC().complete(None, None, held_out, GROUPS)


def test_class_that_comes_again_holds_out_what_others_do():
    exemplars = oracles.images_of(np.repeat(np.arange(5), 20))
    arriving = oracles.images_of(np.array([0] * 50 + [5] * 30 + [6] * 30))
    phase = dataclasses.replace(oracles.a_phase(), train=arriving)
    data, held_out = BiC().training_data(phase, exemplars, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(held_out.labels), [2] * 7)
    np.testing.assert_array_equal(np.bincount(data.labels), [68] + [18] * 4 + [28] * 2)
    # With known classes alone there is nothing to be corrected, and all is trained on.
    again = dataclasses.replace(phase, train=arriving.of_classes(np.array([0])))
    data, held_out = BiC().training_data(again, exemplars, np.random.default_rng(0))
    assert held_out is None
    np.testing.assert_array_equal(np.bincount(data.labels), [70] + [20] * 4)


def test_new_classes_alone_correct_nothing():
    # Of old classes with a single exemplar none is held out.
    exemplars = oracles.images_of(np.arange(5))
    _, held_out = BiC().training_data(oracles.a_phase(10), exemplars, np.random.default_rng(0))
    np.testing.assert_array_equal(np.unique(held_out.labels), [5, 6])
    BiC().complete(None, None, held_out, GROUPS)


def test_what_is_held_out_is_not_trained_on_and_everything_else_is():
    data, held_out = _split(BiC(held_out_share=0.3))
    trained, kept = oracles.pixels_of(data), oracles.pixels_of(held_out)
    assert set(trained).isdisjoint(kept)
    phase = oracles.a_phase()
    assert sorted(trained + kept) == sorted(oracles.pixels_of(phase.train) + oracles.pixels_of(_exemplars()))
    # With the labels that they came with.
    label_of = dict(zip(oracles.pixels_of(_exemplars()), _exemplars().labels, strict=True))
    label_of |= dict(zip(oracles.pixels_of(phase.train), phase.train.labels, strict=True))
    for part in (data, held_out):
        np.testing.assert_array_equal(part.labels, [label_of[pixel] for pixel in oracles.pixels_of(part)])


def test_what_is_held_out_follows_the_generator():
    first, again, other = (oracles.pixels_of(_split(BiC(held_out_share=0.3), seed)[1]) for seed in (0, 0, 1))
    assert first == again
    assert sorted(first) != sorted(other)


def test_every_exemplar_is_as_likely_to_be_held_out():
    generator = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(500):
        _, held_out = BiC().training_data(oracles.a_phase(), _exemplars(), generator)
        counts[held_out.images[held_out.labels == 0].ravel()] += 1
    # Binomial, 500 draws with probability 1/10: mean 50, deviation 6.7; 5 deviations are 34.
    assert np.abs(counts - 50).max() < 34


def test_initial_phase_holds_nothing_out():
    phase = oracles.a_phase()
    data, held_out = BiC().training_data(phase, None, np.random.default_rng(0))
    assert held_out is None
    assert oracles.pixels_of(data) == oracles.pixels_of(phase.train)


def test_learned_labels_of_exemplars_are_left_behind():
    exemplars = _exemplars()
    soft = LabelledImages(exemplars.images, exemplars.labels, np.full((len(exemplars), 5), 0.2, np.float32))
    data, held_out = BiC().training_data(oracles.a_phase(), soft, np.random.default_rng(0))
    assert data.soft_labels is None
    assert held_out.soft_labels is None


def _held_out_logits(seed: int, bias: float = 0.0, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are often wrong, with `bias` added to those of the 3 new of 7 classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 7, count)
    logits = generator.normal(0, 1.5, (count, 7))
    logits[np.arange(count), labels] += 1.5
    logits[:, 4:] += bias
    return logits, labels


def _gradient_descent(logits: np.ndarray, labels: np.ndarray, num_old: int, penalty: float) -> np.ndarray:
    """Gain and offset by plain gradient descent, until the gradient is gone."""
    count = len(labels)
    one_hot = np.eye(logits.shape[1])[labels]
    new = logits[:, num_old:]
    # The softmax's Hessian is at most 1/2, so the curvature of the mean along (gain, offset) is at most half of the
    # mean square of (z, 1), and this rate cannot overshoot.
    rate = 1 / (0.5 * np.mean(np.sum(new**2 + 1, axis=1)) + penalty)
    correction = np.array([1.0, 0.0])
    for _ in range(100_000):
        corrected = np.concatenate([logits[:, :num_old], correction[0] * new + correction[1]], axis=1)
        powers = np.exp(corrected - corrected.max(axis=1, keepdims=True))
        error = (powers / powers.sum(axis=1, keepdims=True) - one_hot)[:, num_old:] / count
        gradient = np.array([np.sum(error * new), np.sum(error)]) + penalty * (correction - [1, 0])
        if np.abs(gradient).max() < 1e-10:
            return correction
        correction = correction - rate * gradient
    raise AssertionError("Gradient descent has not converged.")


@pytest.mark.parametrize(("bias", "penalty"), [(0.0, 0.1), (3.0, 0.1), (-2.0, 0.0), (6.0, 2.0)])
@pytest.mark.parametrize("seed", [0, 1, 104])
def test_correction_is_where_gradient_descent_ends(seed, bias, penalty):
    logits, labels = _held_out_logits(seed, bias)
    expected = _gradient_descent(logits, labels, 4, penalty)
    np.testing.assert_allclose(fit_correction(logits, labels, 4, penalty), expected, rtol=0, atol=1e-6)


def test_correction_takes_a_known_bias_back():
    # Unbiased logits z need the correction (a, b). The logits (z - 1) * 2 in their place need (a / 2, b + a), because
    # a / 2 * 2 (z - 1) + b + a = a z + b. That holds without a penalty, which would pull at the offset.
    logits, labels = _held_out_logits(4, count=400)
    gain, offset = fit_correction(logits, labels, 4, penalty=0.0)
    biased = logits.copy()
    biased[:, 4:] = 2 * (logits[:, 4:] - 1)
    np.testing.assert_allclose(fit_correction(biased, labels, 4, 0.0), [gain / 2, offset + gain], atol=1e-5)


def test_unbiased_logits_need_no_correction():
    # Labels drawn from the softmax of the logits themselves: alpha = 1 and beta = 0 are right, up to the sample. The
    # smallest curvature of the loss is 0.1 here, so 4,000 images fix both up to a deviation of 1 / sqrt(400) = 0.05.
    generator = np.random.default_rng(5)
    logits = generator.normal(0, 1.5, (4000, 7))
    labels = np.array([generator.choice(7, p=oracles.probabilities(row)) for row in logits])
    gain, offset = fit_correction(logits, labels, 4, penalty=0.1)
    assert abs(gain - 1) < 0.1
    assert abs(offset) < 0.1


def test_great_penalty_holds_gain_and_offset_where_nothing_is_corrected():
    logits, labels = _held_out_logits(6, bias=3.0)
    free_gain, free_offset = fit_correction(logits, labels, 4, penalty=0.0)
    gain, offset = fit_correction(logits, labels, 4, penalty=1e6)
    assert free_offset < -1
    assert free_gain < 0.9
    np.testing.assert_allclose([gain, offset], [1, 0], atol=1e-5)


def test_correction_does_not_depend_on_the_order_of_images():
    logits, labels = _held_out_logits(7, bias=2.0)
    order = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_allclose(
        fit_correction(logits[order], labels[order], 4, 0.1), fit_correction(logits, labels, 4, 0.1), atol=1e-6
    )


def test_correction_of_logits_that_are_all_right_is_held_by_the_penalty():
    # Without one no gain would be too high for them, and there would be no lowest loss.
    labels = np.repeat(np.arange(7), 2)
    logits = np.where(np.eye(7)[labels] > 0, 0.3, -0.3).astype(np.float32)
    gain, offset = fit_correction(logits, labels, 4, 0.1)
    np.testing.assert_allclose([gain, offset], _gradient_descent(logits.astype(np.float64), labels, 4, 0.1), atol=1e-6)
    assert 1 < gain < 3
    large, _ = fit_correction(30 * logits, labels, 4, 0.1)
    assert large == pytest.approx(1, abs=0.01)


_FACTORY = ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1), corrected=True)


@pytest.fixture(scope="module")
def completed():
    """A network of phase 1 (3 old and 2 new classes) after stage 2, its images, and the logits before."""
    tf.keras.utils.set_random_seed(0)
    model = _FACTORY.grow(_FACTORY.build(0, 3), 2)
    # Earlier groups have corrections of their own.
    model.head.old_gain.assign([0.5, 0.6, 0.7])
    model.head.old_offset.assign([-1.0, -2.0, -3.0])
    model.head._eta.assign(5.0)
    generator = np.random.default_rng(0)
    held_out = LabelledImages(generator.integers(0, 256, (40, 4, 4, 1), np.uint8), generator.integers(0, 5, 40))
    predictor = Predictor(model, PixelRange((0.5,), (0.25,)), Tracker())
    before = predictor(held_out, "test")[1]
    BiC().complete(model, predictor, held_out, ClassGroups((3, 2)))
    return model, predictor, held_out, before


def test_stage_2_corrects_the_new_group_alone(completed):
    model, _, held_out, before = completed
    expected = _gradient_descent(before.astype(np.float64), held_out.labels, 3, 0.1)
    np.testing.assert_allclose(model.head.new_gain, [expected[0]] * 2, atol=2e-5)
    np.testing.assert_allclose(model.head.new_offset, [expected[1]] * 2, atol=2e-5)
    assert abs(expected[0] - 1) > 0.05
    np.testing.assert_array_equal(model.head.old_gain, np.float32([0.5, 0.6, 0.7]))
    np.testing.assert_array_equal(model.head.old_offset, np.float32([-1, -2, -3]))


def test_corrected_logits_are_alpha_z_plus_beta_for_new_classes_and_as_they_were_for_old_ones(completed):
    model, predictor, held_out, before = completed
    after = predictor(held_out, "test")[1]
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    gain, offset = float(model.head.new_gain[0]), float(model.head.new_offset[0])
    np.testing.assert_allclose(after[:, 3:], gain * before[:, 3:] + offset, atol=1e-6)


def test_stage_2_lowers_the_loss_of_what_was_held_out(completed):
    _, predictor, held_out, before = completed
    after = predictor(held_out, "test")[1]
    losses = [oracles.cross_entropy(tf.constant(logits), held_out.labels) for logits in (before, after)]
    assert losses[1] < losses[0]


def test_corrections_stay_when_the_network_grows(completed):
    model = completed[0]
    grown = _FACTORY.grow(model, 4)
    for name, fresh in (("gain", 1), ("offset", 0)):
        expected = np.concatenate([getattr(model.head, f"old_{name}"), getattr(model.head, f"new_{name}")])
        np.testing.assert_array_equal(getattr(grown.head, f"old_{name}"), expected)
        np.testing.assert_array_equal(getattr(grown.head, f"new_{name}"), [fresh] * 4)


def test_corrections_are_not_trained_at_the_model_level(completed):
    model = completed[0]
    for old_head in (True, False):
        model.train_phase(transferring=False, old_head=old_head)
        assert not {variable.name for variable in model.trainable_variables} & set(model.head.correction_names)
    model.train_all()
    assert not {variable.name for variable in model.trainable_variables} & set(model.head.correction_names)


def test_without_held_out_images_nothing_is_corrected():
    model = _FACTORY.build(2, 1)
    BiC().complete(model, None, None, ClassGroups((2, 1)))
    np.testing.assert_array_equal(model.head.new_gain, [1.0])
    np.testing.assert_array_equal(model.head.new_offset, [0.0])


def test_logits_are_corrected_by_the_head():
    assert BiC.corrects_bias


@pytest.mark.parametrize("head", ["cosine", "linear", "proxies"])
def test_it_needs_two_exemplars_of_a_class(head):
    BiC().check(2, head)
    with pytest.raises(UsageError, match=r"leaves 1\. Raise the memory's budget\."):
        BiC().check(1, head)
    with pytest.raises(UsageError, match=r"ExemplarMemory\.per_class = 0 keeps none\. Raise it, "):
        BiC().check(0, head)


def test_the_smallest_budget_leaves_one_exemplar_to_train_on():
    exemplars = oracles.images_of(np.repeat(np.arange(5), 2))
    data, held_out = BiC(held_out_share=0.99).training_data(oracles.a_phase(), exemplars, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(held_out.labels), [1] * 7)
    np.testing.assert_array_equal(np.bincount(data.labels)[:5], [1] * 5)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"held_out_share": 0.0},
        {"held_out_share": 1.0},
        {"held_out_share": -0.1},
        {"held_out_share": "a tenth"},
        {"correction_penalty": 0.0},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^bic\.{name} = "):
        BiC(**settings)
