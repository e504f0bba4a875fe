"""A learner from outside: classes as they come, answers, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image
from tiny_learner import bars, tiny_learner

import mnemonics_tf
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.learner import arrays
from mnemonics_tf.learner.answers import memory_view
from mnemonics_tf.learner.arrivals import Intake
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.codecs import Source
from mnemonics_tf.memory.store import ExemplarStore, as_kept


def _snapshot(learner: IncrementalLearner) -> tuple:
    """All that must not change when something is refused."""
    weights = [weight.tobytes() for weight in learner._network.model.get_weights()]
    return learner.class_names, learner.history, weights, learner.memory.images.tobytes(), learner.settings


@pytest.fixture(scope="module")
def learner() -> IncrementalLearner:
    """Has learned three classes by number, then two by name."""
    learner = tiny_learner()
    learner.learn(*bars([0, 1, 2], 24))
    images, labels = bars([3, 4], 24, seed=1)
    learner.learn(images, labels - 3, class_names=["heron", "stork"])
    return learner


def test_classes_are_known_in_the_order_of_their_arrival(learner):
    assert learner.class_names == ("0", "1", "2", "heron", "stork")
    assert len(learner.history) == 2
    # A tenth of 24 images a class is held out: 2 of each.
    assert [(each.num_images, each.num_classes) for each in learner.history] == [(6, 3), (4, 5)]
    assert set(learner.history[1].by_class) == {"heron", "stork"}


def test_answers_name_the_classes(learner):
    images, labels = bars([0, 1, 2, 3, 4], 10, seed=2)
    answers = learner.predict(images)
    assert answers.probabilities.shape == (50, 5)
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert [answers.class_names[column] for column in answers.probabilities.argmax(axis=1)] == list(answers)
    # The ids are the numbers of the classes that came by number, and free ones for the others.
    assert set(answers.ids.tolist()) <= {0, 1, 2, 3, 4}
    reached = learner.evaluate(images, [learner.class_names[label] for label in labels])
    expected = 100 * np.mean([name == learner.class_names[label] for name, label in zip(answers, labels, strict=True)])
    assert reached.accuracy == pytest.approx(expected)
    assert set(reached.by_classifier) == {"cnn", "nme"}
    assert reached.by_classifier["nme"] > 60  # chance is 20


def test_memory_holds_real_images_of_every_class(learner):
    memory = learner.memory
    assert memory.counts == dict.fromkeys(learner.class_names, 4)
    assert memory.num_bytes == 20 * 8 * 8 * 3
    first, _ = bars([0, 1, 2], 24)
    known = {image.tobytes() for image in first}
    assert all(image.tobytes() in known for image in memory.images[:12])


def test_validation_images_of_another_size_are_refused_by_the_first_call(tmp_path):
    images, labels = bars([0, 1], 12)
    fresh = tiny_learner()
    with pytest.raises(UsageError, match=r"Images are 8 x 6 with 3 channels: expected 8 x 8 with 3"):
        fresh.learn(images, labels, validation=(images[:, :, :6], labels))
    with pytest.raises(UsageError, match=r"Images are 8 x 8 with 1 channel.?: expected 8 x 8 with 3"):
        fresh.learn(images, labels, validation=(images[..., :1], labels))
    assert fresh.class_names == ()


def test_folder_to_measure_by_gets_the_size_of_the_folder_to_learn_from(tmp_path):
    for split, side in (("learned", 70), ("measured", 40)):
        for name, place in (("left", 0), ("right", 1)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
                pixels[:, : side // 2] = 255 * place
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    intake = Intake(ClassTable(), None, None)
    train, _ = intake.read(tmp_path / "learned", None, None)
    measured = intake.read_validation(tmp_path / "measured", None, train)
    assert train.images.shape == measured.images.shape == (6, 64, 64, 3)


def test_exemplars_that_are_kept_as_files_are_shown_as_pixels(tmp_path):
    images = bars([0, 1], 1)[0]
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    slots = LabelledImages(StoredImages.of_files(paths, 8), np.array([0, 1]))
    store = ExemplarStore(as_kept(slots, Source()), Source())
    view = memory_view(store, ClassTable((0, 1), ("a", "b"), (2,)), {})
    np.testing.assert_array_equal(view.images, images)
    assert view.counts == {"a": 1, "b": 1}


def test_learner_shows_itself_in_a_notebook(learner):
    shown = learner._repr_html_()
    assert "heron" in shown
    assert shown.count("<img") == 20
    assert "&#x27;lucir&#x27;" in shown  # what comes from outside is escaped
    assert "<table>" in learner.predict(bars([0], 2)[0])._repr_html_()


def test_saved_learner_answers_alike_and_goes_on_alike(learner, tmp_path):
    learner.save(tmp_path / "learner")
    loaded, again = (IncrementalLearner.load(tmp_path / "learner") for _ in range(2))
    images, _ = bars([0, 1, 2, 3, 4], 4, seed=5)
    np.testing.assert_array_equal(loaded.predict(images).probabilities, learner.predict(images).probabilities)
    assert (loaded.class_names, loaded.history) == (learner.class_names, learner.history)
    assert loaded.settings == learner.settings
    np.testing.assert_array_equal(loaded.memory.images, learner.memory.images)
    new = bars([5, 6], 12, seed=6)
    reached = [each.learn(*new) for each in (loaded, again)]
    assert reached[0] == reached[1]
    assert loaded.class_names[5:] == ("5", "6")
    # The original has not heard of it.
    assert len(learner.class_names) == 5


def test_exported_model_serves_the_same_answers(learner, tmp_path):
    learner.export(tmp_path / "serving")
    learner.export(tmp_path / "serving")  # replaces what was exported
    images, _ = bars([0, 2, 4], 3, seed=7)
    model = tf.saved_model.load(tmp_path / "serving")
    served = model.serve(tf.constant(images))
    answers = learner.predict(images)
    assert [name.decode() for name in served["class_names"].numpy()] == list(answers)
    np.testing.assert_allclose(served["probabilities"], answers.probabilities, atol=1e-5)
    assert os.listdir(tmp_path) == ["serving"]
    # Of no image there is nothing to say, and of other images it will not speak.
    empty = model.serve(tf.zeros([0, 8, 8, 3], tf.uint8))
    assert {name: tuple(values.shape) for name, values in empty.items()} == {
        "class_ids": (0,), "class_names": (0,), "probabilities": (0, 5), "embeddings": (0, 8),
    }  # fmt: skip
    for wrong in (tf.zeros([1, 6, 8, 3], tf.uint8), tf.zeros([1, 8, 8, 3], tf.float32)):
        with pytest.raises((TypeError, ValueError)):
            model.serve(wrong)


def test_more_images_of_known_classes_change_the_network_and_no_class(learner, tmp_path):
    learner.save(tmp_path / "learner")
    refreshed = IncrementalLearner.load(tmp_path / "learner")
    images, labels = bars([1, 4], 12, seed=8)
    names = ["1" if label == 1 else "stork" for label in labels]
    reached = refreshed.learn(images, names)
    assert refreshed.class_names == learner.class_names
    assert set(reached.by_class) == {"1", "stork"}
    assert refreshed.memory.counts == learner.memory.counts
    before, after = (each._network.model.get_weights() for each in (learner, refreshed))
    assert any((old != new).any() for old, new in zip(before, after, strict=True))
    # Exemplars of the others stay as they were; those of the two are chosen among old and new ones.
    position = np.array(refreshed.memory.names) == "heron"
    np.testing.assert_array_equal(refreshed.memory.images[position], learner.memory.images[position])
    pool = {image.tobytes() for image in (*images, *learner.memory.images)}
    assert all(image.tobytes() in pool for image in refreshed.memory.images)


# `tests/test_method_runs.py` has runs of the others.
@pytest.mark.parametrize(
    "method", ["bic", *(pytest.param(name, marks=pytest.mark.heavy) for name in ("eeil", "icarl", "wa"))]
)
def test_new_and_known_classes_may_come_together(method):
    learner = tiny_learner(method)
    learner.learn(*bars([0, 1], 8))
    learner.learn(*bars([0, 1], 8, seed=1))  # one group so far: nothing to distil
    reached = learner.learn(*bars([1, 2], 8, seed=2))
    assert learner.class_names == ("0", "1", "2")
    assert np.isfinite(learner.predict(bars([0, 1, 2], 2)[0]).probabilities).all()
    assert reached.num_images == 2


def test_class_with_few_images_keeps_as_many_as_it_has():
    learner = tiny_learner(memory=mnemonics_tf.Memory(per_class=6, initial="herding"))
    images, labels = bars([0, 1], 8)
    learner.learn(images[:11], labels[:11])  # 3 images of class 1, of which one is held out
    assert learner.memory.counts == {"0": 6, "1": 2}
    learner.learn(*bars([2, 3], 8, seed=1))  # adjusts what can be split
    assert learner.memory.counts == {"0": 6, "1": 2, "2": 6, "3": 6}


def test_budget_in_total_is_checked_before_anything_is_trained():
    learner = tiny_learner(memory=mnemonics_tf.Memory(strategy="herding", total=5, adjust=False))
    learner.learn(*bars([0, 1, 2], 8))
    assert learner.memory.counts == dict.fromkeys("012", 1)
    with pytest.raises(UsageError, match=r"ExemplarMemory\.total = 5 leaves no exemplar for some of 6 classes"):
        learner.learn(*bars([3, 4, 5], 8))
    assert learner.memory.counts == dict.fromkeys("012", 1)
    mosaics = tiny_learner(memory=mnemonics_tf.Memory(strategy="random", per_class=1, adjust=False, low_resolution=2))
    with pytest.raises(UsageError, match="an exemplar is made of 4 images, and a class has 2"):
        mosaics.learn(*bars([0, 1], 3))


def test_data_of_every_form_learn_alike_and_a_loaded_learner_reads_them(tmp_path):
    images, labels = bars([0, 1], 8)
    names = ["never shown", "one", "two"]
    test = bars([0, 1], 3, seed=9)
    forms = [
        lambda learner: learner.learn(images, labels[:, None] + 1, class_names=names),
        lambda learner: learner.learn((images / 255, labels + 1), class_names=names, validation=test_pair),
        lambda learner: learner.learn(tf.data.Dataset.from_tensor_slices((images, labels + 1)), class_names=names),
    ]
    test_pair = (test[0], test[1] + 1)
    answers = []
    for learn in forms:
        learner = tiny_learner(validation_share=0.0)
        learn(learner)
        assert learner.class_names == ("one", "two")
        learner.save(tmp_path / "learner")
        loaded = IncrementalLearner.load(tmp_path / "learner")
        answers.append(loaded.predict(tf.data.Dataset.from_tensor_slices(test[0])).probabilities)
        assert loaded.evaluate(test_pair, class_names=names) == learner.evaluate(*test_pair, class_names=names)
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    # Images of other sizes are brought to the learner's.
    large = tf.data.Dataset.from_generator(
        lambda: iter([np.zeros((16, 20, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)]),
        output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )
    assert len(loaded.predict(large)) == 2


def test_epochs_follow_the_images_of_each_phase_unless_they_were_chosen():
    free, bound = IncrementalLearner(), tiny_learner()
    few, many = (free._choices.followed(free._choices.settings(32, 100), 32, count) for count in (240, 20_000))
    assert (few.model_level.epochs, many.model_level.epochs) == (80, 10)
    settings = bound._choices.settings(32, 100)
    assert bound._choices.followed(settings, 32, 20_000) == settings


def test_memory_cannot_be_written_to_from_outside(learner):
    with pytest.raises(ValueError, match="read-only"):
        learner.memory.images[:] = 0


def test_global_generators_stay_those_of_the_user():
    np.random.seed(3)
    tiny_learner().learn(*bars([0, 1], 4))
    drawn = np.random.rand()
    np.random.seed(3)
    assert drawn == np.random.rand()


def test_interrupt_leaves_the_learner_as_it_was(learner):
    before = _snapshot(learner)
    # It arrives while the network is trained: tracing alone takes longer than this.
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        learner.learn(*bars([5, 6], 400))
    assert _snapshot(learner) == before


_IMAGES, _LABELS = bars([5, 6], 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda learner: learner.learn(_IMAGES[:0], _LABELS[:0]), "There is no image"),
        (lambda learner: learner.learn(_IMAGES), "came without labels"),
        (lambda learner: learner.learn(_IMAGES, ["Heron"] * 6), "'heron' and 'Heron' differ only by case"),
        (lambda learner: learner.learn(_IMAGES[:, :6], _LABELS), "6 x 8 with 3 channels: expected 8 x 8"),
        (lambda learner: learner.learn(_IMAGES[..., :1], _LABELS), "expected 8 x 8 with 3 channels"),
        (lambda learner: learner.learn(np.zeros((6, 8, 8, 4), np.uint8), _LABELS), "drop a fourth channel"),
        (lambda learner: learner.learn(_IMAGES / 127.5 - 1, _LABELS), "Undo a normalisation"),
        (lambda learner: learner.learn(_IMAGES.astype(np.uint16) * 256, _LABELS), "16 bits a channel"),
        (lambda learner: learner.learn(_IMAGES > 3, _LABELS), "an array bool"),
        (lambda learner: learner.learn(_IMAGES, _LABELS[:4]), r"labels have shape \(4,\) for 6 images"),
        (lambda learner: learner.learn(_IMAGES, np.eye(7)[_LABELS]), "One-hot"),
        (lambda learner: learner.learn(_IMAGES, _LABELS - 7), "labels hold -2"),
        (lambda learner: learner.learn(_IMAGES, _LABELS * 1.0), "labels are float64"),
        (lambda learner: learner.learn(_IMAGES, _LABELS, class_names=["a", "b"]), "labels hold 6, and there are 2"),
        (lambda learner: learner.learn(_IMAGES, ["a", 3, 3, 3, 3, 3]), "names alone, or whole numbers alone"),
        (lambda learner: learner.learn(_IMAGES, np.array(["a", np.nan] * 3, object)), "labels hold nan"),
        (lambda learner: learner.learn(_IMAGES, [b"\xff"] * 6), "expected names in UTF-8"),
        (lambda learner: learner.learn(_IMAGES, ["a"] * 6, class_names=["a"]), "leave them out"),
        (lambda learner: learner.learn(tf.constant(_IMAGES)), "came without labels"),
        (lambda learner: learner.learn(_IMAGES, np.uint64(2**63 + 5) * np.ones(6, np.uint64)), "below 2"),
        (lambda learner: learner.evaluate("/no/such", _LABELS), "each class is a folder with its name"),
        (lambda learner: learner.learn(_IMAGES, _LABELS - 5, class_names=["a", "a"]), "each name once"),
        (lambda learner: learner.learn(_IMAGES, _LABELS - 5, class_names="ab"), "expected a list of names"),
        (lambda learner: learner.learn("/no/such/folder"), "there is no such folder"),
        (lambda learner: learner.learn(_IMAGES, _LABELS, validation=(_IMAGES, _LABELS + 10)), "the learner knows"),
        (lambda learner: learner.evaluate(_IMAGES, _LABELS), "show '5', '6', and the learner knows"),
        (lambda learner: learner.predict(_IMAGES[0]), "A single image is"),
        (lambda learner: learner.predict("no.png"), "There is no file 'no.png'"),
        (lambda learner: learner.predict(3), "Images have shape"),
    ],
)
def test_what_cannot_be_learned_is_one_line_and_changes_nothing(learner, call, message):
    before = _snapshot(learner)
    with pytest.raises(UsageError, match=message) as raised:
        call(learner)
    assert "\n" not in str(raised.value)
    assert _snapshot(learner) == before


def test_labels_may_be_a_list_of_what_an_array_holds():
    classes = arrays.as_classes(list(np.array([5, 6, 5])), None, 3)
    expected = arrays.as_classes([5, 6, 5], None, 3)
    for found, wanted in zip(classes, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_single_image_is_no_stack_of_strips():
    for shape in ((96, 96, 3), (96, 96, 1)):
        with pytest.raises(UsageError, match=r"A single image is image\[None\]"):
            arrays.as_pixels(np.zeros(shape, np.uint8))
    assert arrays.as_pixels(np.zeros((2, 8, 8), np.uint8)).shape == (2, 8, 8, 1)


def test_news_that_other_images_have_made_old_are_refused(learner, tmp_path):
    for name in ("ibis", "kite"):
        (tmp_path / name).mkdir()
        tf.io.write_file(str(tmp_path / name / "0.png"), tf.io.encode_png(np.full((16, 16, 3), len(name), np.uint8)))
        tf.io.write_file(str(tmp_path / name / "1.png"), tf.io.encode_png(np.full((16, 16, 3), ord(name[0]), np.uint8)))
    news = IncrementalLearner(image_size=16).what_is_new(tmp_path)  # looked at before anything has settled a size
    before = _snapshot(learner)
    with pytest.raises(UsageError, match=r"16 x 16 pixels, .* all have 8 x 8\. Look what is new again"):
        learner.learn_new(news)
    assert _snapshot(learner) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny_learner("lucyr"), "Did you mean 'lucir'"),
        (lambda: tiny_learner("joint"), "trains on the images of old classes again"),
        (lambda: tiny_learner(backbone="resnet33"), "expected one of 'resnet8'"),
        (lambda: tiny_learner(memory=20), r"expected a Memory, such as Memory\(per_class=20\)"),
        (lambda: tiny_learner(validation_share=1.0), "validation_share = 1.0"),
        (lambda: tiny_learner(epochs=3), "IncrementalLearner's argument = 'epochs'"),
        (lambda: tiny_learner("wa", head="cosine"), "method 'wa' works with 'linear'"),
        (lambda: tiny_learner("bic", memory=mnemonics_tf.Memory(per_class=1, adjust=False)), "holds out at least one"),
    ],
)
def test_impossible_learner_is_refused_before_it_sees_an_image(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("ask", ["memory", "settings"])
def test_learner_that_knows_nothing_says_so(ask, tmp_path):
    learner = tiny_learner()
    for call in (
        lambda: getattr(learner, ask),
        lambda: learner.predict(_IMAGES),
        lambda: learner.evaluate(_IMAGES, _LABELS),
        lambda: learner.save(tmp_path / "x"),
        lambda: learner.export(tmp_path / "x"),
    ):
        with pytest.raises(UsageError, match="call learn"):
            call()
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="needs two to begin with"):
        learner.learn(_IMAGES[:3], _LABELS[:3])
    assert learner.class_names == ()


def test_package_imports_nothing_before_it_is_asked_for():
    script = "import sys, mnemonics_tf; print({'tensorflow', 'keras', 'numpy', 'absl'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"
    assert mnemonics_tf.IncrementalLearner is IncrementalLearner
    assert "Memory" in dir(mnemonics_tf)
    with pytest.raises(AttributeError, match="no attribute 'Learner'"):
        _ = mnemonics_tf.Learner
