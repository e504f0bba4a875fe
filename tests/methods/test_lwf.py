"""LwF (Eq. 5) against NumPy."""

from __future__ import annotations

import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, LABELS, NUM_OLD

from mnemonics_tf.checks import UsageError
from mnemonics_tf.methods.lwf import LwF


def _losses(method: LwF, outputs, teacher):
    return {name: float(value) for name, value in method.losses(outputs, teacher, tf.constant(LABELS), GROUPS).items()}


def test_terms_are_weighted_as_in_equation_5():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    terms = _losses(LwF(), outputs, teacher)
    # lambda = 0.5, and 1 - lambda for the distillation of the 5 old logits with tau = 2.
    assert terms == pytest.approx(
        {
            "cross_entropy": 0.5 * oracles.cross_entropy(outputs.logits, LABELS),
            "distillation": 0.5 * oracles.distillation(outputs.logits[:, :NUM_OLD], teacher.logits),
        },
        rel=1e-10,
    )


def test_settings_reach_their_terms():
    outputs, teacher = oracles.outputs(2), oracles.of_old_classes(oracles.outputs(3))
    terms = _losses(LwF(classification_weight=0.2, temperature=5.0), outputs, teacher)
    assert terms == pytest.approx(
        {
            "cross_entropy": 0.2 * oracles.cross_entropy(outputs.logits, LABELS),
            "distillation": 0.8 * oracles.distillation(outputs.logits[:, :NUM_OLD], teacher.logits, 5.0),
        },
        rel=1e-10,
    )


def test_distillation_is_lowest_where_the_network_answers_as_the_teacher_does():
    teacher = oracles.of_old_classes(oracles.outputs(1))
    least = 0.5 * oracles.entropy(teacher.logits)
    new_logits = oracles.outputs(0).logits[:, NUM_OLD:]
    for shift in (0.0, 3.0):  # the same number added to all old logits leaves their softmax as it is
        same = oracles.outputs(0)._replace(logits=tf.concat([teacher.logits + shift, new_logits], axis=1))
        assert _losses(LwF(), same, teacher)["distillation"] == pytest.approx(least, rel=1e-10)
    for seed in range(5):
        assert _losses(LwF(), oracles.outputs(10 + seed), teacher)["distillation"] > least


def test_distillation_leaves_the_logits_of_new_classes_alone():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    with tf.GradientTape() as tape:
        tape.watch(outputs.logits)
        distillation = LwF().losses(outputs, teacher, tf.constant(LABELS), GROUPS)["distillation"]
    gradient = tape.gradient(distillation, outputs.logits).numpy()
    assert abs(gradient[:, NUM_OLD:]).max() == 0
    # d/dz_k of -sum p* log softmax(z / tau) is (p_k - p*_k) / tau; half of the mean over 9 images.
    for row, logits, target in zip(gradient, outputs.logits.numpy(), teacher.logits.numpy(), strict=True):
        expected = oracles.probabilities(logits[:NUM_OLD], 2.0) - oracles.probabilities(target, 2.0)
        assert row[:NUM_OLD] == pytest.approx(0.5 * expected / 2 / 9, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("weight", "silent"), [(0.0, "cross_entropy"), (1.0, "distillation")])
def test_extreme_weights_silence_a_term(weight, silent):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    terms = _losses(LwF(classification_weight=weight), outputs, teacher)
    assert terms.pop(silent) == 0
    assert all(value > 0 for value in terms.values())


def test_it_works_without_exemplars():
    LwF().check(0, "cosine")


@pytest.mark.parametrize(
    "settings",
    [
        {"classification_weight": -0.1},
        {"classification_weight": 1.1},
        {"classification_weight": "half"},
        {"temperature": 0.0},
        {"temperature": -2},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^lwf\.{name} = "):
        LwF(**settings)
