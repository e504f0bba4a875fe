"""Each step by itself: what it takes from the state, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_learner import SHAPE, bars

from mnemonics_tf.checks import DivergedError
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import Arrival, ImageTraits, LabelledImages, PixelRange
from mnemonics_tf.learner import steps
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.journal import NoJournal
from mnemonics_tf.learner.objective import with_checkpoints
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import ClassTable, LearnerState
from mnemonics_tf.memory import store
from mnemonics_tf.memory.coded import code_of, round_trip
from mnemonics_tf.memory.formats import format_for
from mnemonics_tf.memory.optimising.objective_settings import Matching
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, codec_for
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.checkpoints import Checkpoints
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_RANGE = PixelRange((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
_TRAITS = ImageTraits(SHAPE, horizontal_flip=False, crop_padding=0)
_KNOWN = ClassTable((10, 11, 12), ("a", "b", "c"), (3,))


class _Notes(NoJournal):
    """Notes which exemplars were changed."""

    def __init__(self):
        self.changed: list[tuple[str, LabelledImages, LabelledImages]] = []

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        self.changed.append((which, before, after))


def _context(devices, /, **memory) -> Context:
    settings = Settings(
        Replay(),
        ResNet((1,), (4,), embedding_dim=4),
        Memory(**{"strategy": "herding", "per_class": 3, "adjust": False, **memory}),
        ModelLevel(epochs=1, batch_size=16, milestones=(), weight_transfer="none"),
        exemplar_level=ExemplarLevel(
            epochs=1, steps_per_epoch=1, inner_steps=1, learning_rate=1e3, adjust_learning_rate=1e3
        ),
        finetuning=BalancedFinetune(epochs=1),
        seed=3,
    )
    return Context(settings, _TRAITS, Trainer(devices, _RANGE, Augmentation(), Tracker()), _Notes())


@pytest.fixture(scope="module")
def strategy():
    import tensorflow as tf

    return tf.distribute.get_strategy()


def _labelled(classes: list[int], count: int, seed: int = 0) -> LabelledImages:
    images, labels = bars(classes, count, seed)
    return LabelledImages(images, labels.astype(np.int64))


def _state(context: Context, exemplars: LabelledImages, num_classes: int = 5) -> LearnerState:
    """Three classes are known, and the network of the phase under way knows two more."""
    state = LearnerState(3, _RANGE, ExemplarStore(exemplars, codec_for(context.settings.memory)), 1, _KNOWN).begun()
    model = context.factory.build(3, num_classes - 3)
    return state.with_work(network=context.network(model))


def _arrival(train: LabelledImages, test: LabelledImages | None = None) -> Arrival:
    return Arrival((20, 21), ("d", "e"), train, test)


def test_steps_are_those_of_algorithm_1_in_its_order():
    named = [line.split()[0] for line in steps.__doc__.splitlines() if line.startswith("    ")]
    assert [step.__name__ for step in steps.STEPS] == named
    assert len(named) == 8


def test_exemplars_are_chosen_among_what_arrives(strategy):
    context = _context(strategy)
    state = _state(context, _labelled([0, 1, 2], 3))
    train = _labelled([3, 4], 6)
    chosen = steps.select_exemplars(state, _arrival(train), context).under_way.new
    np.testing.assert_array_equal(chosen.labels, [3, 3, 3, 4, 4, 4])
    pool = {image.tobytes() for image in train.images}
    assert all(image.tobytes() in pool for image in chosen.images)


def test_exemplars_of_known_classes_are_chosen_among_old_and_new_images(strategy):
    context = _context(strategy, strategy="random", per_class=9)
    old = _labelled([0, 1, 2], 4, seed=1)
    train = _labelled([1, 3, 4], 5, seed=2)
    state = steps.select_exemplars(_state(context, old), _arrival(train), context)
    new = state.under_way.new
    # All 5 new images of class 1 and its 4 old ones.
    np.testing.assert_array_equal(np.bincount(new.labels), [0, 9, 0, 5, 5])
    expected = {image.tobytes() for image in (*train.images[train.labels == 1], *old.images[old.labels == 1])}
    assert {image.tobytes() for image in new.images[new.labels == 1]} == expected
    state = steps.adjust_exemplars(state, _arrival(train), context)
    np.testing.assert_array_equal(state.under_way.old.labels, [0] * 4 + [2] * 4)
    kept = steps.enforce_budget(state, _arrival(train), context).under_way.exemplars
    np.testing.assert_array_equal(kept.slots.labels, np.sort(kept.slots.labels))
    np.testing.assert_array_equal(kept.counts(5), [4, 9, 4, 5, 5])


def test_same_seed_and_phase_draw_the_same(strategy):
    context = _context(strategy, strategy="random")
    state, arrival = _state(context, _labelled([0, 1, 2], 3)), _arrival(_labelled([3, 4], 30))

    def drawn(changed: LearnerState) -> bytes:
        return steps.select_exemplars(changed, arrival, context).under_way.new.images.tobytes()

    assert drawn(state) == drawn(state)
    assert drawn(state) != drawn(dataclasses.replace(state, seed=4))
    assert drawn(state) != drawn(dataclasses.replace(state, phase=2))


def test_adjusting_leaves_classes_alone_that_cannot_be_split(strategy):
    context = _context(strategy, adjust=True, per_class=3)
    # Of class 1 there is one exemplar, and two parts need one each.
    old = _labelled([0, 1, 2], 3).take(np.array([0, 1, 2, 3, 6, 7, 8]))
    state = steps.adjust_exemplars(_state(context, old), _arrival(_labelled([3, 4], 3)), context)
    adjusted = state.under_way.old
    np.testing.assert_array_equal(adjusted.labels, [0, 0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(adjusted.images[3], old.images[3])
    assert (adjusted.images[:3] != old.images[:3]).any()
    ((which, before, after),) = context.journal.changed
    assert (which, len(before), len(after)) == ("old", 6, 6)
    moved = state.under_way.movement["adjusted"]
    assert moved.largest == np.abs(np.clip(np.rint(after.images), 0, 255) - before.images).max() > 0
    # What the state held is untouched.
    np.testing.assert_array_equal(state.exemplars.slots.images, old.images)


def test_budget_is_enforced_in_the_form_that_is_kept(strategy):
    context = _context(strategy, strategy="random", per_class=0, total=10)
    old = _labelled([0, 1, 2], 3)
    new = LabelledImages(np.full((4, *SHAPE), 300.6), np.array([3, 3, 4, 4]))
    state = _state(context, old).with_work(old=old, new=new)
    kept = steps.enforce_budget(state, _arrival(_labelled([3, 4], 3)), context).under_way.exemplars
    # 10 slots for 5 classes.
    np.testing.assert_array_equal(kept.counts(5), [2] * 5)
    assert kept.slots.images.dtype == np.uint8
    assert kept.slots.images.max() == 255
    assert kept.num_bytes == 10 * 8 * 8 * 3


def test_learned_labels_of_old_exemplars_outlive_new_ones_without(strategy):
    # The learning of new ones has diverged, for example. Classes 3 and 4 get labels of themselves alone.
    context = _context(strategy, per_class=2)
    old = dataclasses.replace(_labelled([0, 1, 2], 2), soft_labels=np.full((6, 3), 1 / 3, np.float32))
    arrival = _arrival(_labelled([3, 4], 2))
    state = _state(context, old).with_work(old=old, new=arrival.train)
    kept = steps.enforce_budget(state, arrival, context).under_way.exemplars.slots
    expected = [[1 / 3, 1 / 3, 1 / 3, 0, 0]] * 6 + [[0, 0, 0, 1, 0]] * 2 + [[0, 0, 0, 0, 1]] * 2
    np.testing.assert_array_equal(kept.soft_labels, np.array(expected, np.float32))


def test_networks_are_trained_on_new_images_as_the_codec_gives_them_back_too(strategy, monkeypatch):
    seen = []

    def note(previous, phase, *rest):
        seen.append(phase)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "train", note)
    train = _labelled([3, 4], 3)
    coding = {"codec": "jpeg", "code_new": 0.5}
    for memory in ({"codec": "jpeg"}, coding, coding | {"code_initial_phase": False}):
        context = _context(strategy, **memory)
        first = LearnerState(3, _RANGE, ExemplarStore.empty(SHAPE, context.codec)).begun()
        later = _state(context, _labelled([0, 1, 2], 2))
        for state in (first, later):
            with pytest.raises(KeyboardInterrupt):
                steps.train_model(state, _arrival(train), context)
    assert [phase.train.coded is not None for phase in seen] == [False, False, True, True, False, True]
    for phase in seen:
        np.testing.assert_array_equal(phase.train.images, train.images)
        if phase.train.coded is not None:
            np.testing.assert_array_equal(phase.train.coded, round_trip(train.array, format_for("jpeg", 90, SHAPE)))


def test_exemplars_that_are_codes_are_not_coded_again(strategy):
    context = _context(strategy, strategy="random", codec="jpeg", quality=30, per_class=20)
    old = store.as_kept(_labelled([0, 1, 2], 4), context.codec)
    codes = {code_of(old.images, row) for row in range(12)}
    state = _state(context, old)
    train = _labelled([1, 3, 4], 5, seed=2)
    for step in (steps.select_exemplars, steps.adjust_exemplars, steps.enforce_budget):
        state = step(state, _arrival(train), context)
    kept = state.under_way.exemplars
    np.testing.assert_array_equal(kept.counts(5), [4, 9, 4, 5, 5])
    assert codes < {code_of(kept.slots.images, row) for row in range(27)}
    # Of images as they are kept, new ones are those that would be coded from what arrived.
    shown = round_trip(train.array, format_for("jpeg", 30, SHAPE))
    decoded = kept.decoded()
    assert {image.tobytes() for image in decoded.array[decoded.labels == 4]} == {
        image.tobytes() for image in shown[train.labels == 4]
    }


def test_probe_that_diverges_is_left_out_and_said(strategy, monkeypatch, capsys):
    def diverging(*_):
        raise DivergedError("loss became nan in stage probe_scratch, epoch 1, step 2.")

    monkeypatch.setattr(steps, "probe", diverging)
    context = _context(strategy)
    new = _labelled([3, 4], 3)
    state = _state(context, _labelled([0, 1, 2], 3)).with_work(new=new, exemplars=ExemplarStore(new, context.codec))
    after = steps.probe_exemplars(state, _arrival(new, new), context)
    assert after.under_way.probe == state.under_way.probe
    assert "probe_scratch, epoch 1, step 2. Exemplars are not probed" in capsys.readouterr().err


def test_training_without_a_teacher_is_said_where_no_class_is_new(strategy, monkeypatch, capsys):
    context = _context(strategy)
    context.settings = dataclasses.replace(context.settings, method=LwF())
    state = _state(context, _labelled([0, 1, 2], 3))
    state = dataclasses.replace(state, network=state.new_network)
    monkeypatch.setattr(steps, "train", lambda *_: (state.new_network.model, state.new_network.predictor))
    steps.train_model(state, Arrival((), (), _labelled([1], 4)), context)
    assert "No class is new: the last 3 that came are trained without a teacher." in capsys.readouterr().err


def test_exemplars_whose_learning_diverges_stay_what_was_chosen(strategy, monkeypatch, capsys):
    context = _context(strategy, strategy="mnemonics", adjust=True)

    class Broken:
        def learn(self, *_):
            raise DivergedError("meta_loss became nan in stage learn_exemplars, epoch 1, step 2.")

        adjust = learn

    monkeypatch.setattr(context, "optimiser", lambda *_: Broken())
    old, new = _labelled([0, 1, 2], 3), _labelled([3, 4], 3)
    state = _state(context, old).with_work(new=new)
    for step in (steps.learn_exemplars, steps.adjust_exemplars):
        state = step(state, _arrival(_labelled([3, 4], 3)), context)
    np.testing.assert_array_equal(state.under_way.new.images, new.images)
    np.testing.assert_array_equal(state.under_way.old.images, old.images)
    lines = [f"phase 1: {note}" for note in state.under_way.notes]
    assert capsys.readouterr().err.splitlines() == lines
    assert [line.partition("step 2. ")[2] for line in lines] == [
        "The chosen images are kept as they are.",
        "Old exemplars are kept as they are.",
    ]
    assert (context.journal.changed, state.under_way.movement) == ([], {})


class _InMemory(dict):
    """Snapshots of a phase."""

    load, save = dict.get, dict.__setitem__

    def remove(self, stage):
        self.pop(stage, None)


def test_networks_of_the_training_are_kept_through_an_interruption(strategy, capsys):
    context = _context(strategy, strategy="mnemonics")
    settings = dataclasses.replace(
        context.settings,
        model_level=dataclasses.replace(context.settings.model_level, epochs=2),
        exemplar_level=ExemplarLevel(objective="matching", epochs=1, steps_per_epoch=2, optimiser="adam"),
        matching=Matching(checkpoints=1),
    )
    kept = _InMemory()
    start = LearnerState(3, _RANGE, ExemplarStore.empty(SHAPE, context.codec)).begun()
    arrival = Arrival((5, 6), ("x", "y"), _labelled([0, 1], 8))

    def trained() -> tuple[Context, LearnerState]:
        snapshots = Snapshots()
        snapshots.begin(kept)
        trainer = dataclasses.replace(context.trainer, snapshots=snapshots)
        own = with_checkpoints(dataclasses.replace(context, settings=settings, trainer=trainer))
        return own, steps.train_model(start, arrival, own)

    (first, state), (second, again) = trained(), trained()
    ((name, array),) = [each for each in first.checkpoints.weights[0].items() if each[0] == "head/new_kernel"]
    np.testing.assert_array_equal(second.checkpoints.weights[0][name], array)
    assert np.abs(array - state.new_network.model.head.new_kernel.numpy()).max() > 0
    for weight, expected in zip(
        again.new_network.model.get_weights(), state.new_network.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)
    # What an earlier version has put down has none of them.
    for place in [place for place in kept["train_model"] if place.startswith("checkpoint")]:
        del kept["train_model"][place]
    third, state = trained()
    state = steps.select_exemplars(state, arrival, third)
    state = steps.learn_exemplars(state, arrival, third)
    (note,) = state.under_way.notes
    assert "the trained one alone is matched" in note
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "learned exemplars moved by" in line]
    assert state.under_way.movement["learned"].unmoved < 100
    # Where nothing looks at them, none are kept.
    assert with_checkpoints(context).checkpoints is None


def test_class_that_comes_first_and_alone_is_not_learned_for_a_next_phase(strategy):
    context = _context(strategy, strategy="mnemonics")
    settings = dataclasses.replace(context.settings, exemplar_level=ExemplarLevel(objective="next_phase"))
    context = dataclasses.replace(context, settings=settings)
    new = _labelled([0], 3)
    state = LearnerState(3, _RANGE, ExemplarStore.empty(SHAPE, context.codec)).begun()
    state = state.with_work(network=context.network(context.factory.build(0, 1)), new=new)
    state = steps.learn_exemplars(state, Arrival((5,), ("x",), _labelled([0], 8)), context)
    np.testing.assert_array_equal(state.under_way.new.images, new.images)
    assert "needs two classes at hand" in state.under_way.notes[0]


class _Brightened:
    """Makes exemplars brighter; of each class the first and third stay what they are."""

    def __init__(self, real_share: float = 0.0):
        self._fixed = [0, 2] if real_share else []

    def adjust(self, exemplars, seed):
        images = in_memory(exemplars).array + np.float32(9)
        for place in self._fixed:
            images[place::3] -= 9
        return LabelledImages(images, exemplars.labels)


def test_codes_of_exemplars_that_stay_real_are_not_coded_again(strategy, monkeypatch):
    # WebP 90 coded 25 times has lost 3.7 dB more than once.
    context = _context(strategy, adjust=True, per_class=3, codec="webp")
    context.settings = dataclasses.replace(context.settings, exemplar_level=ExemplarLevel(real_share=0.5))
    monkeypatch.setattr(context, "optimiser", lambda network: _Brightened(0.5))
    old = store.as_kept(_labelled([0, 1, 2], 3), context.codec)
    arrival = _arrival(_labelled([3, 4], 3))
    state = steps.adjust_exemplars(_state(context, old), arrival, context).with_work(new=_labelled([3, 4], 3))
    kept = steps.enforce_budget(state, arrival, context).under_way.exemplars.slots
    np.testing.assert_array_equal(kept.labels, np.repeat(np.arange(5), 3))
    for row in range(9):
        assert (code_of(kept.images, row) == code_of(old.images, row)) == (row % 3 != 1)


class _LearnedBrighter(_Brightened):
    def learn(self, exemplars, data, seed):
        return self.adjust(exemplars, seed)


def test_codes_that_stay_are_not_made_again_where_more_images_of_a_known_class_come(strategy, monkeypatch):
    context = _context(strategy, strategy="mnemonics", initial="random", adjust=False, per_class=3, codec="webp")
    context.settings = dataclasses.replace(context.settings, exemplar_level=ExemplarLevel(real_share=0.5))
    monkeypatch.setattr(context, "optimiser", lambda network, objective: _LearnedBrighter(0.5))
    old = store.as_kept(_labelled([0, 1, 2], 3), context.codec)
    known = old.of_classes(np.array([0]))
    arrival = _arrival(_labelled([0, 3, 4], 3))
    state = _state(context, old).with_work(new=known.join(_labelled([3, 4], 3)))
    learned = steps.learn_exemplars(state, arrival, context)
    kept = store.as_kept(learned.under_way.new, context.codec)
    assert len(kept) == 9
    for row in range(3):
        assert (code_of(kept.images, row) == code_of(known.images, row)) == (row != 1)


def test_adjusted_codes_stand_beside_those_that_cannot_be_split(strategy, monkeypatch):
    context = _context(strategy, adjust=True, per_class=3, codec="png")
    monkeypatch.setattr(context, "optimiser", lambda network: _Brightened())
    old = store.as_kept(_labelled([0, 1, 2], 3).take(np.array([0, 1, 2, 3, 6, 7, 8])), context.codec)
    state = steps.adjust_exemplars(_state(context, old), _arrival(_labelled([3, 4], 3)), context)
    adjusted = state.under_way.old
    np.testing.assert_array_equal(adjusted.labels, [0, 0, 0, 1, 2, 2, 2])
    assert adjusted.images.content(3) == old.images.content(3)
    before = np.frombuffer(old.images.content(0), np.uint8)
    np.testing.assert_array_equal(np.frombuffer(adjusted.images.content(0), np.uint8), np.minimum(before + 9.0, 255))


def test_fine_tuning_changes_the_new_network_alone(strategy):
    context = _context(strategy)
    exemplars = _labelled([0, 1, 2, 3, 4], 3)
    state = _state(context, exemplars)
    old = context.network(context.factory.build(0, 3))
    state = dataclasses.replace(state, network=old).with_work(exemplars=ExemplarStore(exemplars, context.codec))
    before = [weight.copy() for weight in old.model.get_weights()]
    new_before = [weight.copy() for weight in state.new_network.model.get_weights()]
    steps.finetune_balanced(state, _arrival(_labelled([3, 4], 3)), context)
    for weight, expected in zip(old.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert any((a != b).any() for a, b in zip(state.new_network.model.get_weights(), new_before, strict=True))


def test_evaluation_needs_no_test_images_and_no_exemplar_of_every_class(strategy):
    context = _context(strategy)
    exemplars = _labelled([0, 1, 2, 3], 2)
    state = _state(context, exemplars).with_work(exemplars=ExemplarStore(exemplars, context.codec))
    without = steps.evaluate(state, _arrival(_labelled([3, 4], 2)), context).under_way
    assert (without.means, without.predictions) == (None, None)
    test = _labelled([4], 3)
    measured = steps.evaluate(state, _arrival(_labelled([3, 4], 2), test), context).under_way
    assert set(measured.predictions.by_classifier) == {"cnn"}
    np.testing.assert_array_equal(measured.predictions.labels, [4, 4, 4])


def test_phase_leaves_the_state_before_it_alone(strategy):
    context = _context(strategy)
    empty = ExemplarStore.empty(SHAPE, context.codec)
    start = LearnerState(3, _RANGE, empty)
    first = steps.run_phase(start, Arrival((5, 6), ("x", "y"), _labelled([0, 1], 4)), context)
    assert (first.phase, first.classes.names, first.work) == (1, ("x", "y"), None)
    weights = [weight.copy() for weight in first.network.model.get_weights()]
    images = first.exemplars.slots.images.copy()
    second = steps.run_phase(first, Arrival((7,), ("z",), _labelled([2], 4)), context)
    assert (start.phase, len(start.classes), start.network) == (0, 0, None)
    assert (second.classes.ids, second.classes.sizes) == ((5, 6, 7), (2, 1))
    assert second.network.model.num_classes == 3
    for weight, expected in zip(first.network.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    np.testing.assert_array_equal(first.exemplars.slots.images, images)
    assert set(context.tracker.seconds) == {step.__name__ for step in steps.STEPS}


def test_steps_out_of_order_say_what_comes_first(strategy):
    context = _context(strategy)
    state = LearnerState(3, _RANGE, ExemplarStore.empty(SHAPE, context.codec))
    arrival = _arrival(_labelled([3, 4], 2))
    for step, message in (
        (steps.select_exemplars, "begin one first"),
        (steps.enforce_budget, "begin one first"),
    ):
        with pytest.raises(ValueError, match=message):
            step(state, arrival, context)
    with pytest.raises(ValueError, match="train_model comes first"):
        steps.select_exemplars(state.begun(), arrival, context)
    with pytest.raises(ValueError, match="select_exemplars comes before"):
        steps.enforce_budget(state.begun(), arrival, context)
    with pytest.raises(ValueError, match="enforce_budget comes first"):
        steps.evaluate(_state(context, _labelled([0, 1, 2], 1)), arrival, context)


def _diverging(monkeypatch, context: Context, finite_below: float) -> list[tuple[float, str]]:
    """Puts a training in the place of the real one that diverges at rates that are too high; notes rates and stages."""
    tried = []

    def train(previous, phase, exemplars, factory, method, level, trainer, seed, rehearsal, stage):
        rate = rehearsal.learning_rate_at(0, level) if previous else level.learning_rate
        tried.append((rate, stage))
        model = context.factory.build(0, 2)
        for epoch in (1, 2):
            model.head.new_kernel.assign(model.head.new_kernel.numpy() + 0.5)
            if context.checkpoints is not None:
                context.checkpoints(model, stage, epoch)
            if rate >= finite_below:
                raise DivergedError(f"loss became nan in stage {stage}, epoch 1 of 1.")
        return model, trainer.predictor(model)

    monkeypatch.setattr(steps, "train", train)
    return tried


@pytest.mark.parametrize("halves", [False, True])
def test_training_that_diverges_begins_anew_at_half_the_rate_where_that_is_asked_for(strategy, monkeypatch, halves):
    context = _context(strategy)
    level = dataclasses.replace(context.settings.model_level, learning_rate=0.8, halve_if_diverged=halves)
    context.settings = dataclasses.replace(context.settings, model_level=level)
    state = LearnerState(3, _RANGE, ExemplarStore.empty(SHAPE, codec_for(context.settings.memory))).begun()
    arrival = Arrival((20, 21), ("d", "e"), _labelled([0, 1], 3), None)
    context.checkpoints = Checkpoints(context.factory.trained, strategy, (1, 2))
    tried = _diverging(monkeypatch, context, finite_below=0.5)
    if not halves:
        with pytest.raises(DivergedError, match="stage train_model, epoch 1 of 1"):
            steps.train_model(state, arrival, context)
        assert tried == [(0.8, "train_model")]
        return
    work = steps.train_model(state, arrival, context).under_way
    assert tried == [(0.8, "train_model"), (0.4, "train_model_again")]
    assert work.network is not None
    assert "was trained again from what it was before the phase, at the rate 0.4" in work.notes[0]
    # The networks on the way are those of the training that led somewhere.
    first, last = (kept["head/new_kernel"] for kept in context.checkpoints.weights)
    np.testing.assert_array_equal(last, work.network.model.head.new_kernel.numpy())
    np.testing.assert_allclose(last - first, 0.5, rtol=1e-5)
    # Once, and no more.
    tried = _diverging(monkeypatch, context, finite_below=0.1)
    with pytest.raises(DivergedError, match="stage train_model_again"):
        steps.train_model(state, arrival, context)
    assert len(tried) == 2


def test_later_phase_that_diverges_begins_anew_at_half_of_the_rate_of_its_own(strategy, monkeypatch):
    context = _context(strategy)
    level = dataclasses.replace(context.settings.model_level, learning_rate=0.8, halve_if_diverged=True)
    context.settings = dataclasses.replace(context.settings, model_level=level, rehearsal=Rehearsal(learning_rate=0.6))
    known = context.network(context.factory.build(0, 3))
    state = dataclasses.replace(_state(context, _labelled([0, 1, 2], 3)), network=known).begun()
    tried = _diverging(monkeypatch, context, finite_below=0.5)
    work = steps.train_model(state, _arrival(_labelled([3, 4], 3)), context).under_way
    assert tried == [(0.6, "train_model"), (0.3, "train_model_again")]
    assert "at the rate 0.3" in work.notes[0]
