"""Learning and adjusting exemplars on a small network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.bilevel import Truncated
from mnemonics_tf.checks import DivergedError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.codecs import codec_of
from mnemonics_tf.memory.optimising.chunks import class_chunks
from mnemonics_tf.memory.optimising.optimiser import ExemplarOptimiser, split_within_classes
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import snapshots
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker

PIXELS = PixelRange((0.5,), (0.25,))
SETTINGS = ExemplarLevel(
    epochs=15,
    learning_rate=20.0,
    adjust_learning_rate=20.0,
    batch_size=90,
    inner_steps=3,
    inner_batch_size=4,
    inner_learning_rate=0.1,
)


def three_classes(per_class: int, seed: int) -> LabelledImages:
    """Noisy 6x6 images of three classes: a bright row at the top, in the middle or at the bottom."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    images = generator.normal(110, 40, (len(labels), 6, 6, 1))
    for label in range(3):
        images[labels == label, 2 * label] += 60
    return LabelledImages(np.clip(images, 0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(0)
    return ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(0, 3)


@pytest.fixture(scope="module")
def optimiser(model):
    return ExemplarOptimiser(model, PIXELS, SETTINGS, Tracker())


class Notes(Tracker):
    """Keeps what TensorBoard would show."""

    def __init__(self):
        super().__init__()
        self.scalars = {}

    def phase_scalars(self, stage, values, step):
        self.scalars[stage, step] = dict(values)


def learned_with(model, factor=1, **settings):
    """Exemplars after 4 epochs with other settings, and the scalars that were logged."""
    notes = Notes()
    changed = dataclasses.replace(SETTINGS, epochs=4, **settings)
    optimiser = ExemplarOptimiser(model, PIXELS, changed, notes, codec_of(factor, False))
    learned = optimiser.learn(three_classes(4, seed=1), three_classes(60, seed=2), seed=0)
    return learned, notes.scalars


def loss_after_training_on(model, exemplars, held_out):
    """Held-out loss after plain gradient descent on the exemplars, without the code under test."""
    copy = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(0, 3)
    copy.set_weights(model.get_weights())

    def loss(data):
        logits = copy((data.images.astype(np.float32) / 255 - 0.5) / 0.25).logits
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(data.labels, logits))

    for step in range(SETTINGS.inner_steps):
        batch = exemplars.take(np.arange(step, 12, SETTINGS.inner_steps))
        with tf.GradientTape() as tape:
            value = loss(batch)
        for variable, gradient in zip(
            copy.trainable_variables, tape.gradient(value, copy.trainable_variables), strict=True
        ):
            variable.assign_sub(0.1 * gradient)
    return float(loss(held_out))


def test_learned_exemplars_train_a_better_model(optimiser, model):
    initial = three_classes(4, seed=1)
    learned = optimiser.learn(initial, three_classes(60, seed=2), seed=0)
    held_out = three_classes(100, seed=3)
    before, after = (loss_after_training_on(model, exemplars, held_out) for exemplars in (initial, learned))
    assert after < before - 0.01


def test_learned_exemplars_are_storable_and_the_network_is_untouched(optimiser, model):
    weights = [weight.copy() for weight in model.get_weights()]
    initial = three_classes(4, seed=1)
    learned = optimiser.learn(initial, three_classes(60, seed=2), seed=0)
    assert learned.images.dtype == np.float32
    assert learned.images.min() >= 0
    assert learned.images.max() <= 255
    np.testing.assert_array_equal(learned.labels, initial.labels)
    assert np.abs(learned.images - initial.images).max() > 1  # survives rounding to uint8
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_adjusting_changes_every_class_and_keeps_the_order(optimiser):
    old = three_classes(4, seed=1)
    adjusted = optimiser.adjust(old, seed=0)
    np.testing.assert_array_equal(adjusted.labels, old.labels)
    change = np.abs(adjusted.images - old.images).max(axis=(1, 2, 3))
    assert (change > 0.1).all()


def test_old_exemplars_have_epochs_of_their_own(model):
    notes, settings = Notes(), dataclasses.replace(SETTINGS, engine="prototype", epochs=2, adjust_epochs=3)
    optimiser = ExemplarOptimiser(model, PIXELS, settings, notes)
    optimiser.learn(three_classes(4, seed=1), three_classes(60, seed=2), seed=0)
    optimiser.adjust(three_classes(4, seed=1), seed=0)
    epochs = {stage: max(step for other, step in notes.scalars if other == stage) for stage, _ in notes.scalars}
    assert epochs == {"learn_exemplars": 2, "adjust_exemplars_part1": 3, "adjust_exemplars_part2": 3}


def test_same_seed_gives_the_same_exemplars(optimiser):
    initial, data = three_classes(4, seed=1), three_classes(60, seed=2)
    first, second = (optimiser.learn(initial, data, seed=7).images for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_parts_hold_every_class_and_are_disjoint():
    labels = np.array([0] * 5 + [1] * 4 + [2] * 7)
    parts = split_within_classes(labels, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(16))
    # 5 = 2+2+1, 4 = 2+1+1, 7 = 3+2+2: shares of a class differ by one at most.
    for part in parts:
        counts = np.bincount(labels[part], minlength=3)
        assert (counts >= [1, 1, 2]).all()
        assert (counts <= [2, 2, 3]).all()


def test_class_with_too_few_exemplars_cannot_be_split():
    with pytest.raises(ValueError, match="Class index 1 has 1 exemplars"):
        split_within_classes(np.array([0, 0, 1]), 2, np.random.default_rng(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "head", "inner_learning_rate": 1.0},
        {"engine": "prototype"},
        {"engine": "truncated", "window": 2},
        # All data and all exemplars in each step: losses of different draws differ by more than is learned here.
        {"batch_norm": "batch", "batch_size": 180, "inner_batch_size": 12},
        {"augmentation": ("flip", "crop", "colour")},
    ],
    ids=str,
)
def test_every_way_of_learning_lowers_its_meta_loss(model, settings):
    learned, scalars = learned_with(model, **settings)
    losses = [scalars["learn_exemplars", epoch]["meta_loss"] for epoch in (1, 4)]
    if "augmentation" not in settings:  # whose losses are of other images each time
        assert losses[1] < losses[0]
    assert np.abs(learned.images - three_classes(4, seed=1).images).max() > 0.5


def test_norms_of_the_gradient_and_the_adjoint_are_logged(model):
    _, scalars = learned_with(model)
    names = {"meta_loss", "learning_rate", "inner_rate", "gradient_norm", "adjoint_norm/first_step"}
    names |= {"distance/cosine", "distance/euclidean"}
    assert names | {"adjoint_norm/last_step"} == set(scalars["learn_exemplars", 1])


def test_soft_labels_are_learned_probabilities_that_favour_the_class(model):
    learned, _ = learned_with(model, learn_labels=True, labels_learning_rate=5.0)
    soft = learned.soft_labels
    assert soft.shape == (12, 3)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(soft.argmax(axis=1), learned.labels)
    # They start at 0.9 for the class and 0.05 for each other one.
    assert np.abs(soft.max(axis=1) - 0.9).max() > 1e-3


def test_adjusting_goes_on_from_soft_labels_and_makes_room_for_new_classes():
    tf.keras.utils.set_random_seed(0)
    later = ClassifierFactory(ResNet(blocks=(1,), widths=(6,)), (6, 6, 1)).build(3, 2)
    settings = dataclasses.replace(SETTINGS, epochs=1, learn_labels=True, labels_learning_rate=0.01)
    old = three_classes(4, seed=1)
    confident = np.full((12, 3), 0.1, np.float32)
    confident[np.arange(12), old.labels] = 0.8
    adjusted = ExemplarOptimiser(later, PIXELS, settings, Tracker()).adjust(
        LabelledImages(old.images, old.labels, confident), 0
    )
    assert adjusted.soft_labels.shape == (12, 5)
    np.testing.assert_allclose(adjusted.soft_labels[:, :3], confident, atol=0.01)
    assert (adjusted.soft_labels[:, 3:] < 0.01).all()


@pytest.mark.parametrize("joined", [False, True])
def test_hard_labels_begin_alike_in_every_part_and_beside_soft_ones(model, joined):
    settings = dataclasses.replace(SETTINGS, epochs=1, learn_labels=True, labels_learning_rate=1e-6)
    old = three_classes(4, seed=1)
    soft = None
    if joined:  # two rows are soft, the others as `store.joined` makes them
        soft = np.eye(3, dtype=np.float32)[old.labels]
        soft[:2] = [0.6, 0.3, 0.1]
    adjusted = ExemplarOptimiser(model, PIXELS, settings, Tracker()).adjust(
        LabelledImages(old.images, old.labels, soft), 0
    )
    expected = np.where(np.arange(12) < 2, 0.6, 0.9) if joined else np.full(12, 0.9)
    np.testing.assert_allclose(adjusted.soft_labels.max(axis=1), expected, atol=1e-3)


@pytest.mark.parametrize("learned_rates", ["shared", "per_step"])
def test_inner_rates_are_learned_and_stay_positive(model, learned_rates):
    _, scalars = learned_with(model, learned_rates=learned_rates, rates_learning_rate=10.0)
    rates = [scalars["learn_exemplars", epoch]["inner_rate"] for epoch in range(1, 5)]
    assert abs(rates[-1] / 0.1 - 1) > 0.01
    assert min(rates) > 0


def test_clipping_shortens_long_steps_only(model):
    free, scalars = learned_with(model)
    loose, _ = learned_with(model, clip_norm=1e6)
    tight, _ = learned_with(model, clip_norm=1e-3)
    np.testing.assert_array_equal(free.images, loose.images)
    start = three_classes(4, seed=1).images.astype(np.float32)
    # The first step has no mean to be compared with; every later one is a thousandth or less of it.
    first_step = 20.0 * scalars["learn_exemplars", 1]["gradient_norm"] * 0.25 * 255
    assert np.linalg.norm(tight.images - start) < 1.2 * first_step < np.linalg.norm(free.images - start)


def test_chunks_cover_every_class_once_and_are_balanced():
    labels = np.repeat([4, 0, 7, 2, 9], 3)
    assert [chunk.tolist() for chunk in class_chunks(labels, None)] == [[0, 2, 4, 7, 9]]
    assert [chunk.tolist() for chunk in class_chunks(labels, 2)] == [[0, 2], [4, 7], [9]]
    # 5 classes in chunks of at most 4 are 3 and 2, not 4 and 1.
    assert [chunk.tolist() for chunk in class_chunks(labels, 4)] == [[0, 2, 4], [7, 9]]


def test_chunks_are_optimised_one_after_the_other_each_by_itself(model):
    learned, scalars = learned_with(model, classes_per_chunk=2, steps_per_epoch=2)
    assert {stage for stage, _ in scalars} == {"learn_exemplars_chunk1of2", "learn_exemplars_chunk2of2"}
    initial = three_classes(4, seed=1)
    np.testing.assert_array_equal(learned.labels, initial.labels)
    assert (learned.of_classes([2]).images != initial.of_classes([2]).images).any()
    # What is in the second chunk makes no difference to the first.
    other = initial.images.copy()
    other[initial.labels == 2] = 255 - other[initial.labels == 2]
    settings = dataclasses.replace(SETTINGS, epochs=4, classes_per_chunk=2, steps_per_epoch=2)
    again = ExemplarOptimiser(model, PIXELS, settings, Tracker()).learn(
        LabelledImages(other, initial.labels), three_classes(60, seed=2), seed=0
    )
    np.testing.assert_array_equal(again.of_classes([0, 1]).images, learned.of_classes([0, 1]).images)
    assert (again.of_classes([2]).images != learned.of_classes([2]).images).any()


def test_mosaics_of_low_resolution_are_learned(model):
    # Each stored exemplar stands for four images; the engine sees 48.
    learned, scalars = learned_with(model, factor=2, inner_batch_size=48)
    assert learned.images.shape == (12, 6, 6, 1)
    assert scalars["learn_exemplars", 4]["meta_loss"] < scalars["learn_exemplars", 1]["meta_loss"]


def test_rates_that_make_pixels_explode_stop_the_stage(model):
    with pytest.raises(DivergedError, match="learn_exemplars"):
        learned_with(model, inner_learning_rate=1e30)


def _shuffled(data: LabelledImages) -> LabelledImages:
    return data.take(np.random.default_rng(8).permutation(len(data)))


def _with_and_without_file(model, path, **settings) -> tuple[ExemplarOptimiser, ExemplarOptimiser]:
    """Two optimisers of two epochs and of chunks of two classes, one of which keeps what it makes in a file."""
    changed = dataclasses.replace(SETTINGS, epochs=2, classes_per_chunk=2, batch_size=30, **settings)
    file = PixelFile(str(path), (6, 6, 1))
    with_file = ExemplarOptimiser(model, PIXELS, changed, Tracker(), file=file)
    return with_file, ExemplarOptimiser(model, PIXELS, changed, Tracker())


def _check_same_rounded(stored: LabelledImages, learned: LabelledImages) -> None:
    assert isinstance(stored.images, StoredImages)
    assert stored.images.is_pixels.all()
    contents = [stored.images.content(row) for row in range(len(stored))]
    rounded = np.rint(learned.images).astype(np.uint8)
    assert contents == [image.tobytes() for image in rounded]
    np.testing.assert_array_equal(stored.labels, learned.labels)


def test_exemplars_in_a_file_are_those_in_memory_rounded_and_in_the_same_order(model, tmp_path):
    with_file, in_memory = _with_and_without_file(model, tmp_path / "pixels", learn_labels=True)
    initial, data = _shuffled(three_classes(4, seed=1)), _shuffled(three_classes(20, seed=2))
    learned = in_memory.learn(initial, data, seed=0)
    np.testing.assert_array_equal(learned.labels, initial.labels)
    # Each stays in its place: none is as far from where it began as others are from one another.
    distances = np.abs(learned.images[:, None] - initial.images.astype(float)).mean(axis=(2, 3, 4))
    np.testing.assert_array_equal(distances.argmin(axis=1), np.arange(12))
    assert distances.diagonal().min() > 0
    # Whether images come as an array or as rows makes no difference either.
    of_rows = [LabelledImages(StoredImages.of_array(each.images), each.labels) for each in (initial, data)]
    stored = with_file.learn(*of_rows, seed=0)
    _check_same_rounded(stored, learned)
    np.testing.assert_array_equal(stored.soft_labels, learned.soft_labels)

    # Adjusting starts from what the file holds, so from rounded images.
    rounded = LabelledImages(np.rint(learned.images).astype(np.uint8), learned.labels, learned.soft_labels)
    adjusted = in_memory.adjust(rounded, seed=1)
    again = with_file.adjust(stored, seed=1)
    _check_same_rounded(again, adjusted)
    np.testing.assert_array_equal(again.soft_labels, adjusted.soft_labels)
    assert (np.abs(adjusted.images - rounded.images).max(axis=(1, 2, 3)) > 0.5).all()
    # What was there before is there still, as the phase may need it.
    _check_same_rounded(stored, learned)
    assert (tmp_path / "pixels").stat().st_size == 2 * 12 * 36


class InterruptionError(Exception):
    """Somebody pressed Ctrl-C."""


class Kept:
    """A store in memory; the run is interrupted when so many states have been saved."""

    def __init__(self, states=None, at=None):
        self.states, self._at, self._saved = dict(states or {}), at, 0

    def load(self, stage):
        return self.states.get(stage)

    def save(self, stage, state):
        self.states[stage] = {name: np.copy(value) for name, value in state.items()}
        self._saved += 1
        if self._saved == self._at:
            raise InterruptionError


def kept_in(store):
    """Snapshots of every meta-step, which go to a store."""
    made = Snapshots(1e-9)
    made.begin(store)
    return made


# Everything that is learned or drawn, and batches that do not divide the data.
EVERYTHING = dataclasses.replace(
    SETTINGS,
    engine=Truncated(window=2),
    epochs=3,
    steps_per_epoch=2,
    batch_size=7,
    learn_labels=True,
    learned_rates="per_step",
    clip_norm=1.0,
    augmentation=("flip", "crop"),
)


def test_interrupted_optimisation_goes_on_to_the_same_bits(model, monkeypatch):
    monkeypatch.setattr(snapshots, "_TIMES_ITS_COST", 0)
    initial, data = three_classes(4, seed=1), three_classes(10, seed=2)
    learn, adjust = (
        lambda optimiser: optimiser.learn(initial, data, seed=3),
        lambda optimiser: optimiser.adjust(initial, seed=4),
    )
    whole = ExemplarOptimiser(model, PIXELS, EVERYTHING, Tracker(), snapshots=kept_in(Kept()))
    # Learning has epochs of two meta-steps, and stops in the middle of the second. Adjusting has epochs of one; it
    # stops after three of the first part, its end, and two of the second.
    for work, saved, epochs_left, stages in (
        (learn, 3, 2, {"learn_exemplars"}),
        (adjust, 6, 1, {"adjust_exemplars_part1", "adjust_exemplars_part2"}),
    ):
        expected = work(whole)
        interrupted = Kept(at=saved)
        with pytest.raises(InterruptionError):
            work(ExemplarOptimiser(model, PIXELS, EVERYTHING, Tracker(), snapshots=kept_in(interrupted)))
        assert set(interrupted.states) == stages
        notes = Notes()
        again = kept_in(Kept(interrupted.states))
        continued = work(ExemplarOptimiser(model, PIXELS, EVERYTHING, notes, snapshots=again))
        np.testing.assert_array_equal(continued.images, expected.images)
        np.testing.assert_array_equal(continued.soft_labels, expected.soft_labels)
        assert len(notes.scalars) == epochs_left  # epochs that were done are not done again


def test_state_is_plain_arrays_and_is_refused_by_other_exemplars():
    def variables(per_class, settings=EVERYTHING):
        return ExemplarVariables(three_classes(per_class, seed=1), 3, codec_of(1, False), PIXELS, settings)

    state = variables(4).state()
    shapes = {"pixels": (12, 6, 6, 1), "logits": (12, 3), "log_rates": (3,), "mean_norm": ()}
    assert {name: value.shape for name, value in state.items()} == shapes
    assert {type(value) for value in state.values()} == {np.ndarray}
    variables(4).restore(state)
    for other in (variables(5), variables(4, SETTINGS)):
        with pytest.raises(ValueError, match=r"other exemplars or settings.* Start this optimisation anew"):
            other.restore(state)


def test_distances_are_those_of_images_from_what_they_began_as():
    variables = ExemplarVariables(three_classes(1, seed=1), 3, codec_of(1, False), PIXELS, SETTINGS)
    assert variables.distances() == pytest.approx({"distance/cosine": 0, "distance/euclidean": 0}, abs=1e-6)
    start = three_classes(1, seed=1).array.astype(np.float64)
    # Half as bright: the direction of the pixels stays, and the length of the difference is half of theirs.
    state = {**variables.state(), "pixels": ((start / 2 / 255 - 0.5) / 0.25).astype(np.float32)}
    variables.restore(state)
    expected = np.mean([np.sqrt(np.sum((image / 255 / 2) ** 2)) for image in start])
    assert variables.distances()["distance/cosine"] == pytest.approx(0, abs=1e-6)
    assert variables.distances()["distance/euclidean"] == pytest.approx(expected, rel=1e-5)
    # Upside down: the cosine is that of the pixels with themselves in another order.
    variables.restore({**state, "pixels": ((start[:, ::-1] / 255 - 0.5) / 0.25).astype(np.float32)})
    cosines = [np.sum(image * image[::-1]) / np.sum(image**2) for image in start]
    assert variables.distances()["distance/cosine"] == pytest.approx(1 - np.mean(cosines), rel=1e-4)
