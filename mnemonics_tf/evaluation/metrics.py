"""Figures of merit, in NumPy. Accuracies are percentages, 0..100; forgetting is a difference of two."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_CONFIDENCE = 0.95


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of equal entries of two `[n]` arrays, in percent."""
    return 100.0 * float(np.mean(predictions == labels))


def group_accuracy(predictions: np.ndarray, labels: np.ndarray, phase_sizes: Sequence[int]) -> list[float]:
    """Accuracy in percent on the classes of each phase, in the order of the phases.

    Args:
      predictions: predicted class indices, `[n]`.
      labels: true class indices, `[n]`, with at least one image of every phase.
      phase_sizes: number of new classes in each phase so far.
    """
    ends = np.cumsum(phase_sizes)
    groups = [(labels >= end - size) & (labels < end) for end, size in zip(ends, phase_sizes, strict=True)]
    return [accuracy(predictions[group], labels[group]) for group in groups]


def average_accuracy(accuracies: Sequence[float]) -> float:
    """Mean accuracy over the phases, the paper's A-bar = (A_0 + ... + A_N) / (N + 1), in percent.

    Args:
      accuracies: A_i, the accuracy in percent after each phase on the test images of all classes seen by then.
    """
    return float(np.mean(accuracies))


def forgetting(initial_classes_accuracies: Sequence[float]) -> float:
    """The paper's F: how much accuracy on the classes of phase 0 is lost by the last phase, in percentage points.

    F = (accuracy by Θ_0) - (accuracy by Θ_N): positive if something was forgotten, and lower is better. Table 1 prints
    the difference the other way round, though its figures have this sign.

    Args:
      initial_classes_accuracies: accuracy in percent on the test images of phase 0's classes, after each phase.
    """
    return float(initial_classes_accuracies[0] - initial_classes_accuracies[-1])


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How many images of each class are taken for each: `[num_classes, num_classes]` int64, rows by true class.

    Args:
      predictions: predicted class indices, `[n]`.
      labels: true class indices, `[n]`.
      num_classes: number of classes; all indices are below it.
    """
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def confidence_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean of `values`, by Student's t.

    It is t * s / sqrt(k) for k values with the standard deviation s (ddof = 1). One value has none: give at least two.
    """
    from scipy import special  # takes half a second to import, which a sweep that reads results need not wait for

    count = len(values)
    return float(special.stdtrit(count - 1, (1 + _CONFIDENCE) / 2) * np.std(values, ddof=1) / math.sqrt(count))
