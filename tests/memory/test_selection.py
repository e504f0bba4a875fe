"""Choosing exemplars among real images."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.memory.selection import (
    margins_of,
    select_boundary,
    select_herding,
    select_mixed,
    select_random,
)


def _features(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Features of very different lengths around a common direction, as those of one class are."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(count, width)) + 1.0) * generator.uniform(0.1, 20, (count, 1))


def _herding_by_brute_force(features: np.ndarray, num_exemplars: int) -> list[int]:
    """Tries every image left at every step, and measures the mean of the whole choice anew."""
    directions = [feature / np.sqrt(np.sum(feature**2)) for feature in features]
    target = sum(directions) / len(directions)
    chosen: list[int] = []
    for _ in range(num_exemplars):
        distances = {}
        for candidate in range(len(features)):
            if candidate not in chosen:
                members = [directions[index] for index in [*chosen, candidate]]
                distances[candidate] = np.sum((target - sum(members) / len(members)) ** 2)
        chosen.append(min(distances, key=distances.get))
    return chosen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "num_exemplars", "width"), [(12, 5, 3), (30, 20, 8), (6, 6, 2)])
def test_herding_is_the_greedy_choice(count, num_exemplars, width, seed):
    features = _features(count, width, seed)
    assert select_herding(features, num_exemplars).tolist() == _herding_by_brute_force(features, num_exemplars)


def test_herding_by_hand():
    # Directions at 0, 90, 45 and 44 degrees; their mean is (0.607, 0.600), of length 0.85. Nearest is the image at 45
    # degrees, 0.1466 off (that at 44 is 0.1469 off). After that the mean of 45 and 0 degrees is (0.854, 0.354), 0.35
    # off, likewise that of 45 and 90; that of 45 and 44 is (0.713, 0.701), 0.15 off.
    angles = np.radians([0, 90, 45, 44])
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert select_herding(directions * [[9], [0.2], [1], [4]], 2).tolist() == [2, 3]


def test_herding_ignores_the_length_of_features():
    features = _features(20, 4)
    rescaled = features * np.random.default_rng(1).uniform(0.01, 100, (20, 1))
    np.testing.assert_array_equal(select_herding(features, 10), select_herding(rescaled, 10))


def test_herding_takes_an_image_once_even_if_images_are_equal():
    features = np.repeat(_features(2, 3), 4, axis=0)
    assert sorted(select_herding(features, 8)) == list(range(8))


def test_shorter_herding_is_the_beginning_of_a_longer_one():
    features = _features(25, 6)
    np.testing.assert_array_equal(select_herding(features, 7), select_herding(features, 20)[:7])


def test_herding_follows_the_images_when_they_are_reordered():
    features = _features(25, 6)
    order = np.random.default_rng(2).permutation(25)
    np.testing.assert_array_equal(order[select_herding(features[order], 10)], select_herding(features, 10))


def test_herding_leaves_the_features_as_they_were():
    features = _features(8, 3)
    before = features.copy()
    select_herding(features, 4)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("num_exemplars", [1, 7, 20])
def test_random_choice_is_a_subset_without_repetition(num_exemplars):
    chosen = select_random(20, num_exemplars, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == len(chosen) == num_exemplars
    assert set(chosen.tolist()) <= set(range(20))


def test_random_choice_follows_its_generator():
    first, again, other = (select_random(50, 10, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_every_image_is_as_likely_to_be_chosen():
    generator = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([select_random(10, 3, generator) for _ in range(2000)]), minlength=10)
    # Binomial, 2000 draws with probability 0.3: mean 600, deviation 20.5; 6 deviations are 123.
    assert np.abs(counts - 600).max() < 123


def test_margin_is_the_distance_to_the_best_other_class_whoever_wins():
    logits = np.log([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.4, 0.4, 0.2]])
    # |0.7 - 0.2|, |0.2 - 0.7|, and a draw.
    np.testing.assert_allclose(margins_of(logits, np.array([0, 1, 1])), [0.5, 0.5, 0.0], atol=1e-12)
    np.testing.assert_array_equal(margins_of(np.array([[3.0], [-1.0]]), np.array([0, 0])), [1, 1])


def test_boundary_takes_the_least_sure_first():
    assert select_boundary(np.array([0.5, 0.1, 0.9, 0.1, 0.3]), 4).tolist() == [1, 3, 4, 0]


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_mixed_takes_turns_and_takes_no_image_twice(count):
    features, margins = _features(12, 3), np.random.default_rng(1).permutation(12) / 12
    herded, near = select_herding(features, 12).tolist(), np.argsort(margins).tolist()
    expected: list[int] = []
    while len(expected) < count:
        way = herded if len(expected) % 2 == 0 else near
        expected.append(next(position for position in way if position not in expected))
    assert select_mixed(features, margins, count).tolist() == expected
    # More go on from fewer: a budget that shrinks takes the last.
    assert select_mixed(features, margins, 12).tolist()[:count] == expected
