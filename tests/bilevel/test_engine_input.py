"""What the engines refuse, and what they say."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel import ENGINES, InnerSGD, MetaGradientEngine
from mnemonics_tf.checks import UsageError

PLAN = np.array([[0, 1, 2], [3, 0, 4]])
WALKS = ("adjoint", "adjoint_forward", "unrolled")


def _logits(params, images):
    hidden = tf.tanh(tf.einsum("bhwc,cr->bhwr", images, params[0]))
    return tf.reduce_mean(hidden, axis=(1, 2)) @ params[1]


def _loss(params, images, labels):
    return tf.reduce_mean(losses.cross_entropy(_logits(params, images), labels))


def _features(images):
    return tf.reduce_mean(images, axis=(1, 2))


def _head_loss(params, features, labels):
    return tf.reduce_mean(losses.cross_entropy(features @ params[0] @ params[1], labels))


def _arguments():
    """What an engine is called with, by name: all of it valid."""
    generator = np.random.default_rng(0)
    return {
        "params": [tf.constant(generator.normal(size=shape)) for shape in ((2, 3), (3, 3))],
        "exemplars": tf.constant(generator.normal(size=(5, 4, 4, 2))),
        "labels": tf.constant([0, 1, 2, 0, 1], tf.int64),
        "plan": PLAN,
        "outer_images": tf.constant(generator.normal(size=(3, 4, 4, 2))),
        "outer_labels": tf.constant([0, 1, 2], tf.int64),
    }


def _engine(engine="adjoint", inner_loss=_loss, outer_loss=None, **options):
    return MetaGradientEngine(inner_loss, outer_loss or inner_loss, InnerSGD(0.1), engine, **options)


@pytest.fixture(scope="module")
def adjoint():
    engine = _engine()
    return lambda **changed: engine(**{**_arguments(), **changed})


def _with_nan(values, *positions):
    array = np.array(values)
    for position in positions:
        array[position].flat[0] = np.nan if position % 2 else np.inf
    return tf.constant(array)


def _soft_labels():
    return np.random.default_rng(1).dirichlet(np.ones(3), 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exemplars": tf.zeros([5, 4, 4, 2], tf.uint8)}, "exemplars are uint8: expected float64, as the parameters"),
        ({"exemplars": tf.zeros([5, 4, 4, 2])}, "exemplars are float32: expected float64"),
        ({"exemplars": _with_nan(np.zeros((5, 4, 4, 2)), 1, 4)}, r"exemplars hold NaN .* \(positions \[1, 4\]"),
        ({"labels": _with_nan(_soft_labels(), 3)}, r"soft labels hold NaN .* \(positions \[3\]"),
        ({"labels": tf.constant(_soft_labels(), tf.float32)}, "soft labels are float32: expected float64"),
        ({"labels": tf.zeros([4], tf.int64)}, r"labels are int64 of shape \(4,\) for 5 exemplars"),
        (
            {"labels": tf.zeros([5, 3], tf.int64)},
            r"labels are int64 of shape \(5, 3\) for 5 exemplars: .* indices \[n\]",
        ),
        ({"labels": tf.zeros([5], tf.float64)}, r"labels are float64 of shape \(5,\)"),
        ({"labels": tf.constant(_soft_labels()[:4])}, r"labels are float64 of shape \(4, 3\) for 5 exemplars"),
        ({"plan": np.zeros((0, 3), int)}, r"plan is int64 of shape \(0, 3\): expected integers \[T, b\]"),
        ({"plan": PLAN + 1}, r"plan names exemplars 1\.\.5: expected 0\.\.4"),
        ({"plan": PLAN - 1}, r"plan names exemplars -1\.\.3: expected 0\.\.4"),
        ({"plan": PLAN / 2}, "plan is float64 of shape"),
        ({"rates": tf.fill([3], 0.1)}, r"rates have shape \(3,\): expected one rate, or \[T\] = \[2\]"),
        ({"rates": tf.fill([2, 1], 0.1)}, r"rates have shape \(2, 1\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_arguments_are_refused(adjoint, changed, message):
    with pytest.raises(ValueError, match=message):
        adjoint(**changed)


def test_at_most_five_broken_exemplars_are_listed(adjoint):
    with pytest.raises(ValueError, match=r"positions \[0, 1, 2, 3, 4\], at most five"):
        adjoint(exemplars=tf.fill([6, 4, 4, 2], tf.constant(np.nan, tf.float64)), labels=tf.zeros([6], tf.int64))


def test_valid_arguments_are_not_refused(adjoint):
    assert adjoint().exemplars.shape == (5, 4, 4, 2)
    assert adjoint(labels=tf.constant(_soft_labels()), rates=tf.fill([2], 0.1)).labels.shape == (5, 3)
    assert adjoint(labels=tf.constant([0, 1, 2, 0, 1])).labels is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "adjoin"}, "engine = 'adjoin': expected one of 'adjoint', .* Did you mean 'adjoint'"),
        ({"engine": "adjoint", "window": 3}, "window = 3 .*'truncated' needs the number of last steps"),
        ({"engine": "truncated"}, "window = None .*'truncated' needs"),
        ({"engine": "truncated", "window": 0}, "window = 0: expected a whole number of at least 1"),
        ({"engine": "truncated", "window": 2.0}, r"window = 2\.0: expected a whole number"),
        ({"engine": "adjoint", "checkpoint_every": 0}, "checkpoint_every = 0: expected a whole number"),
        (
            {"engine": "unrolled", "checkpoint_every": 2},
            "checkpoint_every = 2 .*'unrolled'.* Leave it out",
        ),
        ({"engine": "unrolled", "images_at_once": 2}, "images_at_once = 2 .*'unrolled'.* Leave it out"),
        ({"engine": "adjoint", "images_at_once": 0}, "images_at_once = 0: expected a whole number"),
        ({"engine": "prototype", "checkpoint_every": 2, "features": _features}, "checkpoint_every = 2 .*'prototype'"),
        ({"engine": "head"}, "features = None.* 'head' and 'prototype' need"),
        ({"engine": "prototype"}, "features = None"),
        ({"engine": "adjoint", "features": _features}, "features = <function .* no other engine uses it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_options_that_do_not_fit_the_engine_are_usage_errors(options, message):
    with pytest.raises(UsageError, match=message):
        _engine(**options)


def test_every_engine_is_named_in_the_message_about_an_unknown_one():
    with pytest.raises(UsageError) as raised:
        _engine("nothing like it")
    assert all(repr(name) in str(raised.value) for name in ENGINES)


def test_prototype_has_no_rates_to_learn():
    engine = _engine("prototype", lambda params, features, labels: tf.reduce_sum(params[0]), features=_features)
    with pytest.raises(UsageError, match="'prototype' trains nothing: it has no rates"):
        engine(**_arguments(), rates=tf.constant(0.1))


@pytest.mark.parametrize("name", WALKS)
def test_parameter_without_influence_is_refused(name):
    arguments = _arguments()
    arguments["params"].append(tf.zeros([2], tf.float64))
    with pytest.raises(ValueError, match="inner loss does not depend on a parameter"):
        _engine(name)(**arguments)


@pytest.mark.parametrize("name", WALKS)
def test_exemplars_without_influence_are_refused(name):
    def blind_loss(params, images, labels):
        return _loss(params, tf.stop_gradient(images), labels)

    with pytest.raises(ValueError, match=r"does not depend on (a parameter or )?the exemplars"):
        _engine(name, blind_loss)(**_arguments())


@pytest.mark.parametrize("name", ["head", "prototype"])
def test_features_without_influence_are_refused(name):
    def head_loss(params, features, labels):
        return tf.reduce_mean(losses.cross_entropy(features @ params[0], labels))

    arguments = {**_arguments(), "params": [tf.ones([2, 3], tf.float64)]}
    engine = _engine(name, head_loss, features=lambda images: tf.stop_gradient(_features(images)))
    with pytest.raises(ValueError, match="network does not depend on the exemplars"):
        engine(**arguments)


@tf.custom_gradient
def _relu_squared(values):
    """A custom gradient that is a constant to further derivatives."""
    return tf.nn.relu(values) ** 2, lambda upstream: upstream * tf.stop_gradient(2 * tf.nn.relu(values))


@pytest.mark.parametrize("name", ["adjoint", "adjoint_forward"])
def test_custom_gradient_without_a_second_derivative_is_refused(name):
    def loss(params, images, labels):
        # Nothing else here has second derivatives.
        return tf.reduce_sum(_relu_squared(_features(images) @ params[0]))

    arguments = {**_arguments(), "params": [tf.ones([2, 3], tf.float64)]}
    with pytest.raises(ValueError, match=r"does not depend on .* second derivatives"):
        _engine(name, loss)(**arguments)


def _dilated(images):
    """Morphological dilation, for whose gradient TensorFlow has none."""
    ones = (1, 1, 1, 1)
    return tf.nn.dilation2d(images, tf.zeros([2, 2, images.shape[-1]], images.dtype), ones, "SAME", "NHWC", ones)


def _dilation_loss(params, images, labels):
    hidden = _dilated(tf.tanh(tf.einsum("bhwc,cr->bhwr", images, params[0])))
    return tf.reduce_mean(losses.cross_entropy(tf.reduce_mean(hidden, axis=(1, 2)) @ params[1], labels))


def _recomputed_loss(params, images, labels):
    hidden = tf.recompute_grad(tf.tanh)(tf.einsum("bhwc,cr->bhwr", images, params[0]))
    return tf.reduce_mean(losses.cross_entropy(tf.reduce_mean(hidden, axis=(1, 2)) @ params[1], labels))


@pytest.mark.parametrize(
    ("inner_loss", "reason"), [(_dilation_loss, "Dilation2DBackprop"), (_recomputed_loss, "recompute_grad")]
)
@pytest.mark.parametrize("name", WALKS)
def test_operation_that_cannot_be_differentiated_twice_is_named(name, inner_loss, reason):
    with pytest.raises(ValueError, match=f"cannot be differentiated twice .*{reason}.*'head' or 'prototype'"):
        _engine(name, inner_loss, _loss)(**_arguments())


@pytest.mark.parametrize("name", ["head", "prototype"])
def test_such_an_operation_works_inside_features(name):
    def head_loss(params, features, labels):
        return tf.reduce_mean(losses.cross_entropy(features @ params[0], labels))

    arguments = {**_arguments(), "params": [tf.ones([2, 3], tf.float64)]}
    result = _engine(name, head_loss, features=lambda images: _features(_dilated(images)))(**arguments)
    assert result.exemplars.numpy().any()


@pytest.mark.parametrize("name", WALKS)
@pytest.mark.parametrize("mistake", [KeyError("no such thing"), IndexError("out of range")], ids=repr)
def test_mistake_in_a_loss_is_not_blamed_on_derivatives(name, mistake):
    def loss(params, images, labels):
        raise mistake

    with pytest.raises(Exception, match=mistake.args[0]) as raised:
        _engine(name, loss)(**_arguments())
    assert "differentiated twice" not in str(raised.value)


def _fused_loss(params, images, labels):
    # What tf.nn.softmax_cross_entropy_with_logits is, unless another test has switched deterministic operations on.
    return tf.reduce_mean(
        tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=_logits(params, images), labels=labels).loss
    )


@pytest.mark.parametrize(
    "options", [{"engine": "adjoint"}, {"engine": "unrolled"}, {"engine": "adjoint", "checkpoint_every": 2}], ids=str
)
def test_loss_that_cuts_off_soft_labels_is_refused(options):
    arguments = {**_arguments(), "labels": tf.constant(_soft_labels())}
    with pytest.raises(ValueError, match=r"soft labels is zero everywhere.*mnemonics_tf\.losses\.cross_entropy"):
        _engine(inner_loss=_fused_loss, outer_loss=_loss, **options)(**arguments)


def test_forward_mode_differentiates_the_loss_that_cuts_off_soft_labels():
    arguments = {**_arguments(), "labels": tf.constant(_soft_labels())}
    expected = _engine("unrolled")(**arguments)
    result = _engine("adjoint_forward", _fused_loss, _loss)(**arguments)
    np.testing.assert_allclose(result.labels, expected.labels, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(result.exemplars, expected.exemplars, rtol=1e-9, atol=1e-14)
