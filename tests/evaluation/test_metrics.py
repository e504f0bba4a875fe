"""Figures of merit, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnemonics_tf.evaluation import metrics


def test_accuracy_is_a_percentage():
    # Three of four.
    assert metrics.accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1])) == 75.0
    assert metrics.accuracy(np.array([1]), np.array([0])) == 0.0
    assert metrics.accuracy(np.array([1]), np.array([1])) == 100.0


def test_group_accuracy_is_that_of_each_phases_classes():
    # Phase sizes 2, 1 and 2: classes 0-1, 2 and 3-4. Predictions may be of any class.
    labels = np.array([0, 1, 1, 0, 2, 2, 3, 4, 4])
    predictions = np.array([0, 1, 0, 4, 2, 2, 0, 4, 3])
    # 2 of 4, 2 of 2, 1 of 3.
    assert metrics.group_accuracy(predictions, labels, [2, 1, 2]) == pytest.approx([50.0, 100.0, 100 / 3])


def test_group_accuracy_does_not_depend_on_the_order_of_images():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 10)
    predictions = np.where(generator.random(60) < 0.7, labels, generator.integers(0, 6, 60))
    order = generator.permutation(60)
    first = metrics.group_accuracy(predictions, labels, [3, 3])
    assert metrics.group_accuracy(predictions[order], labels[order], [3, 3]) == first
    # Groups of equal size: their mean is the accuracy on everything.
    assert np.mean(first) == pytest.approx(metrics.accuracy(predictions, labels))


def test_average_accuracy_is_the_mean_over_phases_with_the_initial_one():
    assert metrics.average_accuracy([80.0, 70.0, 60.0, 50.0]) == 65.0


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([80.0, 75.0, 62.5], 17.5),  # what happened in between does not count
        ([80.0, 90.0], -10.0),  # something was gained
        ([80.0], 0.0),
    ],
)
def test_forgetting_is_what_the_initial_classes_lost(accuracies, expected):
    assert metrics.forgetting(accuracies) == expected


def test_confusion_matrix_counts_predictions_by_true_class():
    labels = np.array([0, 0, 0, 1, 2])
    predictions = np.array([0, 2, 2, 1, 1])
    matrix = metrics.confusion_matrix(predictions, labels, 4)
    # Row: true class. Class 0 was taken for class 2 twice. Class 3 has no images, and is still there.
    np.testing.assert_array_equal(matrix, [[1, 0, 2, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_confusion_matrix_holds_accuracy_and_class_sizes():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 5, 200), generator.integers(0, 5, 200)
    matrix = metrics.confusion_matrix(predictions, labels, 5)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=5))
    np.testing.assert_array_equal(matrix.sum(axis=0), np.bincount(predictions, minlength=5))
    assert 100 * np.trace(matrix) / 200 == pytest.approx(metrics.accuracy(predictions, labels))


def test_interval_is_that_of_students_t():
    # Mean 4, deviation 2 with n - 1, n = 3; the t table has 4.303 for two degrees of freedom and 97.5 %.
    assert metrics.confidence_interval([2.0, 4.0, 6.0]) == pytest.approx(4.303 * 2 / math.sqrt(3), rel=1e-3)
