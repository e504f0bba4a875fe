"""Loss terms against NumPy and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses


def test_cross_entropy_is_log_sum_exp_minus_the_true_logit():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(0, 3, (6, 4)), np.array([0, 1, 2, 3, 0, 2])
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), labels]
    np.testing.assert_allclose(losses.cross_entropy(tf.constant(logits), tf.constant(labels)), expected, rtol=1e-12)


def test_cross_entropy_of_equal_logits_is_the_log_of_their_number():
    # Each of 5 classes has probability 1/5: -log(1/5) = log 5.
    loss = losses.cross_entropy(tf.zeros([2, 5]), tf.constant([0, 4]))
    np.testing.assert_allclose(loss, [np.log(5)] * 2, rtol=1e-6)


def test_cross_entropy_of_huge_logits_does_not_overflow():
    # log(e^1000 + e^0) - 0 = 1000 to float32, and log(e^1000 + e^0) - 1000 = 0.
    loss = losses.cross_entropy(tf.constant([[1000.0, 0.0]] * 2), tf.constant([1, 0]))
    np.testing.assert_allclose(loss, [1000.0, 0.0], atol=1e-4)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_cross_entropy_with_soft_labels_weighs_the_log_probabilities():
    generator = np.random.default_rng(3)
    # Labels that are learned need not add up to 1.
    logits, labels = generator.normal(0, 3, (6, 4)), generator.uniform(-0.2, 1, (6, 4))
    expected = -(labels * _log_softmax(logits)).sum(axis=1)
    np.testing.assert_allclose(losses.cross_entropy(tf.constant(logits), tf.constant(labels)), expected, rtol=1e-12)


def test_soft_labels_of_one_class_are_that_class():
    logits, labels = tf.constant(np.random.default_rng(4).normal(0, 3, (5, 4))), tf.constant([0, 3, 1, 1, 2])
    soft = losses.cross_entropy(logits, tf.one_hot(labels, 4, dtype=tf.float64))
    np.testing.assert_allclose(soft, losses.cross_entropy(logits, labels), rtol=1e-12)


def test_cross_entropy_with_soft_labels_of_huge_logits_does_not_overflow():
    # Log probabilities 0 and -1000 (to float32): 0.25 * 1000.
    loss = losses.cross_entropy(tf.constant([[1000.0, 0.0]]), tf.constant([[0.75, 0.25]]))
    np.testing.assert_allclose(loss, [250.0], rtol=1e-6)


def test_soft_labels_keep_their_gradient_in_second_derivatives():
    # The gradient with respect to the logits is sum(y) softmax - y; along v, sum(y) <softmax, v> - <y, v>, whose
    # derivative with respect to y_k is <softmax, v> - v_k.
    generator = np.random.default_rng(5)
    logits, labels, vector = (tf.constant(generator.normal(size=(1, 4))) for _ in range(3))
    with tf.GradientTape() as outer:
        outer.watch(labels)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            loss = losses.cross_entropy(logits, labels)
        product = tf.reduce_sum(inner.gradient(loss, logits) * vector)
    expected = np.sum(np.exp(_log_softmax(logits.numpy())) * vector) - vector.numpy()
    np.testing.assert_allclose(outer.gradient(product, labels), expected, rtol=1e-10)


def test_less_forget_is_one_minus_the_cosine():
    generator = np.random.default_rng(1)
    student, teacher = generator.normal(size=(5, 3)), generator.normal(size=(5, 3))
    expected = [1 - np.dot(f, t) / np.sqrt(np.dot(f, f) * np.dot(t, t)) for f, t in zip(student, teacher, strict=True)]
    np.testing.assert_allclose(losses.less_forget(tf.constant(student), tf.constant(teacher)), expected, rtol=1e-10)


def test_less_forget_of_parallel_orthogonal_and_opposite_features():
    teacher = tf.constant([[3.0, 4.0]] * 3)
    student = tf.constant([[6.0, 8.0], [-4.0, 3.0], [-0.3, -0.4]])
    np.testing.assert_allclose(losses.less_forget(student, teacher), [0.0, 1.0, 2.0], atol=1e-6)


def test_less_forget_turns_features_and_does_not_stretch_them():
    # For f = (r, 0) and f* = (0, 1): cos = f_2 / |f|, so d(1 - cos)/df = (0, -1/r).
    features = tf.constant([[2.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = losses.less_forget(features, tf.constant([[0.0, 1.0]]))
    np.testing.assert_allclose(tape.gradient(loss, features), [[0.0, -0.5]], atol=1e-6)


def test_margin_ranking_by_hand():
    # Old classes 0 and 1, new classes 2 to 4, margin 0.5, the two highest new scores.
    scores = tf.constant(
        [
            [0.9, 0.1, 0.2, 0.6, 0.5],  # true 0.9 against 0.6 and 0.5: (0.2 + 0.1) / 2 = 0.15
            [0.9, 0.1, 0.2, 0.6, 0.5],  # true 0.1: (1.0 + 0.9) / 2 = 0.95
            [0.9, 0.0, 0.3, 0.2, -0.7],  # beats 0.3 by 0.6 and 0.2 by 0.7: 0
            [0.9, 0.0, 0.7, 0.2, -0.7],  # beats 0.7 by 0.2 alone: (0.3 + 0) / 2 = 0.15
        ]
    )
    ranking = losses.margin_ranking(scores, tf.constant([0, 1, 0, 0]), num_old_classes=2, margin=0.5, num_negatives=2)
    np.testing.assert_allclose(ranking, [0.15, 0.95, 0.0, 0.15], atol=1e-6)


@pytest.mark.parametrize("num_negatives", [1, 2, 3, 7])
def test_margin_ranking_takes_the_highest_new_scores_or_all_there_are(num_negatives):
    generator = np.random.default_rng(2)
    scores, labels = generator.uniform(-1, 1, (20, 6)), generator.integers(0, 3, 20)
    expected = []
    for row, label in zip(scores, labels, strict=True):
        rivals = sorted(row[3:], reverse=True)[:num_negatives]  # 3 new classes
        expected.append(sum(max(0.0, 0.4 - row[label] + rival) for rival in rivals) / len(rivals))
    ranking = losses.margin_ranking(tf.constant(scores), tf.constant(labels), 3, 0.4, num_negatives)
    np.testing.assert_allclose(ranking, expected, rtol=1e-12)


def test_margin_ranking_ignores_rivals_among_the_old_classes():
    # Old class 1 scores higher than the true class 0, but only the new class 2 (0.0) is a rival: 0.5 - 0.4 + 0 = 0.1.
    ranking = losses.margin_ranking(tf.constant([[0.4, 1.0, 0.0]]), tf.constant([0]), 2, 0.5, 2)
    np.testing.assert_allclose(ranking, [0.1], atol=1e-6)


def test_margin_ranking_pushes_true_and_rival_scores_apart():
    # One rival counts half of the mean of two; the one that is beaten by the margin has no gradient.
    scores = tf.constant([[0.5, 0.3, -0.9]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        ranking = losses.margin_ranking(scores, tf.constant([0]), 1, 0.5, 2)
    np.testing.assert_allclose(tape.gradient(ranking, scores), [[-0.5, 0.5, 0.0]], atol=1e-6)
