"""Chunks of classes whose exemplars are optimised together."""

from __future__ import annotations

import numpy as np


def class_chunks(labels: np.ndarray, classes_per_chunk: int | None) -> list[np.ndarray]:
    """The classes of `labels`, in ascending order, in chunks of (nearly) equal size, at most `classes_per_chunk`."""
    classes = np.unique(labels)
    if classes_per_chunk is None:
        return [classes]
    return np.array_split(classes, -(-len(classes) // classes_per_chunk))


def smallest_chunk(num_classes: int, classes_per_chunk: int | None) -> int:
    """Number of classes in the smallest chunk that `class_chunks` makes of so many."""
    if classes_per_chunk is None:
        return num_classes
    return num_classes // -(-num_classes // classes_per_chunk)
