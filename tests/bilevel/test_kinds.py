"""Engines as objects: names stand for them, and they say what they need."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.bilevel import (
    ENGINES,
    Adjoint,
    AdjointForward,
    Head,
    InnerSGD,
    MetaGradientEngine,
    Prototype,
    Truncated,
    Unrolled,
    meta_gradient,
)
from mnemonics_tf.bilevel.kinds import engine_of
from mnemonics_tf.checks import UsageError


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("adjoint", {}, Adjoint()),
        ("adjoint", {"checkpoint_every": 3, "images_at_once": 8}, Adjoint(checkpoint_every=3, images_at_once=8)),
        ("adjoint", {"keep_activations": 4}, Adjoint(keep_activations=4)),
        ("adjoint_forward", {"images_at_once": 8}, AdjointForward(images_at_once=8)),
        ("truncated", {"window": 4, "checkpoint_every": 2}, Truncated(4, checkpoint_every=2)),
        ("unrolled", {}, Unrolled()),
        ("head", {"checkpoint_every": 2}, Head(checkpoint_every=2)),
        ("prototype", {}, Prototype()),
    ],
    ids=str,
)
def test_name_and_options_stand_for_an_object(name, options, expected):
    assert engine_of(name, **options) == expected
    assert engine_of(expected) is expected
    assert expected.name == name


def test_every_name_has_a_kind():
    kinds = [engine_of(name, window=2 if name == "truncated" else None) for name in ENGINES]
    assert [kind.name for kind in kinds] == list(ENGINES)
    assert {kind.name: kind.trains for kind in kinds if kind.trains != "network"} == {
        "head": "head",
        "prototype": "nothing",
    }
    assert [kind.name for kind in kinds if kind.needs_features] == ["head", "prototype"]
    assert [kind.name for kind in kinds if kind.needs_scaled_head] == ["prototype"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adjoint(checkpoint_every=0), r"Adjoint\.checkpoint_every = 0: expected a whole number"),
        (lambda: Head(images_at_once=1.5), r"Head\.images_at_once = 1\.5: expected a whole number"),
        (lambda: Adjoint(keep_activations=0), r"Adjoint\.keep_activations = 0: expected a whole number"),
        (
            lambda: Truncated(4, keep_activations=2, images_at_once=8),
            r"Truncated\.keep_activations = 2 with images_at_once = 8: .* Leave one of them out",
        ),
        (lambda: engine_of("head", keep_activations=2), r"keep_activations = 2 .*'head': only 'adjoint', 'truncated'"),
        (lambda: Truncated(0), r"Truncated\.window = 0: expected a whole number"),
        (lambda: Truncated(None), r"Truncated\.window = None: expected a whole number"),
        (lambda: engine_of(Adjoint(), window=3), r"window = 3 beside the engine Adjoint\(.* Give it there"),
        (
            lambda: engine_of("adjoint", checkpoint_every=0, owner="ExemplarLevel."),
            r"^ExemplarLevel\.checkpoint_every = 0: expected",
        ),
    ],
)
def test_object_refuses_options_that_cannot_work(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_only_truncated_draws_the_number_of_steps():
    generator = np.random.default_rng(0)
    assert {Truncated(3).num_steps(6, generator) for _ in range(50)} == {3, 4, 5, 6}
    assert {Adjoint().num_steps(6, generator) for _ in range(5)} == {6}
    assert (Truncated(3).fewest_steps, Adjoint().fewest_steps) == (3, 1)


def _loss(params, images, labels):
    return tf.reduce_mean((tf.reduce_mean(images * params[0], axis=(1, 2, 3)) - tf.cast(labels, tf.float64)) ** 2)


def test_object_computes_what_its_name_computes():
    generator = np.random.default_rng(0)
    arguments = (
        [tf.constant(generator.normal(size=3))],
        tf.constant(generator.normal(size=(4, 2, 2, 3))),
        tf.constant([0, 1, 0, 1]),
        np.array([[0, 1], [2, 3], [1, 2]]),
        tf.constant(generator.normal(size=(5, 2, 2, 3))),
        tf.constant([1, 0, 1, 0, 1]),
    )
    by_name = meta_gradient(_loss, _loss, *arguments, sgd=InnerSGD(0.1), engine="truncated", window=2)
    by_object = meta_gradient(_loss, _loss, *arguments, sgd=InnerSGD(0.1), engine=Truncated(2))
    compiled = MetaGradientEngine(_loss, _loss, InnerSGD(0.1), Truncated(2))(*arguments)
    for result in (by_object, compiled):
        np.testing.assert_array_equal(result.exemplars, by_name.exemplars)
