"""The temporary model's SGD: its steps, their adjoint, and trainings whose meta-gradient has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.bilevel import InnerSGD, MetaGradientEngine
from mnemonics_tf.bilevel.inner_sgd import State
from mnemonics_tf.checks import UsageError


def test_two_steps_by_hand():
    # theta = 2, gradients 1 and -3, rates 0.5 and 0.1, momentum 0.5, weight decay 0.1:
    # m = 1 + 0.1 * 2 = 1.2, theta = 2 - 0.5 * 1.2 = 1.4; m = 0.5 * 1.2 - 3 + 0.1 * 1.4 = -2.26, theta = 1.4 + 0.226.
    sgd = InnerSGD(0.01, momentum=0.5, weight_decay=0.1)
    state = sgd.step(sgd.start([tf.constant([2.0])]), [tf.constant([1.0])], tf.constant(0.5))
    np.testing.assert_allclose([state.params[0][0], state.velocity[0][0]], [1.4, 1.2], rtol=1e-6)
    state = sgd.step(state, [tf.constant([-3.0])], tf.constant(0.1))
    np.testing.assert_allclose([state.params[0][0], state.velocity[0][0]], [1.626, -2.26], rtol=1e-6)


def test_no_velocity_is_carried_without_momentum():
    sgd = InnerSGD(0.01, weight_decay=0.1)
    state = sgd.step(sgd.start([tf.constant([2.0])]), [tf.constant([1.0])], tf.constant(0.5))
    assert state.velocity == []
    np.testing.assert_allclose(state.params[0], [1.4], rtol=1e-6)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.0, 0.2), (0.9, 0.0), (0.9, 0.2)])
def test_adjoint_of_a_step_is_the_transpose_of_its_jacobian(momentum, decay):
    # With the gradient A theta a step is the linear map of (theta, m)
    #   m' = mu m + (A + decay) theta, theta' = theta - rate m'
    generator, rate, size = np.random.default_rng(0), 0.3, 4
    root = generator.normal(size=(size, size))
    hessian, identity = root + root.T, np.eye(size)
    by_theta = hessian + decay * identity
    jacobian = np.block(
        [[identity - rate * by_theta, -rate * momentum * identity], [by_theta, momentum * identity]],
    )
    adjoint = generator.normal(size=2 * size)
    if not momentum:
        adjoint[size:] = 0  # nothing depends on m'
    sgd = InnerSGD(0.01, momentum, decay)
    after = State([tf.constant(adjoint[:size])], [tf.constant(adjoint[size:])] if momentum else [])
    p = sgd.gradient_adjoint(after, tf.constant(rate, tf.float64))
    before = sgd.step_adjoint(after, p, [tf.constant(hessian @ p[0].numpy())])
    expected = jacobian.T @ adjoint
    np.testing.assert_allclose(before.params[0], expected[:size], rtol=1e-12)
    if momentum:
        np.testing.assert_allclose(before.velocity[0], expected[size:], rtol=1e-12)
    else:
        assert before.velocity == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, r"InnerSGD\.learning_rate = 0\.0: expected a number above 0"),
        ({"learning_rate": float("nan")}, r"InnerSGD\.learning_rate = nan"),
        ({"learning_rate": 0.1, "momentum": 1.0}, r"InnerSGD\.momentum = 1\.0: expected a number from 0 up to"),
        ({"learning_rate": 0.1, "weight_decay": -0.1}, r"InnerSGD\.weight_decay = -0\.1: .* at least 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings, message):
    with pytest.raises(UsageError, match=message):
        InnerSGD(**settings)


def _quadratic_loss(params, images, labels):
    """|theta - mean(x)|^2 / 2."""
    return tf.reduce_sum((params[0] - tf.reduce_mean(images, axis=(0, 1, 2))) ** 2) / 2


def _differentiate(theta, images, target, sgd, rates, **options):
    """The meta-gradient of the quadratic loss, every step of which sees all images `[n, d]`."""
    count, width = images.shape
    labels = tf.zeros([count], tf.int64)
    rates = tf.constant(rates, tf.float64)
    plan = np.tile(np.arange(count), (len(rates), 1))
    exemplars, outer = (tf.reshape(tf.constant(values), [-1, 1, 1, width]) for values in (images, target))
    engine = MetaGradientEngine(_quadratic_loss, _quadratic_loss, sgd, **options)
    return engine([tf.constant(theta)], exemplars, labels, plan, outer, labels[:1], rates)


def test_one_step_of_training_by_hand():
    # theta = 2 and mean(x) = 4, weight decay 0.1, rate 0.5: direction -2 + 0.2 = -1.8, theta' = 2.9. Outer loss with
    # target 1: 1.9^2 / 2. Then dL/dx = 1.9 * 0.5 / 3, dL/drate = 1.9 * 1.8, and dL/dtheta = 1.9 * (1 - 0.5 * 1.1).
    images, sgd = np.array([[1.0], [3.0], [8.0]]), InnerSGD(0.01, weight_decay=0.1)
    result = _differentiate(np.array([2.0]), images, np.array([1.0]), sgd, [0.5])
    assert float(result.loss) == pytest.approx(1.805, rel=1e-12)
    np.testing.assert_allclose(np.ravel(result.exemplars), [1.9 * 0.5 / 3] * 3, rtol=1e-12)
    np.testing.assert_allclose(result.rates, [1.9 * 1.8], rtol=1e-12)
    np.testing.assert_allclose(result.adjoint_norms, [1.9, 1.9 * 0.45], rtol=1e-12)


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (7, {"engine": "adjoint"}),
        (7, {"engine": "adjoint_forward"}),
        (7, {"engine": "unrolled"}),
        (200, {"engine": "adjoint"}),
        (200, {"engine": "adjoint", "checkpoint_every": 14}),
        (200, {"engine": "truncated", "window": 30, "checkpoint_every": 7}),
    ],
    ids=str,
)
def test_many_steps_have_the_closed_form(steps, options):
    # With rate a, theta_T = mean(x) + (1-a)^T (theta_0 - mean(x)). For the target y, over the last W steps,
    #   dL/dx_j = (theta_T - y) (1 - (1-a)^W) / n        dL/da_t = -(theta_T - y) (1-a)^(T-1) (theta_0 - mean(x))
    # and |dL/dtheta_t| = |theta_T - y| (1-a)^(T-t).
    rate, count, window = 0.02, 4, options.get("window", steps)
    generator = np.random.default_rng(1)
    theta, target, images = (generator.normal(size=shape) for shape in (3, 3, (count, 3)))
    result = _differentiate(theta, images, target, InnerSGD(0.5), [rate] * steps, **options)
    start = theta - images.mean(axis=0)
    final = images.mean(axis=0) + (1 - rate) ** steps * start - target
    assert float(result.loss) == pytest.approx((final**2).sum() / 2, rel=1e-12)
    by_exemplar = np.tile(final * (1 - (1 - rate) ** window) / count, (count, 1))
    np.testing.assert_allclose(result.exemplars[:, 0, 0], by_exemplar, rtol=1e-10)
    by_rate = -(final @ start) * (1 - rate) ** (steps - 1)
    np.testing.assert_allclose(result.rates, [0.0] * (steps - window) + [by_rate] * window, rtol=1e-10)
    if options["engine"] != "unrolled":
        norms = np.linalg.norm(final) * (1 - rate) ** np.arange(window + 1)
        np.testing.assert_allclose(result.adjoint_norms, norms, rtol=1e-10)
