"""Joint training, the upper bound, and replay, the least that exemplars can do."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, INITIAL, LABELS

from mnemonics_tf.methods.joint import Joint
from mnemonics_tf.methods.replay import Replay


@pytest.mark.parametrize("method", [Joint(), Replay()])
@pytest.mark.parametrize("groups", [INITIAL, GROUPS])
def test_loss_is_cross_entropy_of_all_classes_whatever_the_teacher_says(method, groups):
    outputs = oracles.outputs(0)
    for teacher in (None, oracles.of_old_classes(oracles.outputs(1))):
        terms = method.losses(outputs, teacher, tf.constant(LABELS), groups)
        assert set(terms) == {"cross_entropy"}
        expected = oracles.cross_entropy(outputs.logits, LABELS)
        assert float(terms["cross_entropy"]) == pytest.approx(expected, rel=1e-10)
    assert not method.distils


def test_replay_trains_on_new_images_and_exemplars():
    phase, exemplars = oracles.a_phase(), oracles.images_of([0, 1, 2, 3, 4])
    data, held_out = Replay().training_data(phase, exemplars, np.random.default_rng(0))
    assert held_out is None
    assert sorted(oracles.pixels_of(data)) == sorted([*oracles.pixels_of(phase.train), 0, 1, 2, 3, 4])
    assert not Replay.trains_on_old_data


def test_joint_trains_on_all_real_images_and_on_no_exemplar():
    old = oracles.images_of(np.repeat(np.arange(5), 8), first=10)
    phase = oracles.a_phase(old_train=old)
    exemplars = oracles.images_of([0, 1, 2, 3, 4], first=0)  # learned, say: none of the real images
    data, held_out = Joint().training_data(phase, exemplars, np.random.default_rng(0))
    assert held_out is None
    assert sorted(oracles.pixels_of(data)) == sorted(oracles.pixels_of(phase.train) + oracles.pixels_of(old))
    label_of = dict(zip(oracles.pixels_of(old), old.labels, strict=True))
    label_of |= dict(zip(oracles.pixels_of(phase.train), phase.train.labels, strict=True))
    np.testing.assert_array_equal(data.labels, [label_of[pixel] for pixel in oracles.pixels_of(data)])
    assert Joint.trains_on_old_data


def test_joint_starts_with_the_images_of_phase_0():
    phase = oracles.a_phase()
    data, held_out = Joint().training_data(phase, None, np.random.default_rng(0))
    assert held_out is None
    assert oracles.pixels_of(data) == oracles.pixels_of(phase.train)


def test_joint_needs_no_exemplars():
    Joint().check(0, "cosine")
