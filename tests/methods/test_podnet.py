"""PODNet's losses against NumPy."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, INITIAL, LABELS

from mnemonics_tf.checks import UsageError
from mnemonics_tf.methods.podnet import PODNet

# sqrt((K + M) / M) for K = 5 and M = 2.
_SCALE = math.sqrt(7 / 2)


def _losses(method: PODNet, outputs, teacher, groups=GROUPS):
    return {name: float(value) for name, value in method.losses(outputs, teacher, tf.constant(LABELS), groups).items()}


def _nca(outputs, margin: float = 0.6) -> float:
    """Mean of max(0, -log(exp(eta (s_y - margin)) / sum over the others of exp(eta s)))."""
    eta, values = float(outputs.eta), []
    for row, label in zip(outputs.scores.numpy(), LABELS, strict=True):
        others = sum(math.exp(eta * score) for index, score in enumerate(row) if index != label)
        values.append(max(0.0, -math.log(math.exp(eta * (row[label] - margin)) / others)))
    return float(np.mean(values))


def _profile(image: np.ndarray) -> np.ndarray:
    """Squares of a map `[h, w, c]`, added up over each column and over each row, as one vector of length 1."""
    height, width, channels = image.shape
    over_height = [sum(image[h, w, c] ** 2 for h in range(height)) for w in range(width) for c in range(channels)]
    over_width = [sum(image[h, w, c] ** 2 for w in range(width)) for h in range(height) for c in range(channels)]
    vector = np.array(over_height + over_width)
    return vector / math.sqrt(np.sum(vector**2))


def _pod_spatial(outputs, teacher) -> float:
    """Mean over stages and images of the distance of the profiles."""
    stages = []
    for student, of_old in zip(outputs.maps, teacher.maps, strict=True):
        pairs = zip(student.numpy(), of_old.numpy(), strict=True)
        stages.append(np.mean([np.linalg.norm(_profile(a) - _profile(b)) for a, b in pairs]))
    return float(np.mean(stages))


def _pod_flat(outputs, teacher) -> float:
    pairs = zip(outputs.features.numpy(), teacher.features.numpy(), strict=True)
    return float(np.mean([1 - (f @ t) / math.sqrt((f @ f) * (t @ t)) for f, t in pairs]))


def test_initial_phase_is_nca_with_a_margin():
    outputs = oracles.outputs(0)
    assert _losses(PODNet(), outputs, None, INITIAL) == pytest.approx({"nca": _nca(outputs)}, rel=1e-10)


def test_terms_are_weighted_as_for_cifar_100():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    assert _losses(PODNet(), outputs, teacher) == pytest.approx(
        {
            "nca": _nca(outputs),
            "pod_spatial": _SCALE * 3 * _pod_spatial(outputs, teacher),
            "pod_flat": _SCALE * 1 * _pod_flat(outputs, teacher),
        },
        rel=1e-10,
    )


def test_settings_reach_their_terms():
    outputs, teacher = oracles.outputs(2), oracles.of_old_classes(oracles.outputs(3))
    method = PODNet(spatial_weight=8.0, flat_weight=10.0, margin=0.1)
    assert _losses(method, outputs, teacher) == pytest.approx(
        {
            "nca": _nca(outputs, 0.1),
            "pod_spatial": _SCALE * 8 * _pod_spatial(outputs, teacher),
            "pod_flat": _SCALE * 10 * _pod_flat(outputs, teacher),
        },
        rel=1e-10,
    )


@pytest.mark.parametrize(
    ("settings", "left"),
    [({"spatial_weight": 0.0}, {"nca", "pod_flat"}), ({"flat_weight": 0.0}, {"nca", "pod_spatial"})],
    ids=["spatial", "flat"],
)
def test_weight_of_zero_leaves_the_term_out(settings, left):
    teacher = oracles.of_old_classes(oracles.outputs(1))
    assert set(_losses(PODNet(**settings), oracles.outputs(0), teacher)) == left


def test_maps_are_not_needed_where_they_are_not_compared():
    outputs, teacher = (oracles.outputs(seed)._replace(maps=()) for seed in (0, 1))
    assert set(_losses(PODNet(spatial_weight=0.0), outputs, teacher)) == {"nca", "pod_flat"}


def test_network_that_has_not_moved_is_at_the_minimum():
    outputs = oracles.outputs(0)
    terms = _losses(PODNet(), outputs, oracles.of_old_classes(outputs))
    # The root is cut off at 1e-6, where it would have no derivative.
    assert 0 <= terms["pod_spatial"] <= 1.001e-6 * 3 * _SCALE
    assert terms["pod_flat"] == pytest.approx(0, abs=1e-12)


def test_distillation_of_maps_sees_neither_their_sign_nor_their_size():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    changed = outputs._replace(maps=(-outputs.maps[0], 5 * outputs.maps[1]), features=7 * outputs.features)
    assert _losses(PODNet(), changed, teacher) == pytest.approx(_losses(PODNet(), outputs, teacher), rel=1e-10)


def test_order_of_the_stages_does_not_matter():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    turned = (each._replace(maps=each.maps[::-1]) for each in (outputs, teacher))
    assert _losses(PODNet(), *turned) == pytest.approx(_losses(PODNet(), outputs, teacher), rel=1e-10)


def test_stages_of_different_networks_are_refused():
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    with pytest.raises(ValueError, match="zip"):
        _losses(PODNet(), outputs, teacher._replace(maps=teacher.maps[:1]))


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("maps", ["equal", "dark", "dark_teacher"])
def test_gradient_of_the_spatial_term_is_finite_at_zero_distance_and_for_dark_maps(maps, dtype):
    student = tf.cast(oracles.outputs(0).maps[0], dtype)
    teacher = tf.zeros_like(student) if maps == "dark_teacher" else student
    student = tf.zeros_like(student) if maps == "dark" else student
    outputs, of_old = (oracles.outputs(0)._replace(maps=(each,)) for each in (student, teacher))
    with tf.GradientTape() as tape:
        tape.watch(student)
        spatial = PODNet().losses(outputs, of_old, tf.constant(LABELS), GROUPS)["pod_spatial"]
    assert np.isfinite(spatial)
    assert np.isfinite(tape.gradient(spatial, student)).all()


def test_it_has_proxies_that_are_imprinted_and_a_fine_tuning_of_its_own():
    assert PODNet.head == "proxies"
    assert PODNet().imprints
    assert PODNet.finetunes
    assert not PODNet.trains_old_head


def test_networks_of_phase_0_are_shared_only_under_the_same_margin():
    assert PODNet().initial_training == PODNet(spatial_weight=8.0, flat_weight=10.0).initial_training
    assert PODNet().initial_training != PODNet(margin=0.5).initial_training


def test_linear_head_is_refused_because_nca_would_not_train_its_bias():
    PODNet().check(1, "cosine")
    with pytest.raises(UsageError, match=r"Experiment\.head = 'linear': method 'podnet' works with "):
        PODNet().check(20, "linear")


@pytest.mark.parametrize("settings", [{"spatial_weight": -1.0}, {"flat_weight": -1}, {"margin": -0.6}], ids=str)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^podnet\.{name} = "):
        PODNet(**settings)
