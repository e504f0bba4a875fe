"""WA: its loss and the aligned weights, against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, LABELS, NUM_OLD

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.wa import WA
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.resnet import ResNet


def test_terms_are_weighted_by_the_share_of_old_classes():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    terms = WA(temperature=3.0).losses(outputs, teacher, tf.constant(LABELS), GROUPS)
    # lambda = K / (K + M) = 5 / 7.
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {
            "cross_entropy": 2 / 7 * oracles.cross_entropy(outputs.logits, LABELS),
            "distillation": 5 / 7 * oracles.distillation(outputs.logits[:, :NUM_OLD], teacher.logits, 3.0),
        },
        rel=1e-10,
    )


def test_temperature_is_2_by_default():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    default, two = (method.losses(outputs, teacher, tf.constant(LABELS), GROUPS) for method in (WA(), WA(2.0)))
    assert float(default["distillation"]) == float(two["distillation"])


def test_distillation_is_lowest_where_the_network_answers_as_the_teacher_does():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    same = outputs._replace(logits=tf.concat([teacher.logits, outputs.logits[:, NUM_OLD:]], axis=1))
    distillation = WA().losses(same, teacher, tf.constant(LABELS), GROUPS)["distillation"]
    assert float(distillation) == pytest.approx(5 / 7 * oracles.entropy(teacher.logits), rel=1e-10)


def _trained_model() -> Classifier:
    """3 old and 2 new classes; weights and biases off their initial values."""
    model = ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1), head="linear").build(3, 2)
    generator = np.random.default_rng(0)
    for variable in model.head.trainable_variables:
        variable.assign(generator.normal(size=variable.shape) * (5 if variable.name.startswith("new") else 1))
    return model


def test_aligned_weights_have_the_mean_norm_of_the_old_ones_and_point_where_they_did():
    model = _trained_model()
    before = {variable.path: variable.numpy() for variable in model.variables}
    old, new = model.head.old_kernel.numpy(), model.head.new_kernel.numpy()
    WA().complete(model, None, None, ClassGroups((3, 2)))
    aligned = model.head.new_kernel.numpy()
    old_norms, new_norms, norms = (
        [float(np.sqrt(column @ column)) for column in kernel.T] for kernel in (old, new, aligned)
    )
    assert sum(norms) / 2 == pytest.approx(sum(old_norms) / 3, rel=1e-6)
    for column, norm, was, norm_was in zip(aligned.T, norms, new.T, new_norms, strict=True):
        np.testing.assert_allclose(column / norm, was / norm_was, atol=1e-6)
    # One factor for all new classes: their norms keep their ratio.
    assert norms[0] / norms[1] == pytest.approx(new_norms[0] / new_norms[1], rel=1e-6)
    for variable in model.variables:
        if variable.name != "new_kernel":
            np.testing.assert_array_equal(variable, before[variable.path])


def test_aligning_by_hand():
    # Old norms 1 and 3, mean 2; new norms 5 and 15, mean 10: gamma = 1 / 5.
    model = ClassifierFactory(ResNet((1,), (2,)), (4, 4, 1), head="linear").build(2, 2)
    model.head.old_kernel.assign([[1.0, 0.0], [0.0, 3.0]])
    model.head.new_kernel.assign([[3.0, 9.0], [-4.0, 12.0]])
    WA().complete(model, None, None, ClassGroups((2, 2)))
    np.testing.assert_allclose(model.head.new_kernel, [[0.6, 1.8], [-0.8, 2.4]], rtol=1e-6)


def test_aligning_twice_is_aligning_once():
    model = _trained_model()
    WA().complete(model, None, None, ClassGroups((3, 2)))
    once = keras.ops.convert_to_numpy(model.head.new_kernel)
    WA().complete(model, None, None, ClassGroups((3, 2)))
    np.testing.assert_allclose(model.head.new_kernel, once, rtol=1e-6)


def test_linear_head_is_the_default_and_the_only_one():
    assert WA.head == "linear"
    WA().check(1, "linear")
    for head in ("cosine", "proxies"):
        message = rf"Experiment\.head = '{head}': method 'wa' works with 'linear'\."
        with pytest.raises(UsageError, match=message):
            WA().check(20, head)


def test_impossible_temperature_is_a_usage_error_that_names_it():
    for temperature in (0.0, -1, "hot"):
        with pytest.raises(UsageError, match=r"^wa\.temperature = "):
            WA(temperature=temperature)
