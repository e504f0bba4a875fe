"""Soft labels of exemplars as they are taken and joined."""

from __future__ import annotations

import numpy as np

from mnemonics_tf.data.types import LabelledImages


def _soft(labels, classes: int) -> LabelledImages:
    soft = np.random.default_rng(len(labels)).dirichlet(np.ones(classes), len(labels)).astype(np.float32)
    return LabelledImages(np.zeros((len(labels), 1, 1, 1), np.uint8), np.asarray(labels), soft)


def test_soft_labels_follow_their_images():
    exemplars = _soft([0, 1, 2, 1], 3)
    np.testing.assert_array_equal(exemplars.take(np.array([2, 0])).soft_labels, exemplars.soft_labels[[2, 0]])
    np.testing.assert_array_equal(exemplars.of_classes([1]).soft_labels, exemplars.soft_labels[[1, 3]])


def test_joined_soft_labels_give_classes_that_came_later_a_probability_of_zero():
    old, new = _soft([0, 1], 2), _soft([2, 3, 2], 4)
    joined = old.join(new).soft_labels
    assert joined.shape == (5, 4)
    np.testing.assert_array_equal(joined[:2], np.hstack([old.soft_labels, np.zeros((2, 2))]))
    np.testing.assert_array_equal(joined[2:], new.soft_labels)


def test_joining_with_real_images_leaves_hard_labels():
    real = LabelledImages(np.zeros((2, 1, 1, 1), np.uint8), np.array([4, 5]))
    joined = real.join(_soft([0, 1], 2))
    assert joined.soft_labels is None
    np.testing.assert_array_equal(joined.targets, [4, 5, 0, 1])


def test_targets_are_soft_labels_where_there_are_any():
    exemplars = _soft([0, 1], 2)
    assert exemplars.targets is exemplars.soft_labels


def test_coded_images_go_along_and_exemplars_are_their_own():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    both = LabelledImages(images, np.arange(6), coded=images + 100)
    np.testing.assert_array_equal(both.take(np.array([4, 1])).coded.ravel(), [104, 101])
    exemplars = LabelledImages(images[:2] + 50, np.array([7, 8]))
    np.testing.assert_array_equal(both.join(exemplars).coded.ravel(), [100, 101, 102, 103, 104, 105, 50, 51])
    np.testing.assert_array_equal(exemplars.join(both).coded.ravel(), [50, 51, 100, 101, 102, 103, 104, 105])
    assert exemplars.join(exemplars).coded is None
