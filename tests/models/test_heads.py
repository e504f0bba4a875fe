"""Heads that grow: their scores and logits, how weights are carried on, what is trained."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.functional import functional_call, parameters
from mnemonics_tf.models.heads import HEADS, CosineHead, Head, LinearHead, ProxyHead

every_head = pytest.mark.parametrize("kind", HEADS.values(), ids=list(HEADS))


def _head(
    kind: type[Head],
    num_old_classes: int,
    num_new_classes: int,
    width: int = 6,
    seed: int | None = 0,
    corrected: bool = False,
    dtype: str = "float32",
) -> Head:
    """A head; with a seed, every weight is off its initial value, as after training."""
    head = kind(num_old_classes, num_new_classes, corrected, dtype=dtype)
    head.build((None, width))
    if seed is not None:
        generator = np.random.default_rng(seed)
        for variable in head.variables:
            variable.assign(generator.normal(size=variable.shape) + 0.1)
    return head


def _corrected_copy(plain: Head) -> Head:
    """The same weights in a head that corrects logits; as yet by 1 and 0."""
    head = _head(type(plain), plain.num_old_classes, plain.num_new_classes, seed=None, corrected=True)
    of_copy = {variable.name: variable for variable in head.variables}
    for variable in plain.variables:
        of_copy[variable.name].assign(variable)
    return head


def _features(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(5).normal(0, 4, (5, 6)).astype(dtype)


def _kernel(head: Head) -> np.ndarray:
    """Columns of old classes, then those of new ones."""
    blocks = [head.new_kernel.numpy()]
    if head.num_old_classes:
        blocks.insert(0, head.old_kernel.numpy())
    return np.concatenate(blocks, axis=1)


def _cosines(features: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.array([[f @ w / math.sqrt((f @ f) * (w @ w)) for w in columns.T] for f in features])


def test_table_of_heads_has_them_by_name():
    assert list(HEADS.items()) == [("cosine", CosineHead), ("linear", LinearHead), ("proxies", ProxyHead)]


@pytest.mark.parametrize("num_old_classes", [0, 3])
def test_cosine_head_scores_are_cosines_and_logits_eta_times_them(num_old_classes):
    head = _head(CosineHead, num_old_classes, 2)
    head._eta.assign(7.0)
    cosines = _cosines(_features(), _kernel(head))
    scores, logits = head(_features())
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    np.testing.assert_allclose(logits, 7 * cosines, atol=1e-5)
    np.testing.assert_array_equal(head.by_class("kernel"), _kernel(head))


@pytest.mark.parametrize("num_old_classes", [0, 3])
def test_linear_head_logits_are_products_and_biases_and_its_scores_cosines(num_old_classes):
    head = _head(LinearHead, num_old_classes, 2, dtype="float64")
    features = _features("float64")
    bias = np.concatenate([head.old_bias.numpy() if num_old_classes else np.zeros(0), head.new_bias.numpy()])
    expected = [[sum(f * w) + b for w, b in zip(_kernel(head).T, bias, strict=True)] for f in features]
    scores, logits = head(features)
    np.testing.assert_allclose(logits, expected, rtol=1e-10)
    np.testing.assert_allclose(scores, _cosines(features, _kernel(head)), rtol=1e-10)
    np.testing.assert_array_equal(head.by_class("bias"), bias)
    assert float(head.eta) == 1.0


@pytest.mark.parametrize("num_old_classes", [0, 3])
def test_proxies_count_by_the_softmax_of_their_cosines(num_old_classes):
    head = _head(ProxyHead, num_old_classes, 2, dtype="float64")
    head._eta.assign(3.0)
    features, kernel = _features("float64"), _kernel(head)
    assert kernel.shape == (6, 10 * (num_old_classes + 2))  # ten a class
    expected = np.zeros((5, num_old_classes + 2))
    for image, feature in enumerate(features):
        for index in range(num_old_classes + 2):
            cosines = _cosines(feature[None], kernel[:, 10 * index : 10 * index + 10])[0]
            powers = [math.exp(cosine) for cosine in cosines]
            expected[image, index] = sum(p * cosine for p, cosine in zip(powers, cosines, strict=True)) / sum(powers)
    scores, logits = head(features)
    np.testing.assert_allclose(scores, expected, rtol=1e-10)
    np.testing.assert_allclose(logits, 3 * expected, rtol=1e-10)


def test_equal_proxies_are_a_cosine_head():
    # The softmax of ten equal cosines weighs each by a tenth.
    cosine, proxies = _head(CosineHead, 3, 2), _head(ProxyHead, 3, 2)
    proxies._eta.assign(cosine.eta)
    for age in ("old", "new"):
        kernel = getattr(cosine, f"{age}_kernel").numpy()
        getattr(proxies, f"{age}_kernel").assign(np.repeat(kernel, 10, axis=1))
    for of_cosine, of_proxies in zip(cosine(_features()), proxies(_features()), strict=True):
        np.testing.assert_allclose(of_proxies, of_cosine, atol=1e-5)


def test_order_of_a_classs_proxies_does_not_matter():
    head = _head(ProxyHead, 2, 1)
    scores = head(_features())[0]
    head.new_kernel.assign(head.new_kernel.numpy()[:, ::-1])
    np.testing.assert_allclose(head(_features())[0], scores, atol=1e-6)


@every_head
def test_scores_lie_between_minus_one_and_one_and_know_no_lengths(kind):
    head = _head(kind, 3, 2)
    scores = head(_features())[0].numpy()
    assert np.abs(scores).max() <= 1 + 1e-6
    assert scores.min() < 0 < scores.max()
    np.testing.assert_allclose(head(_features() * 100)[0], scores, atol=1e-5)
    head.new_kernel.assign(head.new_kernel * 100.0)
    np.testing.assert_allclose(head(_features())[0], scores, atol=1e-5)


@every_head
@pytest.mark.parametrize("num_old_classes", [0, 3])
def test_announced_shapes_are_those_of_the_outputs(kind, num_old_classes):
    head = _head(kind, num_old_classes, 2)
    assert head.num_classes == num_old_classes + 2
    expected = (5, num_old_classes + 2)
    assert tuple(tuple(output.shape) for output in head(_features())) == (expected, expected)
    assert head.compute_output_shape((5, 6)) == (expected, expected)


@every_head
def test_weights_start_uniformly_and_alike_for_old_and_new_classes_but_with_other_numbers(kind):
    keras.utils.set_random_seed(0)
    head = _head(kind, 400, 400, width=16, seed=None)
    old, new = head.old_kernel.numpy(), head.new_kernel.numpy()
    for weights in (old, new):
        # Uniform on +-1/sqrt(16) = +-0.25: the largest of 6400 is close to the limit, the deviation is 0.25 / sqrt(3).
        assert 0.249 < np.abs(weights).max() <= 0.25
        np.testing.assert_allclose(weights.std(), 0.25 / np.sqrt(3), rtol=0.03)
    assert (old != new).all()
    assert float(head.eta) == 1.0
    if kind is LinearHead:
        np.testing.assert_array_equal(head.by_class("bias"), np.zeros(800))


@every_head
def test_head_takes_the_old_classes_from_the_head_of_the_phase_before(kind):
    previous, head = _head(kind, 3, 2), _head(kind, 5, 4, seed=1)
    new = {variable.name: variable.numpy() for variable in head.variables if variable.name.startswith("new")}
    head.take_from(previous)
    scores, logits = head(_features())
    expected_scores, expected_logits = previous(_features())
    np.testing.assert_allclose(scores[:, :5], expected_scores, atol=1e-6)
    np.testing.assert_allclose(logits[:, :5], expected_logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(head.old_kernel, _kernel(previous))
    for name, value in new.items():
        np.testing.assert_array_equal(getattr(head, name), value)
    assert float(head.eta) == float(previous.eta)


@every_head
@pytest.mark.parametrize(("num_old_classes", "num_new_classes"), [(0, 5), (1, 4), (3, 2)])
def test_head_takes_all_classes_however_they_are_dealt_to_old_and_new(kind, num_old_classes, num_new_classes):
    source = _head(kind, 3, 2, corrected=True)
    head = _head(kind, num_old_classes, num_new_classes, seed=1, corrected=True)
    head.take_from(source)
    for output, expected in zip(head(_features()), source(_features()), strict=True):
        np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(head.by_class("kernel"), source.by_class("kernel"))


@every_head
def test_head_that_is_taken_from_stays_as_it_was(kind):
    source, head = _head(kind, 3, 2), _head(kind, 5, 4, seed=1)
    before = source.get_weights()
    head.take_from(source)
    for variable in head.variables:
        variable.assign(tf.zeros_like(variable))
    for now, then in zip(source.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@every_head
@pytest.mark.parametrize("num_classes", [1, 3, 4, 6])
def test_head_of_another_number_of_classes_is_refused(kind, num_classes):
    head = _head(kind, 2, 3)  # could take 2 or 5
    message = f"2 old and 3 new classes cannot take the weights of one with {num_classes}: expected all of them, or the"
    with pytest.raises(ValueError, match=message):
        head.take_from(_head(kind, 0, num_classes))


_TRAINED = {
    "cosine": {"old_kernel", "new_kernel", "eta"},
    "linear": {"old_kernel", "new_kernel", "old_bias", "new_bias"},
    "proxies": {"old_kernel", "new_kernel", "eta"},
}


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_old_classes_are_trained_or_frozen_as_a_whole(name, corrected):
    head = _head(HEADS[name], 3, 2, corrected=corrected)

    def trained() -> set[str]:
        return {variable.name for variable in head.trainable_variables}

    assert trained() == _TRAINED[name]
    head.train_old_classes(False)
    assert trained() == {weight for weight in _TRAINED[name] if not weight.startswith("old_")}
    head.train_old_classes(True)
    assert trained() == _TRAINED[name]


@every_head
def test_head_without_old_classes_has_none_to_freeze(kind):
    head = _head(kind, 0, 2)
    before = [variable.name for variable in head.trainable_variables]
    head.train_old_classes(False)
    assert [variable.name for variable in head.trainable_variables] == before


@every_head
def test_corrected_head_scales_and_shifts_the_logits_of_each_class_and_leaves_scores_alone(kind):
    plain = _head(kind, 3, 2)
    corrected = _corrected_copy(plain)
    scores, logits = (output.numpy() for output in plain(_features()))
    gain, offset = np.array([0.5, 1.0, 2.0, -1.0, 3.0]), np.array([0.0, 1.0, -1.0, 2.0, 5.0])
    for name, values in (("gain", gain), ("offset", offset)):
        getattr(corrected, f"old_{name}").assign(values[:3])
        getattr(corrected, f"new_{name}").assign(values[3:])
    corrected_scores, corrected_logits = corrected(_features())
    np.testing.assert_array_equal(corrected_scores, scores)
    np.testing.assert_allclose(corrected_logits, gain * logits + offset, rtol=1e-5, atol=1e-5)


@every_head
def test_correction_changes_nothing_until_it_is_fitted(kind):
    plain = _head(kind, 3, 2)
    corrected = _corrected_copy(plain)
    np.testing.assert_array_equal(corrected(_features())[1], plain(_features())[1])
    assert set(corrected.correction_names) <= {variable.name for variable in corrected.variables}
    assert not set(plain.correction_names) & {variable.name for variable in plain.variables}


@every_head
def test_corrections_are_carried_on_with_their_classes(kind):
    previous, head = _head(kind, 3, 2, corrected=True), _head(kind, 5, 1, seed=None, corrected=True)
    head.take_from(previous)
    for name, fresh in (("gain", 1.0), ("offset", 0.0)):
        expected = np.concatenate([getattr(previous, f"old_{name}"), getattr(previous, f"new_{name}"), [fresh]])
        np.testing.assert_array_equal(head.by_class(name), expected.astype(np.float32))


@every_head
@pytest.mark.parametrize(("num_old_classes", "num_new_classes"), [(3, 0), (-1, 2), (0, 2.0)])
def test_impossible_numbers_of_classes_are_refused(kind, num_old_classes, num_new_classes):
    with pytest.raises(UsageError, match=r"num_(old|new)_classes = "):
        kind(num_old_classes, num_new_classes)


@pytest.mark.parametrize("corrected", [False, True])
@every_head
def test_call_as_a_function_of_the_parameters_gives_the_same_outputs(kind, corrected):
    head, other = (_head(kind, 3, 2, seed=seed, corrected=corrected) for seed in (0, 1))
    for output, expected in zip(functional_call(head, parameters(head), _features()), head(_features()), strict=True):
        np.testing.assert_array_equal(output, expected)
    # With the parameters of another head, and the correction of this one, which is not among them.
    values = parameters(other)
    if corrected:
        for name in head.correction_names:
            getattr(other, name).assign(getattr(head, name))
    for output, expected in zip(functional_call(head, values, _features()), other(_features()), strict=True):
        np.testing.assert_array_equal(output, expected)


def _curvature(head: Head, by_features: bool) -> tuple[float, float]:
    """v H v of a smooth loss along random directions v: by nested gradients, and by central differences of one."""
    features = tf.constant(_features("float64"))
    labels = tf.constant([0, 1, 2, 0, 1])
    point = [features, *parameters(head)] if by_features else parameters(head)
    generator = np.random.default_rng(8)
    direction = [tf.constant(generator.normal(size=part.shape)) for part in point]

    def slope(values: list[tf.Tensor]) -> tf.Tensor:
        """The loss's derivative along the direction."""
        with tf.GradientTape() as tape:
            tape.watch(values)
            inputs, params = (values[0], values[1:]) if by_features else (features, values)
            _, logits = functional_call(head, params, inputs)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, values)
        return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(gradients, direction, strict=True)])

    with tf.GradientTape() as tape:
        tape.watch(point)
        value = slope(point)
    second = tape.gradient(value, point)
    analytic = sum(float(tf.reduce_sum(a * b)) for a, b in zip(second, direction, strict=True))
    step = 1e-4
    plus, minus = (slope([a + sign * step * b for a, b in zip(point, direction, strict=True)]) for sign in (1, -1))
    return analytic, float(plus - minus) / (2 * step)


@pytest.mark.parametrize("by_features", [False, True])
@every_head
def test_second_derivative_agrees_with_finite_differences(kind, by_features):
    head = _head(kind, 2, 1, dtype="float64")
    if kind is not LinearHead:
        head._eta.assign(4.0)
    analytic, difference = _curvature(head, by_features)
    assert abs(analytic) > 1e-3
    assert difference == pytest.approx(analytic, rel=1e-6)


@every_head
def test_derivatives_of_a_feature_of_zero_are_finite(kind):
    # What a ReLU at the end of the backbone may leave of a dark image.
    features = tf.zeros([1, 6])
    head = _head(kind, 3, 2)
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.add_n([tf.reduce_sum(output) for output in head(features)])
    assert np.isfinite(total)
    assert np.isfinite(tape.gradient(total, features)).all()
