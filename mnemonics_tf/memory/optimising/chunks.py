"""Chunks of classes whose exemplars are optimised together."""

from __future__ import annotations

import numpy as np


def class_chunks(labels: np.ndarray, classes_per_chunk: int | None) -> list[np.ndarray]:
    """The classes of `labels`, in ascending order, in chunks of (nearly) equal size, at most `classes_per_chunk`."""
    classes = np.unique(labels)
    return np.array_split(classes, num_chunks(len(classes), classes_per_chunk))


def num_chunks(num_classes: int, classes_per_chunk: int | None) -> int:
    """How many chunks `class_chunks` makes of so many classes."""
    return 1 if classes_per_chunk is None else -(-num_classes // classes_per_chunk)


def smallest_chunk(num_classes: int, classes_per_chunk: int | None) -> int:
    """Number of classes in the smallest chunk that `class_chunks` makes of so many."""
    return num_classes // num_chunks(num_classes, classes_per_chunk)
