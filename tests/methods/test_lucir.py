"""LUCIR's loss against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.classifier import Outputs

_NUM_OLD, _NUM_NEW, _ETA = 3, 2, 6.0
_GROUPS = ClassGroups((_NUM_OLD, _NUM_NEW))


def _outputs(seed: int, batch: int = 8) -> Outputs:
    generator = np.random.default_rng(seed)
    scores = generator.uniform(-1, 1, (batch, _NUM_OLD + _NUM_NEW))
    return Outputs(tf.constant(generator.normal(size=(batch, 4))), tf.constant(scores), tf.constant(scores * _ETA))


_LABELS = np.array([0, 1, 2, 3, 4, 0, 3, 3])  # four of old classes, four of new ones


def _cross_entropy(outputs: Outputs, labels: np.ndarray) -> float:
    logits = outputs.logits.numpy()
    return float(np.mean([math.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)]))


def _less_forget(outputs: Outputs, teacher: Outputs) -> float:
    pairs = zip(outputs.features.numpy(), teacher.features.numpy(), strict=True)
    return float(np.mean([1 - (f @ t) / (np.linalg.norm(f) * np.linalg.norm(t)) for f, t in pairs]))


def _margin_ranking(outputs: Outputs, labels: np.ndarray, margin: float, num_negatives: int) -> float:
    values = []
    for row, label in zip(outputs.scores.numpy(), labels, strict=True):
        if label < _NUM_OLD:
            rivals = sorted(row[_NUM_OLD:])[-num_negatives:]
            values.append(np.mean([max(0.0, margin - row[label] + rival) for rival in rivals]))
    return float(np.mean(values))


def test_initial_phase_is_cross_entropy_alone():
    terms = LUCIR().losses(_outputs(0), None, tf.constant(_LABELS), ClassGroups((5,)))
    assert set(terms) == {"cross_entropy"}
    np.testing.assert_allclose(terms["cross_entropy"], _cross_entropy(_outputs(0), _LABELS), rtol=1e-10)


def test_terms_are_weighted_as_in_the_paper():
    outputs, teacher = _outputs(0), _outputs(1)
    terms = LUCIR().losses(outputs, teacher, tf.constant(_LABELS), _GROUPS)
    assert set(terms) == {"cross_entropy", "less_forget", "margin_ranking"}
    np.testing.assert_allclose(terms["cross_entropy"], _cross_entropy(outputs, _LABELS), rtol=1e-10)
    # lambda = 5 sqrt(K / M), for K = 3 and M = 2.
    np.testing.assert_allclose(terms["less_forget"], 5 * math.sqrt(3 / 2) * _less_forget(outputs, teacher), rtol=1e-10)
    # Mean over the rehearsed images alone, m = 0.5, by cosines and not by logits.
    np.testing.assert_allclose(terms["margin_ranking"], _margin_ranking(outputs, _LABELS, 0.5, 2), rtol=1e-10)


def test_settings_reach_their_terms():
    outputs, teacher = _outputs(2), _outputs(3)
    method = LUCIR(less_forget_weight=10.0, margin=0.2, margin_weight=3.0, num_negatives=1)
    terms = method.losses(outputs, teacher, tf.constant(_LABELS), _GROUPS)
    np.testing.assert_allclose(terms["less_forget"], 10 * math.sqrt(3 / 2) * _less_forget(outputs, teacher), rtol=1e-10)
    np.testing.assert_allclose(terms["margin_ranking"], 3 * _margin_ranking(outputs, _LABELS, 0.2, 1), rtol=1e-10)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"less_forget_weight": 0.0}, {"cross_entropy", "margin_ranking"}),
        ({"margin_weight": 0.0}, {"cross_entropy", "less_forget"}),
    ],
    ids=["less_forget", "margin_ranking"],
)
def test_weight_of_zero_leaves_the_term_out(settings, left):
    assert set(LUCIR(**settings).losses(_outputs(0), _outputs(1), tf.constant(_LABELS), _GROUPS)) == left


def test_batch_without_old_images_has_no_ranking_and_finite_gradients():
    teacher = _outputs(1)
    variables = [tf.Variable(tensor) for tensor in _outputs(0)[:3]]
    labels = tf.constant([3, 4, 3, 4, 3, 4, 3, 4])
    with tf.GradientTape() as tape:
        terms = LUCIR().losses(Outputs(*[tf.convert_to_tensor(v) for v in variables]), teacher, labels, _GROUPS)
        total = tf.add_n(list(terms.values()))
    assert float(terms["margin_ranking"]) == 0.0
    features, scores, logits = tape.gradient(total, variables)
    np.testing.assert_array_equal(scores, np.zeros(scores.shape))
    assert np.isfinite(features).all()
    assert np.isfinite(logits).all()


def test_ranking_leaves_images_of_new_classes_alone():
    scores = tf.Variable(_outputs(0).scores)
    with tf.GradientTape() as tape:
        outputs = Outputs(_outputs(0).features, tf.convert_to_tensor(scores), _outputs(0).logits)
        ranking = LUCIR(margin=3.0).losses(outputs, _outputs(1), tf.constant(_LABELS), _GROUPS)["margin_ranking"]
    gradient = tape.gradient(ranking, scores).numpy()
    np.testing.assert_array_equal(gradient[_LABELS >= _NUM_OLD], 0.0)
    # With a margin beyond every difference of cosines, each of 4 rehearsed images is pushed by 1/4, and each of its
    # 2 rivals back by half of that.
    rehearsed = gradient[_LABELS < _NUM_OLD]
    np.testing.assert_allclose(rehearsed[np.arange(4), _LABELS[_LABELS < _NUM_OLD]], -1 / 4, rtol=1e-10)
    np.testing.assert_allclose(rehearsed[:, _NUM_OLD:], 1 / 8, rtol=1e-10)


def test_network_that_has_not_moved_forgets_nothing():
    outputs = _outputs(0)
    terms = LUCIR().losses(outputs, outputs, tf.constant(_LABELS), _GROUPS)
    np.testing.assert_allclose(terms["less_forget"], 0.0, atol=1e-12)


def test_teacher_may_have_fewer_classes():
    teacher = _outputs(1)
    teacher = Outputs(teacher.features, teacher.scores[:, :_NUM_OLD], teacher.logits[:, :_NUM_OLD])
    terms = LUCIR().losses(_outputs(0), teacher, tf.constant(_LABELS), _GROUPS)
    full = LUCIR().losses(_outputs(0), _outputs(1), tf.constant(_LABELS), _GROUPS)
    for name in full:
        np.testing.assert_array_equal(terms[name], full[name])


def test_order_of_images_does_not_matter():
    outputs, teacher = _outputs(0), _outputs(1)
    order = np.random.default_rng(0).permutation(8)
    shuffled, shuffled_teacher = (Outputs(*[tf.gather(t, order) for t in value[:3]]) for value in (outputs, teacher))
    expected = LUCIR().losses(outputs, teacher, tf.constant(_LABELS), _GROUPS)
    terms = LUCIR().losses(shuffled, shuffled_teacher, tf.constant(_LABELS[order]), _GROUPS)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-10)


def test_without_distillation_the_ranking_stays():
    outputs = _outputs(0)
    terms = LUCIR().losses(outputs, None, tf.constant(_LABELS), _GROUPS)
    assert set(terms) == {"cross_entropy", "margin_ranking"}
    np.testing.assert_allclose(terms["cross_entropy"], _cross_entropy(outputs, _LABELS), rtol=1e-10)
    np.testing.assert_allclose(terms["margin_ranking"], _margin_ranking(outputs, _LABELS, 0.5, 2), rtol=1e-10)


def test_old_head_is_fixed_and_new_weights_are_imprinted():
    assert not LUCIR.trains_old_head
    assert LUCIR().imprints
    assert not LUCIR(imprint_weights=False).imprints


@pytest.mark.parametrize(
    "settings",
    [
        {"less_forget_weight": -1.0},
        {"margin": -0.5},
        {"margin_weight": -1},
        {"num_negatives": 0},
        {"num_negatives": 1.5},
        {"imprint_weights": "no"},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"lucir\.{name} = "):
        LUCIR(**settings)
