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


def test_distillation_is_cross_entropy_with_the_teachers_softened_probabilities():
    generator = np.random.default_rng(6)
    logits, teacher = generator.normal(0, 3, (2, 6, 4))
    targets = np.exp(_log_softmax(teacher / 2.5))
    expected = -(targets * _log_softmax(logits / 2.5)).sum(axis=1)
    distillation = losses.distillation(tf.constant(logits), tf.constant(teacher), 2.5)
    np.testing.assert_allclose(distillation, expected, rtol=1e-12)


def test_distillation_by_hand():
    # tau = 2: logits 2 log 3 and 0 become log 3 and 0, probabilities 3/4 and 1/4. The teacher's are 1/2 and 1/2:
    # -(log 3/4 + log 1/4) / 2 = log(16/3) / 2.
    loss = losses.distillation(tf.constant([[2 * np.log(3), 0.0]]), tf.constant([[5.0, 5.0]], tf.float64), 2.0)
    np.testing.assert_allclose(loss, [np.log(16 / 3) / 2], rtol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_distillation_is_lowest_at_the_teachers_probabilities_where_it_is_their_entropy(temperature):
    generator = np.random.default_rng(7)
    teacher = generator.normal(0, 3, (6, 4))
    softened = np.exp(_log_softmax(teacher / temperature))
    entropy = -(softened * np.log(softened)).sum(axis=1)
    logits = tf.constant(teacher + 10.0)  # the same probabilities
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.distillation(logits, tf.constant(teacher), temperature)
    np.testing.assert_allclose(loss, entropy, rtol=1e-10)
    np.testing.assert_allclose(tape.gradient(loss, logits), np.zeros((6, 4)), atol=1e-12)
    for _ in range(10):
        moved = losses.distillation(tf.constant(teacher + generator.normal(size=(6, 4))), teacher, temperature)
        assert (moved.numpy() > entropy).all()


def test_distillation_of_huge_logits_does_not_overflow():
    # The teacher is certain of class 0, which the network gives log probability -500 at tau = 2.
    loss = losses.distillation(tf.constant([[0.0, 1000.0]]), tf.constant([[1000.0, 0.0]]), 2.0)
    np.testing.assert_allclose(loss, [500.0], rtol=1e-6)


def test_binary_cross_entropy_is_added_up_over_the_classes():
    generator = np.random.default_rng(8)
    logits, targets = generator.normal(0, 3, (6, 4)), generator.uniform(0, 1, (6, 4))
    p = 1 / (1 + np.exp(-logits))
    expected = (-targets * np.log(p) - (1 - targets) * np.log(1 - p)).sum(axis=1)
    loss = losses.binary_cross_entropy(tf.constant(logits), tf.constant(targets))
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_binary_cross_entropy_by_hand():
    # Logits of 0 are a probability of 1/2: log 2 for each of 3 classes, whatever is asked for.
    loss = losses.binary_cross_entropy(tf.zeros([2, 3]), tf.constant([[1.0, 0.0, 0.3], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(loss, [3 * np.log(2)] * 2, rtol=1e-6)


def test_binary_cross_entropy_of_huge_logits_does_not_overflow():
    # Wrong by 1000 nats, and right.
    loss = losses.binary_cross_entropy(tf.constant([[1000.0, -1000.0]] * 2), tf.constant([[0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(loss, [1000.0, 0.0], atol=1e-4)


def _nca(scores: np.ndarray, labels: np.ndarray, eta: float, margin: float) -> np.ndarray:
    values = []
    for row, label in zip(scores, labels, strict=True):
        others = np.sum(np.exp(eta * np.delete(row, label)))
        values.append(max(0.0, -np.log(np.exp(eta * (row[label] - margin)) / others)))
    return np.array(values)


@pytest.mark.parametrize("eta", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("margin", [0.0, 0.6])
def test_nca_compares_with_the_other_classes_alone_and_is_cut_off_at_zero(eta, margin):
    generator = np.random.default_rng(9)
    scores, labels = generator.uniform(-1, 1, (40, 5)), generator.integers(0, 5, 40)
    expected = _nca(scores, labels, eta, margin)
    np.testing.assert_allclose(losses.nca(tf.constant(scores), tf.constant(labels), eta, margin), expected, rtol=1e-10)
    if eta == 20.0:
        assert 0 < np.count_nonzero(expected) < 40


def test_nca_by_hand():
    scores = tf.constant(
        [
            [0.5, 0.1, 0.1],  # log(2 e^{0.1 * 2}) - 2 (0.5 - 0.6) = log 2 + 0.2 + 0.2
            [1.0, -1.0, -1.0],  # log 2 - 2 - 2 (1 - 0.6) = log 2 - 2.8 < 0
        ]
    )
    loss = losses.nca(scores, tf.constant([0, 0]), 2.0, 0.6)
    np.testing.assert_allclose(loss, [np.log(2) + 0.4, 0.0], atol=1e-6)


def test_nca_has_a_gradient_for_eta_and_none_where_it_is_cut_off():
    # Image 0 as above, with s = (0.5, 0.1, 0.1): d/d eta = 0.1 - 0.5 = -0.4, for the margin's part, 0.6, is no way to a
    # smaller loss; by scores eta * (-1, 1/2, 1/2). Image 1 is beyond the margin. The mean halves both.
    scores, eta = tf.constant([[0.5, 0.1, 0.1], [1.0, -1.0, -1.0]]), tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch([scores, eta])
        loss = tf.reduce_mean(losses.nca(scores, tf.constant([0, 0]), eta, 0.6))
    by_scores, by_eta = tape.gradient(loss, [scores, eta])
    np.testing.assert_allclose(by_scores, [[-1.0, 0.5, 0.5], [0.0, 0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(by_eta, -0.2, atol=1e-6)


def test_nca_of_two_classes_and_of_huge_scales_does_not_overflow():
    # max(0, eta s_other - eta (s_true - 0.1)): 1000 * (0.5 - 0.2 + 0.1) = 400.
    loss = losses.nca(tf.constant([[0.2, 0.5], [0.5, 0.2]]), tf.constant([0, 0]), 1000.0, 0.1)
    np.testing.assert_allclose(loss, [400.0, 0.0], rtol=1e-5)


def _profiles(image: np.ndarray) -> np.ndarray:
    columns = [np.sum(image[:, w, c] ** 2) for w in range(image.shape[1]) for c in range(image.shape[2])]
    rows = [np.sum(image[h, :, c] ** 2) for h in range(image.shape[0]) for c in range(image.shape[2])]
    vector = np.array(columns + rows)
    return vector / np.sqrt(vector @ vector)


@pytest.mark.parametrize("shape", [(4, 3, 2), (1, 5, 3), (2, 2, 1)], ids=str)
def test_pooled_outputs_are_the_distance_of_both_profiles_of_squares(shape):
    student, teacher = np.random.default_rng(10).normal(size=(2, 6, *shape))
    expected = [np.linalg.norm(_profiles(a) - _profiles(b)) for a, b in zip(student, teacher, strict=True)]
    distances = losses.pooled_outputs(tf.constant(student), tf.constant(teacher))
    np.testing.assert_allclose(distances, expected, rtol=1e-10)


def test_pooled_outputs_by_hand():
    # A single bright pixel: profiles over height (1, 0) and over width (1, 0), together of length sqrt 2. The teacher's
    # is in the other row of the same column: (1, 0) and (0, 1). The difference is (0, 0, 1, -1) / sqrt 2, of length 1.
    student, teacher = np.zeros((2, 1, 2, 2, 1))
    student[0, 0, 0], teacher[0, 1, 0] = 3.0, -7.0
    np.testing.assert_allclose(losses.pooled_outputs(tf.constant(student), tf.constant(teacher)), [1.0], rtol=1e-12)
    # In the other row and column both profiles differ: the distance is sqrt 2.
    teacher = teacher[:, :, ::-1].copy()
    distances = losses.pooled_outputs(tf.constant(student), tf.constant(teacher))
    np.testing.assert_allclose(distances, [np.sqrt(2)], rtol=1e-12)


def test_pooled_outputs_do_not_see_where_rows_and_columns_cross():
    # Bright pixels on one diagonal or on the other: every row and every column has one of them.
    student = np.eye(3).reshape(1, 3, 3, 1)
    distances = losses.pooled_outputs(tf.constant(student), tf.constant(student[:, ::-1].copy()))
    assert float(distances[0]) <= 1.001e-6


def test_gradient_of_pooled_outputs_agrees_with_finite_differences():
    student, teacher, direction = np.random.default_rng(11).normal(size=(3, 2, 3, 2, 2))
    maps = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        loss = tf.reduce_sum(losses.pooled_outputs(maps, tf.constant(teacher)))
    plus, minus = (
        tf.reduce_sum(losses.pooled_outputs(tf.constant(student + sign * 1e-5 * direction), tf.constant(teacher)))
        for sign in (1, -1)
    )
    analytic = np.sum(tape.gradient(loss, maps) * direction)
    np.testing.assert_allclose((plus - minus) / 2e-5, analytic, rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["dark", "bright"])
def test_pooled_outputs_of_equal_maps_have_a_finite_gradient(value):
    maps = tf.fill([2, 3, 3, 2], value)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        loss = losses.pooled_outputs(maps, tf.identity(maps))
    assert (loss.numpy() <= 1.001e-6).all()
    np.testing.assert_array_equal(tape.gradient(loss, maps), np.zeros((2, 3, 3, 2)))
