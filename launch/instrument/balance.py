"""Accuracy when old and new classes are balanced as well as they can be.

A memory that makes a network favour new classes is not a worse memory: one constant on the logits mends it. So memories
are compared at the best constant of each.
"""

from __future__ import annotations

import numpy as np


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray, num_old: int) -> float:
    """Percent of right answers when the best constant is added to the logits of old classes.

    The constant is found on every other image and applied to those between them, and the other way round, so that no
    image helps to choose what it is judged by.

    Args:
      logits: `[n, K + M]`, n at least 2.
      labels: class indices, `[n]`.
      num_old: K, at least 1 and below K + M; class indices below it are old.
    """
    old, new = logits[:, :num_old].argmax(axis=1), num_old + logits[:, num_old:].argmax(axis=1)
    margins = logits[:, num_old:].max(axis=1).astype(np.float64) - logits[:, :num_old].max(axis=1)
    right_if_old, right_if_new = old == labels, new == labels
    right = np.zeros(len(labels), bool)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - half.start, None, 2)
        constant = _best_constant(margins[other], right_if_old[other], right_if_new[other])
        right[half] = np.where(margins[half] < constant, right_if_old[half], right_if_new[half])
    return 100.0 * float(right.mean())


def _best_constant(margins: np.ndarray, right_if_old: np.ndarray, right_if_new: np.ndarray) -> float:
    """What is to be added to old logits so that most images are right; an old class wins where margins are below it."""
    order = np.argsort(margins, kind="stable")
    gains = right_if_old[order].astype(int) - right_if_new[order]
    count = int(np.argmax(np.concatenate([[0], np.cumsum(gains)])))  # images that an old class wins
    ends = np.concatenate([[margins[order[0]] - 1.0], margins[order], [margins[order[-1]] + 1.0]])
    return float((ends[count] + ends[count + 1]) / 2)
