"""iCaRL's two losses against NumPy."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, INITIAL, LABELS, NUM_CLASSES, NUM_OLD

from mnemonics_tf.checks import UsageError
from mnemonics_tf.methods.icarl import ICaRL
from mnemonics_tf.methods.lwf import LwF


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _binary_cross_entropies(outputs, teacher) -> float:
    """Mean over the images of the sum over the classes of -t log p - (1 - t) log(1 - p)."""
    values = []
    for image, label in enumerate(LABELS):
        for index, logit in enumerate(outputs.logits.numpy()[image]):
            if teacher is not None and index < NUM_OLD:
                target = _sigmoid(teacher.logits.numpy()[image, index])
            else:
                target = float(index == label)
            p = _sigmoid(logit)
            values.append(-target * math.log(p) - (1 - target) * math.log(1 - p))
    return sum(values) / len(LABELS)


@pytest.mark.parametrize("settings", [{}, {"classification_weight": 0.3, "temperature": 4.0}], ids=str)
def test_softmax_targets_are_the_training_of_lwf(settings):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    labels = tf.constant(LABELS)
    terms, expected = (kind(**settings).losses(outputs, teacher, labels, GROUPS) for kind in (ICaRL, LwF))
    assert set(terms) == set(expected) == {"cross_entropy", "distillation"}
    for name, value in expected.items():
        assert float(terms[name]) == float(value)


def test_sigmoid_asks_of_old_classes_what_the_teacher_says_and_of_new_ones_the_label():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    terms = ICaRL(targets="sigmoid").losses(outputs, teacher, tf.constant(LABELS), GROUPS)
    assert set(terms) == {"binary_cross_entropy"}
    assert float(terms["binary_cross_entropy"]) == pytest.approx(_binary_cross_entropies(outputs, teacher), rel=1e-10)


@pytest.mark.parametrize("groups", [INITIAL, GROUPS])
def test_sigmoid_without_a_teacher_asks_for_the_label_of_every_class(groups):
    outputs = oracles.outputs(0)
    terms = ICaRL(targets="sigmoid").losses(outputs, None, tf.constant(LABELS), groups)
    assert set(terms) == {"binary_cross_entropy"}
    assert float(terms["binary_cross_entropy"]) == pytest.approx(_binary_cross_entropies(outputs, None), rel=1e-10)


def test_sigmoid_pushes_each_logit_to_its_target_by_itself():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    with tf.GradientTape() as tape:
        tape.watch(outputs.logits)
        (loss,) = ICaRL(targets="sigmoid").losses(outputs, teacher, tf.constant(LABELS), GROUPS).values()
    # The derivative of a binary cross-entropy by its logit is p - t.
    p, teacher_p = (1 / (1 + np.exp(-each.logits.numpy())) for each in (outputs, teacher))
    targets = np.concatenate([teacher_p, np.eye(NUM_CLASSES)[LABELS][:, NUM_OLD:]], axis=1)
    np.testing.assert_allclose(tape.gradient(loss, outputs.logits), (p - targets) / 9, rtol=1e-9, atol=1e-15)


def test_sigmoid_is_lowest_where_old_classes_are_answered_as_the_teacher_does():
    teacher = oracles.of_old_classes(oracles.outputs(1))
    outputs = oracles.outputs(0)
    same = outputs._replace(logits=tf.concat([teacher.logits, outputs.logits[:, NUM_OLD:]], axis=1))
    (least,) = ICaRL(targets="sigmoid").losses(same, teacher, tf.constant(LABELS), GROUPS).values()
    for seed in range(5):
        moved = tf.concat([oracles.outputs(10 + seed).logits[:, :NUM_OLD], outputs.logits[:, NUM_OLD:]], axis=1)
        changed = outputs._replace(logits=moved)
        (loss,) = ICaRL(targets="sigmoid").losses(changed, teacher, tf.constant(LABELS), GROUPS).values()
        assert loss > least


def test_it_predicts_by_the_nearest_mean_of_exemplars_and_needs_them():
    assert ICaRL.primary_classifier == "nme"
    with pytest.raises(UsageError, match=r"Method 'icarl' needs exemplars"):
        ICaRL().check(0, "cosine")


@pytest.mark.parametrize(
    "settings", [{"classification_weight": 1.5}, {"temperature": 0}, {"targets": "sigmoids"}], ids=str
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^icarl\.{name} = "):
        ICaRL(**settings)


def test_unknown_targets_name_the_nearest():
    with pytest.raises(UsageError, match=r"expected one of 'softmax', 'sigmoid'\. Did you mean 'sigmoid'"):
        ICaRL(targets="sigmoids")
