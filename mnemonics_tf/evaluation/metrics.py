"""Figures of merit, in NumPy. Accuracies and forgetting are percentages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_CONFIDENCE = 0.95


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of equal entries of two `[n]` arrays, in percent."""
    return 100.0 * float(np.mean(predictions == labels))


def group_accuracy(predictions: np.ndarray, labels: np.ndarray, phase_sizes: Sequence[int]) -> list[float]:
    """Accuracy on the classes of each phase, in the order of the phases.

    Args:
      predictions: class indices, `[n]`.
      labels: class indices, `[n]`.
      phase_sizes: number of classes in each phase so far.
    """
    ends = np.cumsum(phase_sizes)
    groups = [(labels >= end - size) & (labels < end) for end, size in zip(ends, phase_sizes, strict=True)]
    return [accuracy(predictions[group], labels[group]) for group in groups]


def average_accuracy(accuracies: Sequence[float]) -> float:
    """Mean over the phases of the accuracy on all classes seen by then (the paper's A-bar)."""
    return float(np.mean(accuracies))


def forgetting(initial_classes_accuracies: Sequence[float]) -> float:
    """Accuracy on the classes of phase 0 right after phase 0, minus the same after the last phase (the paper's F).

    Positive if something was forgotten; lower is better.
    """
    return float(initial_classes_accuracies[0] - initial_classes_accuracies[-1])


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """`[true class, predicted class]` counts, `[num_classes, num_classes]` int64."""
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def confidence_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean (Student's t); at least two values."""
    from scipy import special  # takes half a second to import, which a sweep that reads results need not wait for

    count = len(values)
    return float(special.stdtrit(count - 1, (1 + _CONFIDENCE) / 2) * np.std(values, ddof=1) / math.sqrt(count))
