"""The objective `next_phase`: what is simulated, by which losses, and what learning by it does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from test_optimiser import PIXELS, Notes, three_classes

from mnemonics_tf import losses
from mnemonics_tf.bilevel.problem import MetaGradient
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import codec_of
from mnemonics_tf.memory.optimising.forgetting import ForgettingNetworks
from mnemonics_tf.memory.optimising.next_phase import SimulatedNextPhase
from mnemonics_tf.memory.optimising.objective_settings import NextPhase
from mnemonics_tf.memory.optimising.optimiser import ExemplarOptimiser
from mnemonics_tf.memory.optimising.pseudo_phases import PseudoPhases
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.simulation import LaterPhase, Simulation
from mnemonics_tf.memory.optimising.tasks import UnsuitableError
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import seeds

LUCIR_PHASE = LaterPhase(LUCIR(less_forget_weight=2.0, margin_weight=0.0).losses, True, True, False)
LEVEL = ExemplarLevel(
    objective="next_phase",
    optimiser="adam",
    learning_rate=0.05,
    epochs=3,
    steps_per_epoch=3,
    batch_size=90,
    inner_steps=2,
    inner_batch_size=8,
    inner_learning_rate=0.1,
)
NOTHING = three_classes(1, seed=0).take(np.zeros(0, int))


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(1, 2)


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_rows_that_are_not_imprinted_begin_as_heads_do(model):
    phase = dataclasses.replace(LUCIR_PHASE, imprints=False)
    simulation = Simulation(model, "frozen", phase, 1)
    simulation.draw(np.array([1]))
    phases = PseudoPhases(simulation, PIXELS, three_classes(30, seed=2), 0, 0, "learn")
    (kernel,) = (
        value.numpy()
        for value, variable in zip(phases.start(np.random.default_rng(0)), simulation.variables, strict=True)
        if variable is model.head.new_kernel
    )
    # Uniform in +-1 / sqrt(6), whatever the length of the others.
    assert 0.2 < np.abs(kernel[:, 0]).max() < 6**-0.5
    np.testing.assert_array_equal(kernel[:, 1], model.head.new_kernel.numpy()[:, 1])


def test_weight_transfer_holds_kernels_and_leaves_the_rest_to_batch_norm():
    tf.keras.utils.set_random_seed(0)
    network = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1), scale_form="per_neuron")
    model = network.build(1, 2)
    plain = Simulation(model, "frozen", LUCIR_PHASE, 1)
    simulation = Simulation(model, "frozen", dataclasses.replace(LUCIR_PHASE, transfers=True), 1)
    kernels = [layer.kernel for layer in model.scale_shift_layers]
    names = {each.path for each in simulation.variables}
    assert names == {each.path for each in plain.variables} - {each.path for each in kernels}
    assert any("gamma" in name for name in names)
    data = three_classes(2, seed=1)
    images = tf.constant((data.images.astype(np.float32) / 255 - 0.5) / 0.25)
    labels = tf.constant(simulation.draw(np.array([0]))[data.labels])
    plain.draw(np.array([0]))
    directions = _units(np.random.default_rng(0).normal(size=(3, 6))).T
    found, expected = (each.inner_loss(each.start(directions), images, labels) for each in (simulation, plain))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_pseudo_new_classes_begin_without_the_correction_that_was_fitted_to_them():
    tf.keras.utils.set_random_seed(0)
    model = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1), head="linear", corrected=True).build(1, 2)
    model.head.new_gain.assign([0.6, 0.8])  # of classes 1 and 2
    model.head.new_offset.assign([-1.5, 0.3])
    lwf = LaterPhase(LwF().losses, False, False, True)
    simulation = Simulation(model, "frozen", lwf, 1)
    place_of = simulation.draw(np.array([1]))
    images = tf.constant(np.random.default_rng(0).normal(size=(5, 6, 6, 1)), tf.float32)
    start = simulation.start(np.ones((6, 3), np.float32))
    logits = simulation._call(start, images).logits.numpy()
    features = simulation.features(images).numpy()
    np.testing.assert_allclose(logits[:, place_of[1]], features.sum(axis=1), atol=1e-5)  # its bias begins at 0
    own = features @ model.head.new_kernel.numpy()[:, 1] + model.head.new_bias.numpy()[1]
    np.testing.assert_allclose(logits[:, place_of[2]], 0.8 * own + 0.3, atol=1e-5)


def test_phase_starts_from_the_network_with_new_weights_of_new_classes(model):
    simulation = Simulation(model, "frozen", LUCIR_PHASE, 1)
    # Pseudo-old ones are 0 and 2, then comes 1.
    assert simulation.draw(np.array([1])).tolist() == [0, 2, 1]
    directions = _units(np.random.default_rng(0).normal(size=(3, 6))).T
    kernel = model.head.by_class("kernel").numpy()
    for value, variable in zip(simulation.start(directions), model.trainable_variables, strict=True):
        expected = variable.numpy()
        if variable is model.head.new_kernel:  # classes 1 and 2
            length = np.mean([np.linalg.norm(kernel[:, label]) for label in (0, 2)])
            expected = np.stack([directions[:, 1] * length, kernel[:, 2]], axis=1)
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_losses_are_the_methods_with_pseudo_old_classes_first(model):
    simulation = Simulation(model, "frozen", LUCIR_PHASE, 1)
    place_of = simulation.draw(np.array([0]))
    data = three_classes(2, seed=1)
    images = tf.constant((data.images.astype(np.float32) / 255 - 0.5) / 0.25)
    labels = tf.constant(place_of[data.labels])
    generator = np.random.default_rng(0)
    directions = _units(generator.normal(size=(3, 6))).T
    params = [each + 0.05 * generator.normal(size=each.shape) for each in simulation.start(directions)]

    # By hand: a copy with these weights, whose logits are put in the order 1, 2, 0.
    copy = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(1, 2)
    copy.set_weights(model.get_weights())
    for variable, value in zip(copy.trainable_variables, params, strict=True):
        variable.assign(value)
    # Classes 1 and 2 are pseudo-old: LUCIR holds their weights as they are, whatever becomes of the parameters.
    copy.head.new_kernel.assign(model.head.new_kernel)
    own, teacher = copy(images, training=False), model(images, training=False)
    logits = own.logits.numpy()[:, [1, 2, 0]]
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), labels]
    turned = 1 - np.sum(_units(own.features.numpy()) * _units(teacher.features.numpy()), axis=1)
    expected = cross_entropy.mean() + 2.0 * np.sqrt(2 / 1) * turned.mean()
    params = list(map(tf.constant, map(np.float32, params)))
    assert float(simulation.inner_loss(params, images, labels)) == pytest.approx(expected, rel=1e-4)
    assert float(simulation.outer_loss(params, images, labels)) == pytest.approx(cross_entropy.mean(), rel=1e-4)

    # LUCIR trains the weights of the new class alone, which is class 0 here.
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss = simulation.inner_loss(params, images, labels)
    for gradient, variable in zip(tape.gradient(loss, params), model.trainable_variables, strict=True):
        if variable is model.head.new_kernel:
            np.testing.assert_array_equal(gradient, 0)
        elif variable is model.head.old_kernel:
            assert np.abs(gradient).max() > 0


def test_distillation_is_differentiated_by_the_teachers_answers_too():
    generator = np.random.default_rng(0)
    logits, teacher = (tf.constant(generator.normal(size=(1, 4))) for _ in range(2))

    def mixed() -> np.ndarray:
        """d^2 loss / (d logits d teacher), `[4, 4]`."""
        with tf.GradientTape() as outer:
            outer.watch(teacher)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                loss = losses.distillation(logits, teacher, 2.0)
            gradient = tape.gradient(loss, logits)[0]
        return outer.jacobian(gradient, teacher).numpy()[:, 0]

    with losses.differentiated_twice():
        found = mixed()
    # The gradient by logits is (softmax(logits / 2) - q) / 2 with q = softmax(teacher / 2); dq = (diag(q) - q q^T) / 2.
    q = np.exp(teacher.numpy()[0] / 2)
    q /= q.sum()
    np.testing.assert_allclose(found, -(np.diag(q) - np.outer(q, q)) / 4, atol=1e-12)


def _optimiser(model, notes, old=NOTHING, phase=LUCIR_PHASE, level=LEVEL, **settings) -> ExemplarOptimiser:
    objective = SimulatedNextPhase(model, PIXELS, level, NextPhase(**settings), phase, old)
    return ExemplarOptimiser(model, PIXELS, level, notes, objective=objective)


def test_learning_for_the_same_draws_lowers_the_loss_after_the_phase(model):
    notes = Notes()
    initial, data = three_classes(4, seed=1), three_classes(30, seed=2)
    learned = _optimiser(model, notes, paired=True, draws=2).learn(initial, data, seed=0)
    losses_of = [notes.scalars["learn_exemplars", epoch]["meta_loss"] for epoch in (1, 3)]
    assert losses_of[1] < losses_of[0]
    assert np.abs(learned.images - initial.images).max() > 1


def test_method_that_distils_is_simulated_where_only_one_class_arrives(model):
    # Classes 0 and 1 are known; their exemplars stand for images. LwF trains all of the head, whose rows are redrawn.
    lwf = LwF()
    phase = LaterPhase(lwf.losses, True, False, True)
    everything = three_classes(12, seed=1)
    old, arriving = everything.of_classes([0, 1]), everything.of_classes([2])
    level = dataclasses.replace(LEVEL, epochs=1, steps_per_epoch=2)
    initial = arriving.take(np.arange(4))
    learned = _optimiser(model, Notes(), old, phase, level, draws=3).learn(initial, arriving, seed=0)
    np.testing.assert_array_equal(learned.labels, [2] * 4)
    assert np.abs(learned.images - initial.images).max() > 0.5


def test_gradient_is_that_of_the_loss_after_the_phase_and_the_same_in_pieces_of_batches():
    # A smooth network: where a ReLU changes sides the inner steps jump, and with them the loss after the phase.
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    smooth = [layers.Input((6, 6, 1)), layers.Conv2D(6, 3, activation="tanh"), layers.GlobalAveragePooling2D()]
    model = ClassifierFactory(Backbone(tf.keras.Sequential(smooth)), (6, 6, 1)).build(1, 2)
    initial, data = three_classes(4, seed=1), three_classes(30, seed=2)
    method = LUCIR()
    phase = LaterPhase(method.losses, True, True, False, method.averages_images)

    def task_of(level: ExemplarLevel):
        return SimulatedNextPhase(model, PIXELS, level, NextPhase(), phase, NOTHING).task(initial, data, 0, "learn")

    def meta_of(task, images: np.ndarray) -> MetaGradient:
        exemplars = LabelledImages(images.astype(np.float32), initial.labels)
        variables = ExemplarVariables(exemplars, 3, codec_of(1, False), PIXELS, LEVEL)
        return task.step(variables, 0, np.random.default_rng(0)).meta

    task = task_of(LEVEL)
    gradient = meta_of(task, initial.images).exemplars.numpy()
    # Along itself: from the pixels to the loss of real images after the simulated phase.
    length = np.linalg.norm(gradient)
    step = 0.03 * gradient / length * 255 * 0.25  # in grey levels; gradients are of normalised pixels
    ends = [float(meta_of(task, initial.images + sign * step).loss) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 0.06 == pytest.approx(length, rel=2e-3)

    # Where a piece holds rehearsed images alone, or none, their mean in the ranking counts otherwise.
    in_pieces = meta_of(task_of(dataclasses.replace(LEVEL, images_at_once=2)), initial.images).exemplars.numpy()
    np.testing.assert_allclose(in_pieces, gradient, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("alternating", [False, True])
def test_half_of_each_batch_is_memory_however_few_exemplars_there_are(model, alternating):
    at_hand = three_classes(30, seed=2)
    phases = PseudoPhases(Simulation(model, "frozen", LUCIR_PHASE, 1), PIXELS, at_hand, 0, 0, "learn")
    exemplars = three_classes(2, seed=1)
    images = tf.constant(exemplars.images, tf.float32)
    _, labels, plan = phases.training(
        images, exemplars.labels, np.array([1]), tf.identity, 5, 32, np.random.default_rng(0), alternating
    )
    # Four exemplars play old classes, where a batch has room for sixteen.
    assert plan.shape == (5, 8)
    np.testing.assert_array_equal((labels[plan] == 1).sum(axis=1), 4)
    np.testing.assert_array_equal((plan < 6).sum(axis=1), 4)


def test_draws_go_round_all_classes(model):
    phases = PseudoPhases(Simulation(model, "frozen", LUCIR_PHASE, 1), PIXELS, three_classes(30, seed=2), 0, 0, "learn")
    drawn = np.array([phases.new_classes(index) for index in range(9)]).reshape(3, 3)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), [[0, 1, 2]] * 3)
    assert len(np.unique(drawn, axis=0)) > 1


def test_networks_of_simulated_phases_are_those_of_plain_sgd(model):
    """LwF without a teacher: cross-entropy of all classes. The steps are repeated here by hand, on a copy."""
    level = dataclasses.replace(LEVEL, inner_steps=3, inner_batch_size=6, inner_learning_rate=0.5, inner_momentum=0.4)
    exemplars, data = three_classes(4, seed=1), three_classes(30, seed=2)
    plain = LaterPhase(LwF().losses, False, False, True)
    networks = ForgettingNetworks(model, PIXELS, level, plain, NOTHING).after(2, exemplars, data, 0, "learn")
    assert [len(each.new_classes) for each in networks] == [1] * 4
    assert networks[0].new_classes == networks[1].new_classes != networks[2].new_classes

    draws = seeds.generator(0, "learn", "later_phase", 0)
    phases = PseudoPhases(Simulation(model, "frozen", plain, 1), PIXELS, data, 0, 0, "learn")
    phases.simulation.draw(phases.new_classes(0))
    memory = (exemplars.images.astype(np.float32) / 255 - 0.5) / 0.25
    shown, labels, plan = phases.training(memory, exemplars.labels, phases.new_classes(0), tf.identity, 3, 6, draws)
    # Half of each batch are exemplars of old classes, the other half images of the new one.
    assert [[bool(row < 12) for row in rows] for rows in plan] == [[True] * 3 + [False] * 3] * 3
    assert all((labels[rows] == phases.new_classes(0)).tolist() == [False] * 3 + [True] * 3 for rows in plan)
    copy = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(1, 2)
    copy.set_weights(model.get_weights())
    for variable, value in zip(copy.trainable_variables, phases.start(draws), strict=True):
        variable.assign(value)
    velocity = [0.0] * len(copy.trainable_variables)
    for step, rows in enumerate(plan):
        with tf.GradientTape() as tape:
            logits = copy(tf.gather(shown, rows), training=False).logits
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[rows], logits))
        gradients = tape.gradient(loss, copy.trainable_variables)
        for place, (variable, gradient) in enumerate(zip(copy.trainable_variables, gradients, strict=True)):
            velocity[place] = 0.4 * velocity[place] + gradient
            variable.assign_sub(0.5 * velocity[place])
        if step:  # after two steps, and after three
            for name, value in networks[step - 1].weights.items():
                np.testing.assert_allclose(value, copy.named_weights()[name], atol=1e-5, err_msg=name)


def test_single_class_cannot_play_both(model):
    one = LabelledImages(np.zeros((3, 6, 6, 1), np.uint8), np.zeros(3, np.int64))
    with pytest.raises(UnsuitableError, match="needs two classes at hand"):
        _optimiser(model, Notes()).learn(one, one, seed=0)


def test_numbers_of_new_classes():
    assert [NextPhase().num_new(count) for count in (2, 9, 10, 50)] == [1, 1, 2, 10]
    assert NextPhase(new_classes=4).num_new(3) == 2
    NextPhase(new_classes=4).check_classes(5)
    with pytest.raises(
        UsageError, match=r"NextPhase\.new_classes = 4: of 4 classes that are learned together none is left"
    ):
        NextPhase(new_classes=4).check_classes(4)


@pytest.mark.parametrize("settings", [{"new_classes": 0}, {"draws": 0}, {"paired": 1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match=f"NextPhase.{next(iter(settings))}"):
        NextPhase(**settings)
