"""The meta-gradient against finite differences, closed forms and itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.meta_gradient import ENGINES, MetaGradientEngine, inner_plan
from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call, parameters
from mnemonics_tf.models.resnet import ResNet

SGD = InnerSGD(learning_rate=0.3, momentum=0.5, weight_decay=0.01)
PLAN = np.array([[0, 1, 2], [3, 0, 4], [2, 4, 1]])


class Problem:
    """A smooth network in float64, with exemplars and validation images. Exemplar 5 is in no inner step."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.params = [tf.constant(generator.normal(size=shape) * 0.4) for shape in ((3, 3, 2, 3), (3,), (3, 4))]
        self.exemplars = tf.constant(generator.normal(size=(6, 5, 5, 2)))
        self.labels = tf.constant([0, 1, 2, 3, 0, 1], tf.int64)
        self.outer_images = tf.constant(generator.normal(size=(7, 5, 5, 2)))
        self.outer_labels = tf.constant([0, 1, 2, 3, 0, 1, 2], tf.int64)
        self.direction = generator.normal(size=(6, 5, 5, 2))

    @staticmethod
    def loss(params, images, labels):
        hidden = tf.tanh(tf.nn.conv2d(images, params[0], 1, "SAME") + params[1])
        logits = tf.reduce_mean(hidden, axis=(1, 2)) @ params[2]
        return tf.reduce_mean(losses.cross_entropy(logits, labels))

    def engine(self, name):
        return MetaGradientEngine(self.loss, self.loss, SGD, self.params, (5, 5, 2), name)

    def meta_gradient(self, engine):
        return engine(self.params, self.exemplars, self.labels, PLAN, self.outer_images, self.outer_labels)

    def outer_loss(self, exemplars):
        """The bilevel program written down once more, without the code under test: float64, step by step."""
        theta = [tf.Variable(param) for param in self.params]
        velocity = [np.zeros(param.shape) for param in self.params]
        for indices in PLAN:
            with tf.GradientTape() as tape:
                loss = self.loss(theta, tf.gather(exemplars, indices), tf.gather(self.labels, indices))
            for i, gradient in enumerate(tape.gradient(loss, theta)):
                velocity[i] = 0.5 * velocity[i] + gradient.numpy() + 0.01 * theta[i].numpy()
                theta[i].assign_sub(0.3 * velocity[i])
        return float(self.loss(theta, self.outer_images, self.outer_labels))

    def directional_difference(self, step):
        plus = self.outer_loss(self.exemplars + step * self.direction)
        return (plus - self.outer_loss(self.exemplars - step * self.direction)) / (2 * step)


@pytest.fixture(scope="module")
def problem():
    return Problem()


@pytest.fixture(scope="module")
def results(problem):
    return {name: problem.meta_gradient(problem.engine(name)) for name in ENGINES}


@pytest.mark.parametrize("name", ENGINES)
def test_agrees_with_finite_differences(problem, results, name):
    expected_loss = problem.outer_loss(problem.exemplars)
    assert float(results[name].loss) == pytest.approx(expected_loss, rel=1e-12)
    analytic = float(tf.reduce_sum(results[name].exemplars * problem.direction))
    # Central differences err by O(h^2): a tenth of the step must leave about a hundredth of the error.
    coarse, fine = (abs(problem.directional_difference(step) / analytic - 1) for step in (1e-3, 1e-4))
    assert fine < 1e-6
    assert 30 < coarse / fine < 300


def test_engines_agree(results):
    first, second = (results[name].exemplars.numpy() for name in ENGINES)
    assert np.linalg.norm(first - second) < 1e-10 * np.linalg.norm(first)


@pytest.mark.parametrize("name", ENGINES)
def test_exemplar_outside_the_plan_has_no_gradient(results, name):
    gradient = results[name].exemplars.numpy()
    assert not gradient[5].any()
    assert all(gradient[index].any() for index in range(5))


@pytest.mark.parametrize("name", ENGINES)
def test_quadratic_problem_has_the_closed_form(name):
    # Inner loss |theta - mean(x)|^2 / 2: with rate a, theta_T = (1-a)^T theta_0 + (1 - (1-a)^T) mean(x), if every step
    # sees all n exemplars. Outer loss |theta - y|^2 / 2, so dL/dx_j = (theta_T - y) (1 - (1-a)^T) / n.
    rate, steps, count = 0.2, 7, 4
    generator = np.random.default_rng(1)
    theta, target = generator.normal(size=3), generator.normal(size=3)
    images = generator.normal(size=(count, 1, 1, 3))

    def loss(params, images, labels):
        return tf.reduce_sum((params[0] - tf.reduce_mean(images, axis=(0, 1, 2))) ** 2) / 2

    params = [tf.constant(theta)]
    engine = MetaGradientEngine(loss, loss, InnerSGD(rate), params, (1, 1, 3), name)
    plan = np.tile(np.arange(count), (steps, 1))
    labels = tf.zeros([count], tf.int64)
    result = engine(params, tf.constant(images), labels, plan, tf.constant(target.reshape(1, 1, 1, 3)), labels[:1])
    kept = (1 - rate) ** steps
    final = kept * theta + (1 - kept) * images.mean(axis=(0, 1, 2))
    assert float(result.loss) == pytest.approx(((final - target) ** 2).sum() / 2, rel=1e-12)
    expected = np.tile((final - target) * (1 - kept) / count, (count, 1)).reshape(images.shape)
    np.testing.assert_allclose(result.exemplars.numpy(), expected, rtol=1e-10)


def test_keras_network_with_frozen_batch_norm_agrees_with_finite_differences():
    network = ResNet(blocks=(1, 1), widths=(3, 4))
    model = Classifier(network.build((6, 6, 1), dtype="float64"), 0, 3)
    generator = np.random.default_rng(2)
    for layer in model.backbone.layers:
        if hasattr(layer, "moving_mean"):  # statistics of a network that was trained
            layer.moving_mean.assign(generator.normal(size=layer.moving_mean.shape) * 0.1)
            layer.moving_variance.assign(generator.uniform(0.5, 2, size=layer.moving_variance.shape))
    params = parameters(model)
    labels = tf.constant([0, 1, 2, 1], tf.int64)
    exemplars = tf.constant(generator.normal(size=(4, 6, 6, 1)))
    outer = tf.constant(generator.normal(size=(4, 6, 6, 1)))
    direction = generator.normal(size=exemplars.shape)
    plan = np.array([[0, 1], [2, 3]])

    def loss(theta, images, labels):
        return tf.reduce_mean(losses.cross_entropy(functional_call(model, theta, images).logits, labels))

    engine = MetaGradientEngine(loss, loss, InnerSGD(0.1), params, (6, 6, 1))

    def outer_loss(images):
        return float(engine(params, images, labels, plan, outer, labels).loss)

    analytic = float(tf.reduce_sum(engine(params, exemplars, labels, plan, outer, labels).exemplars * direction))
    # ReLUs have kinks, which a step this small does not cross.
    step = 1e-6
    numeric = (outer_loss(exemplars + step * direction) - outer_loss(exemplars - step * direction)) / (2 * step)
    assert numeric == pytest.approx(analytic, rel=1e-6)


def test_adjoint_is_traced_once_for_any_number_of_steps(problem):
    traces = []

    def counting_loss(params, images, labels):
        traces.append(images.shape)
        return problem.loss(params, images, labels)

    engine = MetaGradientEngine(counting_loss, counting_loss, SGD, problem.params, (5, 5, 2))
    batch = (problem.outer_images, problem.outer_labels)
    engine(problem.params, problem.exemplars, problem.labels, PLAN[:1], *batch)
    after_first = len(traces)
    engine(problem.params, problem.exemplars, problem.labels, np.tile(PLAN, (4, 1)), *batch)
    # A smaller batch and fewer exemplars: the last class chunk of a phase.
    engine(problem.params, problem.exemplars[:5], problem.labels[:5], PLAN[:, :2], *batch)
    assert len(traces) == after_first


@pytest.mark.parametrize("plan", [np.zeros((0, 3), int), np.array([0, 1]), np.array([[0, 6]]), np.array([[-1, 0]])])
def test_impossible_plan_is_refused(problem, plan):
    with pytest.raises(ValueError, match="plan"):
        problem.engine("adjoint")(
            problem.params, problem.exemplars, problem.labels, plan, problem.outer_images, problem.outer_labels
        )


def test_parameter_without_influence_is_refused(problem):
    params = [*problem.params, tf.zeros([2], tf.float64)]
    engine = MetaGradientEngine(problem.loss, problem.loss, SGD, params, (5, 5, 2))
    with pytest.raises(ValueError, match="does not depend"):
        engine(params, problem.exemplars, problem.labels, PLAN, problem.outer_images, problem.outer_labels)


def test_unknown_engine_names_the_nearest(problem):
    with pytest.raises(UsageError, match="Did you mean 'adjoint'"):
        problem.engine("adjoin")


def test_plan_uses_every_exemplar_before_any_twice():
    plan = inner_plan(10, 5, 3, np.random.default_rng(0))
    assert plan.shape == (5, 3)
    assert all(len(set(step)) == 3 for step in plan)
    # A round of 10 exemplars fills three steps of 3.
    assert len(set(plan[:3].ravel())) == 9
    assert len(set(plan[3:].ravel())) == 6


def test_plan_of_few_exemplars_takes_all_of_them():
    plan = inner_plan(3, 2, 64, np.random.default_rng(0))
    assert [sorted(step) for step in plan] == [[0, 1, 2], [0, 1, 2]]
