"""EEIL's losses against NumPy."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, LABELS, NUM_OLD

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.gradient_noise import GradientNoise


def _losses(method: EEIL, outputs, teacher, groups=GROUPS):
    return {name: float(value) for name, value in method.losses(outputs, teacher, tf.constant(LABELS), groups).items()}


def _by_groups(outputs, teacher, ranges, temperature: float = 2.0) -> float:
    """A distillation for each group of classes, with a softmax of its own, added up."""
    return sum(
        oracles.distillation(outputs.logits[:, start:end], teacher.logits[:, start:end], temperature)
        for start, end in ranges
    )


def test_each_earlier_phase_is_distilled_by_itself():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    assert _losses(EEIL(), outputs, teacher) == pytest.approx(
        {
            "cross_entropy": oracles.cross_entropy(outputs.logits, LABELS),
            "distillation": _by_groups(outputs, teacher, [(0, 3), (3, 5)]),  # the phases brought 3, 2 and 2 classes
        },
        rel=1e-10,
    )


def test_temperature_reaches_the_distillation():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    terms = _losses(EEIL(temperature=3.0), outputs, teacher)
    assert terms["distillation"] == pytest.approx(_by_groups(outputs, teacher, [(0, 3), (3, 5)], 3.0), rel=1e-10)


def test_order_of_the_earlier_phases_does_not_matter():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    order = [3, 4, 0, 1, 2, 5, 6]  # the 2 classes of phase 1 before the 3 of phase 0
    swapped = outputs._replace(logits=tf.gather(outputs.logits, order, axis=1))
    swapped_teacher = teacher._replace(logits=tf.gather(teacher.logits, order[:NUM_OLD], axis=1))
    distillation = _losses(EEIL(), swapped, swapped_teacher, ClassGroups((2, 3, 2)))["distillation"]
    assert distillation == pytest.approx(_losses(EEIL(), outputs, teacher)["distillation"], rel=1e-10)


def test_distillation_does_not_compare_the_classes_of_different_phases():
    # A shift of all logits of one earlier phase changes its softmax as little as that of another phase.
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    shifted = outputs._replace(logits=outputs.logits + np.array([4.0, 4, 4, -1, -1, 0, 0]))
    distillation = _losses(EEIL(), shifted, teacher)["distillation"]
    assert distillation == pytest.approx(_losses(EEIL(), outputs, teacher)["distillation"], rel=1e-10)


def test_distillation_is_lowest_where_the_network_answers_as_the_teacher_does():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    same = outputs._replace(logits=tf.concat([teacher.logits, outputs.logits[:, NUM_OLD:]], axis=1))
    least = oracles.entropy(teacher.logits[:, :3]) + oracles.entropy(teacher.logits[:, 3:])
    assert _losses(EEIL(), same, teacher)["distillation"] == pytest.approx(least, rel=1e-10)
    for seed in range(5):
        assert _losses(EEIL(), oracles.outputs(10 + seed), teacher)["distillation"] > least


def test_fine_tuning_distils_the_new_classes_from_the_network_before_it():
    outputs, before = oracles.outputs(0), oracles.outputs(2)
    teacher = oracles.of_old_classes(oracles.outputs(1))
    terms = EEIL().finetuning_losses(outputs, teacher, before, tf.constant(LABELS), GROUPS)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {
            "cross_entropy": oracles.cross_entropy(outputs.logits, LABELS),
            "distillation": _by_groups(outputs, teacher, [(0, 3), (3, 5)]),
            "distillation_of_new": _by_groups(outputs, before, [(5, 7)]),
        },
        rel=1e-10,
    )


def test_fine_tuning_in_the_initial_phase_or_without_distillation_is_cross_entropy():
    outputs = oracles.outputs(0)
    terms = EEIL().finetuning_losses(outputs, None, None, tf.constant(LABELS), GROUPS)
    assert set(terms) == {"cross_entropy"}
    assert float(terms["cross_entropy"]) == pytest.approx(oracles.cross_entropy(outputs.logits, LABELS), rel=1e-10)


def test_fine_tuning_takes_learned_labels():
    outputs, before = oracles.outputs(0), oracles.outputs(2)
    teacher = oracles.of_old_classes(oracles.outputs(1))
    labels = tf.constant(LABELS)
    hard, soft = (
        EEIL().finetuning_losses(outputs, teacher, before, targets, GROUPS)
        for targets in (labels, tf.one_hot(labels, 7, dtype=tf.float64))
    )
    assert {name: float(value) for name, value in soft.items()} == pytest.approx(
        {name: float(value) for name, value in hard.items()}, rel=1e-12
    )


def test_balanced_fine_tuning_belongs_to_the_method():
    assert EEIL.finetunes
    assert EEIL.distils_in_finetuning


def test_gradient_noise_is_off_unless_it_is_asked_for():
    assert EEIL().gradient_noise is None
    # gamma = 0.55, as in the paper.
    assert EEIL(noise_scale=0.3).gradient_noise == GradientNoise(0.3, 0.55)
    assert EEIL(noise_scale=0.1, noise_decay=0.9).gradient_noise == GradientNoise(0.1, 0.9)


def test_networks_of_phase_0_are_shared_only_under_the_same_noise():
    trained = [
        EEIL(**settings).initial_training
        for settings in ({}, {"noise_scale": 0.3}, {"noise_scale": 0.1}, {"noise_scale": 0.3, "noise_decay": 0.9})
    ]
    assert len(set(trained)) == 4
    assert EEIL(noise_scale=0.3, temperature=5.0).initial_training == trained[1]
    assert EEIL(noise_decay=0.9).initial_training == trained[0]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"noise_scale": -0.3}, {"noise_decay": -1}], ids=str)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^eeil\.{name} = "):
        EEIL(**settings)
