"""Which images of a class become its (initial) exemplars, and which of them stay real images."""

from __future__ import annotations

import numpy as np
from scipy import special

from mnemonics_tf.models.classifier import directions


def select_random(count: int, num_exemplars: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of a random subset, `[num_exemplars]`.

    Args:
      count: images to choose from.
      num_exemplars: how many to choose, at most `count`.
      generator: source of randomness.
    """
    return generator.permutation(count)[:num_exemplars]


def margins_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How far the decision is from the boundary, `[n]`: |p of the class - the largest p of another class|, in 0..1.

    Args:
      logits: `[n, K + M]`; of a single class, all margins are 1.
      labels: class index of each image, `[n]`.
    """
    probabilities = special.softmax(logits.astype(np.float64), axis=1)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    probabilities[rows, labels] = 0
    return np.abs(own - probabilities.max(axis=1))


def select_boundary(margins: np.ndarray, num_exemplars: int) -> np.ndarray:
    """Positions of the images nearest to the boundary, the nearest first, `[num_exemplars]`.

    Args:
      margins: of all images of one class, `[n]`; of equal ones the first comes first.
      num_exemplars: how many to choose, at most n.
    """
    return np.argsort(margins, kind="stable")[:num_exemplars]


def select_mixed(features: np.ndarray, margins: np.ndarray, num_exemplars: int) -> np.ndarray:
    """Positions chosen by herding and by the boundary in turn, herding's first, each once, `[num_exemplars]`.

    Args:
      features: embeddings of all images of one class, `[n, d]`.
      margins: of the same images, `[n]`.
      num_exemplars: how many to choose, at most n.
    """
    ways = [iter(select_herding(features, num_exemplars)), iter(select_boundary(margins, num_exemplars))]
    chosen: dict[int, None] = {}
    while len(chosen) < num_exemplars:
        way = ways[len(chosen) % 2]
        chosen[next(int(position) for position in way if int(position) not in chosen)] = None
    return np.array(list(chosen), np.int64)


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


def real_slots(labels: np.ndarray, share: float) -> np.ndarray:
    """Which exemplars stay real images, `[n]` bool: of the first k of a class share * k, rounded up, for every k.

    Args:
      labels: class index of each exemplar, `[n]`; those of a class stand in the order of their importance.
      share: from 0 up to, but not including, 1.
    """
    places = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        places[members] = np.arange(len(members))
    # Sums of binary fractions may end a little above a whole number.
    first, second = (np.ceil(share * count - 1e-9) for count in (places, places + 1))
    return second > first
