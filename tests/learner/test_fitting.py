"""A learner whose head is fitted: every phase against ridge regression on all images at once, and forgetting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_learner import bars, tiny_learner

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.analytic import Analytic
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_NAMES = [f"c{index}" for index in range(8)]
_FIRST, _SECOND = bars([0, 1, 2], 20), bars([3, 4], 20, seed=1)
_THIRD = bars([1, 4, 5], 10, seed=2)  # more images of known classes, and a new one
_TEST = bars([0, 1, 2, 3, 4, 5], 4, seed=9)


def _learner(**changes) -> IncrementalLearner:
    options = {"memory": None, "finetuning": BalancedFinetune(enabled=False), "horizontal_flip": True}
    return tiny_learner(Analytic(units=30, penalties=(0.1, 1.0)), validation_share=0.0, **{**options, **changes})


def _taught(learner: IncrementalLearner, *arrivals) -> IncrementalLearner:
    for images, labels in arrivals:
        learner.learn(images, [_NAMES[label] for label in labels])
    return learner


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """The folder of a learner that has learned three classes: its network is trained once."""
    folder = tmp_path_factory.mktemp("learners") / "begun"
    _taught(_learner(), _FIRST).save(folder)
    return folder


@pytest.fixture(scope="module")
def learner(begun) -> IncrementalLearner:
    """Has learned two more, and then a sixth one with more of two of them. Read only."""
    return _taught(IncrementalLearner.load(begun), _SECOND, _THIRD)


def _units(learner: IncrementalLearner, images: np.ndarray) -> np.ndarray:
    """Of the images and of their mirror images, one after the other."""
    predictor = learner._network.predictor
    data = LabelledImages(np.concatenate([images, images[:, :, ::-1]]), np.zeros(2 * len(images), np.int64))
    return np.concatenate([units for _, (units, _) in predictor.units(data, "test")]).astype(np.float64)


def _ridge(learner: IncrementalLearner, images: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    units, targets = _units(learner, images), np.eye(num_classes)[np.tile(labels, 2)]
    penalty = float(learner._state.statistics["penalty"])
    return np.linalg.solve(units.T @ units + penalty * np.eye(30), units.T @ targets)


def _assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_head_is_ridge_regression_on_all_images_of_all_phases(learner):
    images, labels = (np.concatenate(parts) for parts in zip(_FIRST, _SECOND, _THIRD, strict=True))
    assert learner.class_names == tuple(_NAMES[:6])
    _assert_close(learner._network.model.head.by_class("kernel").numpy(), _ridge(learner, images, labels, 6))
    reached = learner.evaluate(_TEST[0], [_NAMES[label] for label in _TEST[1]])
    assert reached.accuracy > 60  # chance is 17
    assert set(reached.by_classifier) == {"cnn"}


def test_phases_are_what_their_images_in_one_phase_are(learner, begun):
    together = tuple(np.concatenate(parts) for parts in zip(_SECOND, _THIRD, strict=True))
    joint = _taught(IncrementalLearner.load(begun), together)
    for name in ("gram", "sums"):
        _assert_close(joint._state.statistics[name], learner._state.statistics[name])
    weights, joint_weights = (each._network.model.backbone.get_weights() for each in (learner, joint))
    for weight, joint_weight in zip(weights, joint_weights, strict=True):
        np.testing.assert_array_equal(weight, joint_weight)


def test_bytes_of_the_statistics_are_counted(learner):
    memory = learner.memory
    # Triangle of the Gram matrix, sums of 6 classes, penalty and gain; checksum and label of 130 images.
    assert memory.statistics_bytes == 8 * (30 * 31 // 2 + 30 * 6 + 2) + 12 * (60 + 40 + 30)
    assert str(memory).endswith(f"statistics, {memory.statistics_bytes:,} bytes")
    assert len(memory) == memory.num_bytes == 0


def test_saved_learner_answers_alike_and_goes_on_alike(learner, tmp_path):
    learner.save(tmp_path / "learner")
    loaded = IncrementalLearner.load(tmp_path / "learner")
    np.testing.assert_array_equal(loaded.predict(_TEST[0]).probabilities, learner.predict(_TEST[0]).probabilities)
    for name, kept in learner._state.statistics.items():
        np.testing.assert_array_equal(loaded._state.statistics[name], kept)
    more = bars([0, 5], 10, seed=3)  # of known classes alone
    _taught(loaded, more)
    images, labels = (np.concatenate(parts) for parts in zip(_FIRST, _SECOND, _THIRD, more, strict=True))
    _assert_close(loaded._network.model.head.by_class("kernel").numpy(), _ridge(loaded, images, labels, 6))


def test_exported_model_answers_alike(learner, tmp_path):
    learner.export(tmp_path / "serving")
    model = tf.saved_model.load(tmp_path / "serving")
    answer = model.serve(tf.constant(_TEST[0]))
    expected = learner.predict(_TEST[0])
    assert [name.decode() for name in answer["class_names"].numpy()] == list(expected.names)
    np.testing.assert_allclose(answer["probabilities"], expected.probabilities, atol=1e-5)


def test_forgotten_class_leaves_what_a_learner_has_that_never_saw_it(learner, begun, tmp_path, monkeypatch):
    learner.save(tmp_path / "learner")
    learner = IncrementalLearner.load(tmp_path / "learner")
    every = tuple(np.concatenate(parts) for parts in zip(_SECOND, _THIRD, strict=True))
    of_class = every[1] == 4
    others = bars([4], 3, seed=7)[0]  # of the class, and never learned
    images = np.concatenate([others, every[0][of_class][::-1]])  # in another order
    learner.forget_classes(images, ["c4"] * len(images))
    rest = [tuple(part[arrival[1] != 4] for part in arrival) for arrival in (_SECOND, _THIRD)]
    never = _taught(IncrementalLearner.load(begun), *rest)
    assert learner.class_names == never.class_names == ("c0", "c1", "c2", "c3", "c5")
    assert learner._state.classes.sizes == never._state.classes.sizes == (3, 1, 1)
    for name, kept in never._state.statistics.items():
        _assert_close(learner._state.statistics[name], kept)
    assert learner.predict(_TEST[0]).names == never.predict(_TEST[0]).names
    # It goes on: the class may come anew, now in files that are not held in memory, and go as an array.
    learner.save(tmp_path / "learner")
    again = IncrementalLearner.load(tmp_path / "learner")
    (tmp_path / "photos/c4").mkdir(parents=True)
    for number, image in enumerate(every[0][of_class]):
        Image.fromarray(image).save(tmp_path / f"photos/c4/{number:02d}.png")
    monkeypatch.setattr("mnemonics_tf.data.folder.is_held_in_memory", lambda count, size: False)
    again.learn(tmp_path / "photos")
    assert again.class_names == ("c0", "c1", "c2", "c3", "c5", "c4")
    again.forget_classes(images, ["c4"] * len(images))
    for name, kept in learner._state.statistics.items():
        _assert_close(again._state.statistics[name], kept)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (_SECOND[0][:3], ["c3"] * 3, "17 of the 20 images that were learned of class 'c3' are missing"),
        (_SECOND[0], ["c7"] * 40, "does not know 'c7'"),
        (_FIRST[0], [_NAMES[label] for label in _FIRST[1]], "the network itself was trained on the first classes"),
    ],
)
def test_what_cannot_be_forgotten_is_told_and_changes_nothing(learner, images, labels, message):
    before = learner._state
    with pytest.raises(UsageError, match=message) as caught:
        learner.forget_classes(images, labels)
    assert "\n" not in str(caught.value)
    assert learner._state is before


def test_other_methods_cannot_forget():
    with pytest.raises(UsageError, match="'lucir' cannot forget classes"):
        tiny_learner(LUCIR()).forget_classes(*_SECOND)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": Memory(per_class=4, strategy="herding", adjust=False)}, "trains on no exemplars"),
        ({"model_level": ModelLevel(weight_transfer="per_neuron")}, "trains nothing after phase 0"),
        ({"rehearsal": Rehearsal(schedule="cosine")}, "Rehearsal.schedule = 'cosine': 'analytic' trains nothing after"),
        ({"rehearsal": Rehearsal(memory_share=0.5)}, "Rehearsal.memory_share = 0.5: 'analytic' trains nothing after"),
        ({"finetuning": BalancedFinetune(enabled=True)}, "nothing to train on"),
        ({"classifier": "nme"}, "no means of exemplars"),
    ],
)
def test_what_the_method_has_no_use_for_is_refused(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        _learner(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"units": 0}, "analytic.units = 0"),
        ({"penalties": ()}, r"analytic.penalties = \(\)"),
        ({"penalties": (1.0, 0.0)}, r"analytic.penalties\[1\] = 0.0"),
        ({"penalties": (10.0, 1.0)}, "expected rising numbers"),
        ({"penalties": 1.0}, "expected numbers, such as"),
        ({"held_out_share": 0.0}, "analytic.held_out_share = 0.0"),
        ({"held_out_share": 1.0}, "analytic.held_out_share = 1.0"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Analytic(**settings)


def test_more_units_than_memory_holds_are_refused_with_their_bytes(monkeypatch):
    monkeypatch.setattr("mnemonics_tf.system.machine.memory_bytes", lambda: 24 * 100**2)
    with pytest.raises(UsageError, match=r"take 244,824 bytes, and there are 240,000 of memory\. Set 100"):
        IncrementalLearner(Analytic(units=101))
    IncrementalLearner(Analytic(units=100))


def test_auto_is_analytic_where_nothing_is_kept_or_many_classes_come_first():
    assert "'auto'" in repr(IncrementalLearner("auto"))
    assert "'analytic'" in repr(IncrementalLearner("auto", memory=Memory("herding", per_class=0, adjust=False)))
    assert "'lucir'" in repr(IncrementalLearner("auto", memory=Memory()))
    choices = IncrementalLearner("auto")._choices
    assert [choices.for_classes(count).method.name for count in (4, 5)] == ["lucir", "analytic"]
    # Other wishes of the user may speak against it.
    choices = IncrementalLearner("auto", finetuning=BalancedFinetune(enabled=True))._choices
    assert choices.for_classes(5).method.name == "lucir"
