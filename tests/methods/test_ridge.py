"""Ridge regression from sums, against dense linear algebra on all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.methods import ridge

_UNITS, _CLASSES = 7, 3


def _rows(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(_CLASSES), generator.integers(0, _CLASSES, count - _CLASSES)])
    means = np.eye(_CLASSES, _UNITS)[labels]
    return (means + generator.normal(size=(count, _UNITS))).astype(np.float32), labels


def _solved(units: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    units = units.astype(np.float64)
    return np.linalg.solve(units.T @ units + penalty * np.eye(_UNITS), units.T @ np.eye(_CLASSES)[labels])


def test_weights_of_rows_in_parts_are_those_of_all_rows_together():
    (first, first_labels), (second, second_labels) = _rows(0, 20), _rows(1, 9)
    sums = ridge.Sums(_UNITS, _CLASSES)
    sums.add(first, first_labels)
    sums.add(second, second_labels)
    expected = _solved(np.concatenate([first, second]), np.concatenate([first_labels, second_labels]), 0.5)
    np.testing.assert_allclose(sums.weights(0.5), expected, rtol=1e-10)
    # Solving changes nothing of what is kept.
    np.testing.assert_allclose(sums.weights(0.5), expected, rtol=1e-10)


def test_triangle_is_half_of_the_matrix_and_gives_all_of_it_back():
    sums = ridge.Sums(_UNITS, _CLASSES)
    sums.add(*_rows(2, 12))
    triangle = sums.triangle()
    assert triangle.shape == (_UNITS * (_UNITS + 1) // 2,)
    again = ridge.Sums.unpacked(triangle, sums.of_classes)
    np.testing.assert_array_equal(np.tril(again.gram), np.tril(sums.gram))
    again.add(*_rows(3, 4))
    assert not np.array_equal(again.of_classes, sums.of_classes)  # a copy


def test_matrix_that_rounding_makes_indefinite_is_solved_with_a_larger_penalty():
    sums = ridge.Sums(_UNITS, _CLASSES)
    sums.gram[np.diag_indices(_UNITS)] = -1e-3  # as subtraction may leave it
    sums.of_classes += 1.0
    # -0.001 + 0.0005 and -0.001 + 0.005: the second is positive.
    np.testing.assert_allclose(sums.weights(0.0005), np.full((_UNITS, _CLASSES), 1 / 0.004))


def test_penalty_is_that_with_the_least_squared_error_on_held_out_rows():
    sums = ridge.Sums(_UNITS, _CLASSES)
    seen, seen_labels = _rows(4, 15)
    sums.add(seen, seen_labels)
    units, labels = _rows(5, 60)
    candidates = (1e-3, 1.0, 10.0, 1e5)
    errors = [np.sum((units @ _solved(seen, seen_labels, each) - np.eye(_CLASSES)[labels]) ** 2) for each in candidates]
    expected = candidates[int(np.argmin(errors))]
    assert expected not in (candidates[0], candidates[-1])
    penalty, gain = ridge.best_penalty(sums, units, labels, candidates)
    assert penalty == expected
    outputs = units.astype(np.float64) @ _solved(seen, seen_labels, expected)
    assert gain == pytest.approx(ridge.calibrated_gain(outputs, labels), rel=1e-6)


def test_gain_has_the_least_cross_entropy():
    generator = np.random.default_rng(6)
    labels = generator.integers(0, _CLASSES, 400)
    outputs = 0.1 * np.eye(_CLASSES)[labels] + 0.1 * generator.normal(size=(400, _CLASSES))

    def cross_entropy(gain: float) -> float:
        shares = np.exp(gain * outputs)
        logs = np.log(shares / shares.sum(axis=1, keepdims=True))
        of_label = logs[np.arange(400), labels]
        # Each row says its class in 401 cases of 402, as in Platt's scaling.
        return -(401 / 402 * of_label + (logs.sum(axis=1) - of_label) / (_CLASSES - 1) / 402).mean()

    gain = ridge.calibrated_gain(outputs, labels)
    grid = np.exp(np.linspace(0, np.log(1000), 2001))
    assert cross_entropy(gain) <= min(map(cross_entropy, grid)) + 1e-6
    # Noise of deviation s on a distance m: the posterior's gain is m / s^2 = 10.
    assert gain == pytest.approx(10, rel=0.2)


def test_rows_that_are_all_right_make_no_answer_certain():
    few, many = (
        ridge.calibrated_gain(0.5 * np.eye(_CLASSES)[labels], labels)
        for labels in (np.arange(15) % _CLASSES, np.arange(1500) % _CLASSES)
    )
    # The gain by which a class has (n + 1) / (n + 2): its logit is 0.5 gain above those of the others.
    for gain, count in ((few, 15), (many, 1500)):
        assert gain == pytest.approx(2 * np.log((_CLASSES - 1) * (count + 1)), rel=1e-3)
    assert ridge.calibrated_gain(np.ones((7, 1)), np.zeros(7, np.int64)) == 1.0
