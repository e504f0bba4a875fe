"""The meta-gradient against finite differences of the bilevel program, and its engines against one another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel import InnerSGD, MetaGradientEngine, meta_gradient

# Exemplar 5 is in no step, 0 and 3 are in the first two only, and 4 is twice in the fourth.
PLAN = np.array([[0, 1, 2], [3, 0, 4], [2, 4, 1], [4, 4, 2], [1, 2, 4]])
EXACT = {
    "adjoint": {"engine": "adjoint"},
    "adjoint_forward": {"engine": "adjoint_forward"},
    "unrolled": {"engine": "unrolled"},
    "checkpointed": {"engine": "adjoint", "checkpoint_every": 2},
    # Batches of 3 exemplars: a piece of 2 and one of 1, and three pieces of 1 in forward mode.
    "in_pieces": {"engine": "adjoint", "images_at_once": 2},
    "forward_in_pieces": {"engine": "adjoint_forward", "images_at_once": 1},
    # The last two of five steps, after a training whose states are kept in part; and all, more than there are.
    "recorded": {"engine": "adjoint", "keep_activations": 2, "checkpoint_every": 2},
    "all_recorded": {"engine": "adjoint", "keep_activations": 9},
    "window_of_all": {"engine": "truncated", "window": 9},
}
ARGUMENTS = ("exemplars", "labels", "rates")


@dataclasses.dataclass(frozen=True)
class Program:
    """The bilevel program written down once more, without the code under test, and the numbers it starts from."""

    loss: Callable
    params: list[tf.Tensor]
    exemplars: tf.Tensor
    labels: tf.Tensor
    outer_images: tf.Tensor
    outer_labels: tf.Tensor
    rates: tf.Tensor
    momentum: float = 0.5
    weight_decay: float = 0.01
    plan: np.ndarray = dataclasses.field(default_factory=PLAN.copy)

    def train(self, theta, velocity, steps, exemplars=None, labels=None, rates=None):
        exemplars = self.exemplars if exemplars is None else exemplars
        labels = self.labels if labels is None else labels
        rates = self.rates if rates is None else rates
        for t in steps:
            with tf.GradientTape() as tape:
                tape.watch(theta)
                loss = self.loss(theta, tf.gather(exemplars, self.plan[t]), tf.gather(labels, self.plan[t]))
            gradients = tape.gradient(loss, theta)
            velocity = [
                self.momentum * m + g + self.weight_decay * w
                for m, g, w in zip(velocity, gradients, theta, strict=True)
            ]
            theta = [w - rates[t] * m for w, m in zip(theta, velocity, strict=True)]
        return theta, velocity

    def state(self, t):
        """Parameters and velocity before step t."""
        return self.train(self.params, [tf.zeros_like(param) for param in self.params], range(t))

    def outer_loss(self, first=0, **changed):
        """The outer loss of a training that sees what is `changed` from step `first` on."""
        theta, _ = self.train(*self.state(first), range(first, len(self.plan)), **changed)
        return float(self.loss(theta, self.outer_images, self.outer_labels))

    def direction(self, argument):
        return np.random.default_rng(9).normal(size=getattr(self, argument).shape)

    def difference(self, argument, step, first=0):
        """The central difference along `direction`."""
        move = step * self.direction(argument)
        plus, minus = (self.outer_loss(first, **{argument: getattr(self, argument) + sign * move}) for sign in (1, -1))
        return (plus - minus) / (2 * step)

    def compile(self, **options):
        """The engine under test, for this program; called with arguments to replace."""
        sgd = InnerSGD(0.3, self.momentum, self.weight_decay)
        engine = MetaGradientEngine(self.loss, self.loss, sgd, **options)
        arguments = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("loss", "momentum", "weight_decay"):
            del arguments[name]
        return lambda **changed: engine(**{**arguments, **changed})


def _convolution_loss(params, images, labels):
    hidden = tf.tanh(tf.nn.conv2d(images, params[0], 1, "SAME") + params[1])
    logits = tf.reduce_mean(hidden, axis=(1, 2)) @ params[2]
    return tf.reduce_mean(losses.cross_entropy(logits, labels))


@pytest.fixture(scope="module")
def program():
    """A smooth network in float64, trained on soft labels with a rate for each step."""
    generator = np.random.default_rng(0)
    return Program(
        loss=_convolution_loss,
        params=[tf.constant(generator.normal(size=shape) * 0.4) for shape in ((3, 3, 2, 3), (3,), (3, 4))],
        exemplars=tf.constant(generator.normal(size=(6, 5, 5, 2))),
        labels=tf.constant(generator.dirichlet(np.ones(4), 6)),
        outer_images=tf.constant(generator.normal(size=(7, 5, 5, 2))),
        outer_labels=tf.constant([0, 1, 2, 3, 0, 1, 2], tf.int64),
        rates=tf.constant([0.3, 0.2, 0.4, 0.3, 0.1], tf.float64),
    )


@pytest.fixture(scope="module")
def plain_program(program):
    """Integer labels, and no momentum."""
    labels = tf.constant([0, 1, 2, 3, 0, 1], tf.int64)
    return dataclasses.replace(program, labels=labels, rates=tf.fill([5], tf.constant(0.3, tf.float64)), momentum=0.0)


@pytest.fixture(scope="module")
def engines(program):
    return {name: program.compile(**options) for name, options in EXACT.items()}


@pytest.fixture(scope="module")
def results(engines):
    return {name: engine() for name, engine in engines.items()}


@pytest.fixture(scope="module")
def differences(program):
    """Central differences at two steps, for each argument."""
    return {argument: [program.difference(argument, step) for step in (1e-3, 1e-4)] for argument in ARGUMENTS}


def _along(gradient, direction):
    return float(np.sum(gradient.numpy() * direction))


def _assert_same(first, second, tolerance=1e-10):
    assert np.linalg.norm(first - second) < tolerance * np.linalg.norm(second)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("name", EXACT)
def test_agrees_with_finite_differences(program, results, differences, name, argument):
    assert float(results[name].loss) == pytest.approx(program.outer_loss(), rel=1e-12)
    analytic = _along(getattr(results[name], argument), program.direction(argument))
    # Central differences err by O(h^2): a tenth of the step must leave about a hundredth of the error.
    coarse, fine = (abs(numeric / analytic - 1) for numeric in differences[argument])
    assert fine < 1e-6
    assert 30 < coarse / fine < 300


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("name", EXACT)
def test_engines_agree(results, name, argument):
    _assert_same(getattr(results[name], argument), getattr(results["unrolled"], argument))


@pytest.mark.parametrize("name", EXACT)
def test_exemplar_outside_the_plan_has_no_gradient(results, name):
    for gradient in (results[name].exemplars.numpy(), results[name].labels.numpy()):
        assert not gradient[5].any()
        assert all(gradient[index].any() for index in range(5))


@pytest.mark.parametrize("name", EXACT)
def test_shared_rate_has_the_gradient_of_all_steps_together(program, engines, name):
    rate, step = tf.Variable(0.25, dtype=tf.float64), 1e-4
    result = engines[name](rates=rate)
    assert result.rates.shape == ()
    plus, minus = (program.outer_loss(rates=np.full(5, 0.25 + sign * step)) for sign in (1, -1))
    assert float(result.rates) == pytest.approx((plus - minus) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_without_momentum_and_with_integer_labels(plain_program, name):
    result = plain_program.compile(**EXACT[name])(rates=None)
    assert result.labels is None
    assert result.rates is None
    analytic = _along(result.exemplars, plain_program.direction("exemplars"))
    coarse, fine = (abs(plain_program.difference("exemplars", step) / analytic - 1) for step in (1e-3, 1e-4))
    assert fine < 1e-6
    assert 30 < coarse / fine < 300


@pytest.mark.parametrize(("window", "checkpoint_every"), [(2, None), (3, 2)])
def test_truncated_takes_the_state_before_its_window_for_a_constant(program, window, checkpoint_every):
    result = program.compile(engine="truncated", window=window, checkpoint_every=checkpoint_every)()
    first = 5 - window
    assert float(result.loss) == pytest.approx(program.outer_loss(), rel=1e-12)
    for argument in ARGUMENTS:
        analytic = _along(getattr(result, argument), program.direction(argument))
        assert program.difference(argument, 1e-4, first) == pytest.approx(analytic, rel=1e-6)
    # Exemplars 0 and 3 are used in steps 0 and 1 only.
    assert [index for index in range(6) if result.exemplars.numpy()[index].any()] == [1, 2, 4]
    assert [index for index in range(6) if result.labels.numpy()[index].any()] == [1, 2, 4]
    assert np.flatnonzero(result.rates).tolist() == list(range(first, 5))


def test_adjoint_norms_are_lengths_of_the_gradients_at_each_step(program, results):
    expected = []
    for t in range(5, -1, -1):
        theta, velocity = program.state(t)
        with tf.GradientTape() as tape:
            tape.watch(theta)
            end, _ = program.train(theta, velocity, range(t, 5))
            loss = program.loss(end, program.outer_images, program.outer_labels)
        expected.append(np.sqrt(sum(np.sum(gradient.numpy() ** 2) for gradient in tape.gradient(loss, theta))))
    for name in ("adjoint", "adjoint_forward", "checkpointed", "recorded", "all_recorded", "window_of_all"):
        np.testing.assert_allclose(results[name].adjoint_norms, expected, rtol=1e-10)
    assert results["unrolled"].adjoint_norms is None
    truncated = program.compile(engine="truncated", window=2)()
    np.testing.assert_allclose(truncated.adjoint_norms, expected[:3], rtol=1e-10)


def _counting(loss, traces):
    def counted(params, images, labels):
        traces.append(images.shape)
        return loss(params, images, labels)

    return counted


def test_adjoint_is_traced_once_for_each_shape_of_its_batches(plain_program):
    inner, outer = [], []
    program = plain_program
    engine = MetaGradientEngine(_counting(program.loss, inner), _counting(program.loss, outer), InnerSGD(0.3))

    def new_traces(count, plan, validation):
        before = len(inner), len(outer)
        images, labels = program.outer_images[:validation], program.outer_labels[:validation]
        engine(program.params, program.exemplars[:count], program.labels[:count], plan, images, labels)
        return len(inner) > before[0], len(outer) > before[1]

    assert new_traces(6, PLAN[:1], 7) == (True, True)
    assert new_traces(5, np.tile(PLAN, (4, 1)), 7) == (False, False)
    assert new_traces(6, PLAN[:, :2], 7) == (True, False)
    assert new_traces(6, PLAN, 4) == (False, True)
    assert new_traces(6, PLAN[:2, :2], 7) == (False, False)
    assert new_traces(6, PLAN, 4) == (False, False)


def test_function_keeps_what_it_compiled(plain_program):
    program, traces = plain_program, []
    loss = _counting(program.loss, traces)
    arguments = (program.params, program.exemplars, program.labels, PLAN, program.outer_images, program.outer_labels)
    first = meta_gradient(loss, loss, *arguments, sgd=InnerSGD(0.3))
    after_first = len(traces)
    again = meta_gradient(loss, loss, *arguments, sgd=InnerSGD(0.3))
    assert 0 < after_first == len(traces)
    np.testing.assert_array_equal(again.exemplars, first.exemplars)


def test_what_is_not_kept_is_computed_once_more(plain_program):
    # 7 steps forwards and 7 back. With states 0, 3 and 6 kept, steps 0, 1, 3 and 4 are trained again.
    program, evaluations, plan = plain_program, tf.Variable(0), np.resize(PLAN, (7, 3))
    arguments = (program.params, program.exemplars, program.labels, plan, program.outer_images, program.outer_labels)

    def loss(*arguments):
        evaluations.assign_add(1)
        return program.loss(*arguments)

    # Activations of steps that were kept are not computed again: 7 steps forwards, and 3 or none back.
    cases = [({"checkpoint_every": every}, count) for every, count in ((None, 14), (1, 14), (3, 18), (9, 20))]
    for options, expected in (*cases, ({"keep_activations": 4}, 10), ({"keep_activations": 9}, 7)):
        engine = MetaGradientEngine(loss, program.loss, InnerSGD(0.3), **options)
        engine(*arguments)  # the first call also looks at the second derivatives
        evaluations.assign(0)
        engine(*arguments)
        assert int(evaluations) == expected


_FROZEN_WEIGHTS = np.random.default_rng(4).normal(size=(8, 3))


def _features(images):
    """The frozen network: images `[B, 2, 2, 2]` to `[B, 3]`."""
    return tf.tanh(tf.reshape(images, [-1, 8]) @ _FROZEN_WEIGHTS)


def _head_loss(params, features, labels):
    return tf.reduce_mean(losses.cross_entropy(features @ params[0] + params[1], labels))


@pytest.fixture(scope="module")
def head_program():
    """A classifier's training on frozen features, with more images than go through the network at once (256)."""
    generator = np.random.default_rng(5)
    return Program(
        loss=lambda params, images, labels: _head_loss(params, _features(images), labels),
        params=[tf.constant(generator.normal(size=shape)) for shape in ((3, 4), (4,))],
        exemplars=tf.constant(generator.normal(size=(270, 2, 2, 2))),
        labels=tf.constant(generator.dirichlet(np.ones(4), 270)),
        outer_images=tf.constant(generator.normal(size=(260, 2, 2, 2))),
        outer_labels=tf.constant(generator.integers(0, 4, 260)),
        rates=tf.constant([0.3, 0.5, 0.2], tf.float64),
        plan=generator.permutation(268)[:264].reshape(3, 88),
    )


@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_head_is_adjoint_of_the_classifiers_training(head_program, checkpoint_every):
    expected = head_program.compile(engine="adjoint")()
    head = dataclasses.replace(head_program, loss=_head_loss)
    result = head.compile(engine="head", features=_features, checkpoint_every=checkpoint_every)()
    assert float(result.loss) == pytest.approx(head_program.outer_loss(), rel=1e-12)
    for argument in ARGUMENTS:
        gradient = getattr(result, argument)
        _assert_same(gradient, getattr(expected, argument))
        analytic = _along(gradient, head_program.direction(argument))
        assert head_program.difference(argument, 1e-4) == pytest.approx(analytic, rel=1e-6)
    np.testing.assert_allclose(result.adjoint_norms, expected.adjoint_norms, rtol=1e-10)
    unused = np.setdiff1d(np.arange(270), head_program.plan)
    assert len(unused) == 6
    assert not result.exemplars.numpy()[unused].any()


def _prototype_loss(params, features, labels):
    return tf.reduce_mean(losses.cross_entropy(5.0 * tf.math.l2_normalize(features, axis=1) @ params[0], labels))


def _class_mean_loss(images, weights, used, outer_images, outer_labels):
    """Cross-entropy of 5 times the cosines with the class means, in NumPy; `weights` `[n, K]` are the labels."""

    def directions(values):
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)

    embeddings, outer = (np.tanh(values.reshape(-1, 8) @ _FROZEN_WEIGHTS) for values in (images, outer_images))
    means = directions(weights[used].T @ directions(embeddings)[used])
    logits = 5 * directions(outer) @ means.T
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), outer_labels])


@pytest.fixture(scope="module")
def prototype_data():
    """Images of classes 0..4, where class 3 is in no step of the plan and class 4 has no exemplar at all."""
    generator = np.random.default_rng(6)
    labels = np.array([0, 1, 2, 0, 1, 3])
    plan = np.array([[0, 1, 2], [4, 0, 3]])
    return generator.normal(size=(6, 2, 2, 2)), labels, plan, generator.normal(size=(9, 2, 2, 2)), np.arange(9) % 5


@pytest.mark.parametrize("soft", [False, True])
def test_prototype_does_not_depend_on_the_numbers_of_classes(prototype_data, soft):
    # Classes 0 to 19 are known, and nothing here is of them.
    images, labels, plan, outer_images, outer_labels = prototype_data

    def found(shift: int):
        given = np.eye(5 + shift)[labels + shift] if soft else labels + shift
        engine = MetaGradientEngine(_prototype_loss, _prototype_loss, InnerSGD(0.1), "prototype", features=_features)
        return engine(
            [], *map(tf.constant, (images, given)), plan, *map(tf.constant, (outer_images, outer_labels + shift))
        )

    first, shifted = found(0), found(20)
    assert float(first.loss) == pytest.approx(float(shifted.loss), rel=1e-12)
    np.testing.assert_allclose(first.exemplars, shifted.exemplars, atol=1e-14)
    if soft:
        np.testing.assert_allclose(first.labels, shifted.labels[:, 20:], atol=1e-14)
        assert not shifted.labels.numpy()[:, :20].any()


@pytest.mark.parametrize("soft", [False, True])
def test_prototype_differentiates_the_class_means(prototype_data, soft):
    images, labels, plan, *outer = prototype_data
    weights = np.eye(5)[labels]
    if soft:
        labels = weights = np.random.default_rng(7).dirichlet(np.ones(5), 6)
    engine = MetaGradientEngine(_prototype_loss, _prototype_loss, InnerSGD(0.1), "prototype", features=_features)
    result = engine([], tf.constant(images), tf.constant(labels), plan, *map(tf.constant, outer))
    used = np.arange(5)
    assert float(result.loss) == pytest.approx(_class_mean_loss(images, weights, used, *outer), rel=1e-10)
    moves = np.random.default_rng(8)
    by_image, by_weight = 1e-4 * moves.normal(size=images.shape), 1e-4 * moves.normal(size=weights.shape)
    for gradient, moved in ((result.exemplars, (by_image, 0)), (result.labels, (0, by_weight)))[: 1 + soft]:
        plus, minus = (
            _class_mean_loss(images + sign * moved[0], weights + sign * moved[1], used, *outer) for sign in (1, -1)
        )
        assert (plus - minus) / 2 == pytest.approx(_along(gradient, sum(moved)), rel=1e-6)
        assert not gradient.numpy()[5].any()
    assert (result.labels is not None) == soft
