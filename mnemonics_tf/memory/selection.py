"""Which images of a class become its (initial) exemplars."""

from __future__ import annotations

import numpy as np

from mnemonics_tf.models.classifier import directions


def select_random(count: int, num_exemplars: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of a random subset, `[num_exemplars]`.

    Args:
      count: images to choose from.
      num_exemplars: how many to choose, at most `count`.
      generator: source of randomness.
    """
    return generator.permutation(count)[:num_exemplars]


def select_herding(features: np.ndarray, num_exemplars: int) -> np.ndarray:
    """Positions chosen by herding (iCaRL), most important first, `[num_exemplars]`.

    Features are normalised to length 1 and mu is their mean. Each step takes the image, not taken before, that brings
    the mean of the chosen nearest to mu.

    Args:
      features: embeddings of all images of one class, `[n, d]`.
      num_exemplars: how many to choose, at most n.
    """
    units = directions(features)
    mean = units.mean(axis=0)
    total = np.zeros_like(mean)
    available = np.ones(len(features), bool)
    chosen = np.empty(num_exemplars, np.int64)
    for step in range(num_exemplars):
        distances = np.linalg.norm(mean - (total + units) / (step + 1), axis=1)
        chosen[step] = np.argmin(np.where(available, distances, np.inf))
        total += units[chosen[step]]
        available[chosen[step]] = False
    return chosen
