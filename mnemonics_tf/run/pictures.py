"""Pictures for TensorBoard, as uint8 arrays."""

from __future__ import annotations

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pixels import to_uint8
from mnemonics_tf.data.types import LabelledImages

_MAX_CLASSES = 20
_MAX_PER_CLASS = 10


def exemplar_grid(exemplars: LabelledImages) -> np.ndarray:
    """A row for each class (20 at most), its exemplars side by side (10 at most).

    Returns:
      `[rows * (H + 1), columns * (W + 1), C]` uint8.
    """
    rows = []
    for label in np.unique(exemplars.labels)[:_MAX_CLASSES]:
        shown = np.flatnonzero(exemplars.labels == label)[:_MAX_PER_CLASS]
        members = to_uint8(in_memory(exemplars.take(shown)).array)
        framed = np.pad(members, [(0, _MAX_PER_CLASS - len(members)), (0, 1), (0, 1), (0, 0)])
        rows.append(np.concatenate(list(framed), axis=1))
    return np.concatenate(rows)


def confusion_image(matrix: np.ndarray) -> np.ndarray:
    """A confusion matrix as a picture: each row is a true class, dark where its test images were put.

    Args:
      matrix: `[true, predicted]` counts.

    Returns:
      `[side, side, 1]` uint8, a side of about 400 pixels.
    """
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # The square root keeps rare confusions visible beside a strong diagonal.
    grey = np.rint(255 * (1 - np.sqrt(share))).astype(np.uint8)
    cell = max(1, 400 // len(matrix))
    return np.kron(grey, np.ones((cell, cell), np.uint8))[..., None]
