"""Which exemplars each inner step takes."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.bilevel import inner_plan
from mnemonics_tf.bilevel.plan import check_plan


def test_plan_uses_every_exemplar_before_any_twice():
    plan = inner_plan(10, 5, 3, np.random.default_rng(0))
    assert plan.shape == (5, 3)
    assert plan.dtype == np.int64
    assert all(len(set(step)) == 3 for step in plan)
    # A round of 10 exemplars fills three steps of 3.
    assert len(set(plan[:3].ravel())) == 9
    assert len(set(plan[3:].ravel())) == 6


def test_plan_of_few_exemplars_takes_all_of_them():
    plan = inner_plan(3, 2, 64, np.random.default_rng(0))
    assert [sorted(step) for step in plan] == [[0, 1, 2], [0, 1, 2]]


def test_each_round_leaves_out_and_orders_exemplars_anew():
    # 50 rounds of 3 steps leave out one of 10 exemplars each: all the same one with probability 10^-49.
    rounds = inner_plan(10, 150, 3, np.random.default_rng(0)).reshape(50, 9)
    assert len({tuple(sorted(members)) for members in rounds}) > 1
    assert len({tuple(members) for members in rounds}) == 50


def test_plan_is_that_of_its_generator():
    first, again, other = (inner_plan(20, 4, 6, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(again, first)
    assert (other != first).any()


@pytest.mark.parametrize("plan", [[[0, 5]], np.array([[0, 5]], np.uint8), np.array([[0, 5]], np.int32)], ids=repr)
def test_plan_of_any_integers_is_taken(plan):
    checked = check_plan(plan, 6)
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, [[0, 5]])


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (np.zeros((0, 3), int), r"plan is int64 of shape \(0, 3\): expected integers \[T, b\]"),
        (np.zeros((3, 0), int), r"plan is int64 of shape \(3, 0\)"),
        (np.array([0, 1]), r"plan is int64 of shape \(2,\)"),
        (np.array([[0.0, 1.0]]), "plan is float64 of shape"),
        (np.array([[True, False]]), "plan is bool of shape"),
        (np.array([[0, 6]]), r"plan names exemplars 0\.\.6: expected 0\.\.5, as there are 6"),
        (np.array([[-1, 0]]), r"plan names exemplars -1\.\.0: expected 0\.\.5"),
    ],
    ids=str,
)
def test_impossible_plan_is_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        check_plan(plan, 6)
