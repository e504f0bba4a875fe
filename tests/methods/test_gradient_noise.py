"""Noise on gradients: its variance, its seeds, its share on each replica."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import runtime
from mnemonics_tf.methods.gradient_noise import GradientNoise

_ZEROS = [tf.zeros([100, 200]), tf.zeros([3])]


def _noise(step: int = 0, seed: int = 0, scale: float = 0.3, decay: float = 0.55) -> list[np.ndarray]:
    noisy = GradientNoise(scale, decay).add(_ZEROS, tf.constant(step, tf.int64), seed)
    return [each.numpy() for each in noisy]


@pytest.mark.parametrize(("step", "scale", "decay"), [(0, 0.3, 0.55), (9, 0.3, 0.55), (999, 0.3, 0.55), (3, 2.0, 1.0)])
def test_variance_is_eta_by_a_power_of_the_step(step, scale, decay):
    draws = _noise(step, scale=scale, decay=decay)[0]
    # Of 20,000 normal draws: the variance is known to sqrt(2 / 20,000) = 1 %, the mean to a deviation by 141.
    variance = scale / (1 + step) ** decay
    assert draws.var() == pytest.approx(variance, rel=0.06)
    assert abs(draws.mean()) < 6 * np.sqrt(variance / 20_000)
    # Normal: 0.27 % lie beyond 3 deviations, here 54, give or take 7.
    assert 15 < np.sum(np.abs(draws) > 3 * np.sqrt(variance)) < 100


def test_noise_decays_and_does_not_without_a_decay():
    deviations = [_noise(step)[0].std() for step in (0, 1, 10, 100, 1000)]
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[0] > 5 * deviations[-1]
    constant = [_noise(step, decay=0.0)[0].std() for step in (0, 1000)]
    assert constant == pytest.approx([np.sqrt(0.3)] * 2, rel=0.03)


def test_noise_is_added_to_the_gradient():
    gradients = [tf.fill([100, 200], 5.0), tf.constant([1.0, 2.0, 3.0])]
    noisy = GradientNoise(0.3, 0.55).add(gradients, tf.constant(0, tf.int64), 0)
    for with_gradient, gradient, noise in zip(noisy, gradients, _noise(), strict=True):
        np.testing.assert_allclose(with_gradient - gradient, noise, atol=1e-6)


def test_same_seed_gives_the_same_noise_and_another_seed_another():
    for first, again, other in zip(_noise(), _noise(), _noise(seed=1), strict=True):
        np.testing.assert_array_equal(first, again)
        assert (first != other).all()


def test_no_two_gradients_or_steps_have_the_same_noise():
    # Six draws of the same shape: gradients 0 and 1 of the steps 0, 1 and 2.
    alike = [tf.zeros([50]), tf.zeros([50])]
    draws = [
        tuple(np.round(each.numpy() / np.sqrt(0.3 / (1 + step) ** 0.55), 4))
        for step in range(3)
        for each in GradientNoise(0.3, 0.55).add(alike, tf.constant(step, tf.int64), 0)
    ]
    assert len(set(draws)) == 6
    correlations = np.corrcoef(draws) - np.eye(6)
    assert np.abs(correlations).max() < 0.6  # 4 deviations of 1 / sqrt(50)


def test_seeds_of_stages_are_large_enough_to_need_64_bits():
    assert np.isfinite(_noise(step=10_000_000, seed=2**31 - 1)[0]).all()


def test_shares_of_the_replicas_add_up_to_the_noise_of_one(monkeypatch):
    whole = _noise(step=4)
    monkeypatch.setattr(runtime, "num_replicas", lambda: 4)
    # Every replica draws the same numbers and adds a quarter of them; gradients of replicas are added up.
    replicas = [_noise(step=4) for _ in range(4)]
    for index, noise in enumerate(whole):
        np.testing.assert_allclose(sum(replica[index] for replica in replicas), noise, rtol=1e-6)
        np.testing.assert_allclose(replicas[0][index], noise / 4, rtol=1e-6)
