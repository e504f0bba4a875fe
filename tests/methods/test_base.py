"""What holds for every base method, and the defaults that a new one starts from."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import oracles
import pytest
import tensorflow as tf
from oracles import GROUPS, INITIAL, LABELS, NUM_OLD

from mnemonics_tf import config, methods
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import ClassGroups, LabelledImages
from mnemonics_tf.methods.base import Method
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.icarl import ICaRL
from mnemonics_tf.models.classifier import Outputs
from mnemonics_tf.models.heads import HEADS

_NAMES = ["analytic", "bic", "eeil", "icarl", "joint", "lucir", "lwf", "podnet", "replay", "wa"]

# Every method with its defaults, and those whose settings change the kind of loss.
_METHODS = {name: method() for name, method in methods.available().items()}
_METHODS |= {"icarl_sigmoid": ICaRL(targets="sigmoid"), "eeil_noise": EEIL(noise_scale=0.3)}

every_method = pytest.mark.parametrize("method", _METHODS.values(), ids=list(_METHODS))


@dataclasses.dataclass(frozen=True)
class _Plain(Method):
    """The least that a method must give; not in the package, so not among the available ones."""

    name: ClassVar[str] = "plain"

    def losses(self, outputs, teacher, labels, groups):
        return {}


def _losses(method: Method, outputs: Outputs, teacher: Outputs | None, labels=LABELS, groups=GROUPS):
    terms = method.losses(outputs, teacher, tf.constant(labels), groups)
    return {name: float(value) for name, value in terms.items()}


def test_method_outside_of_the_package_is_found_in_its_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_replay.py").write_text(
        "from mnemonics_tf.methods.replay import Replay\n\n\nclass Outside(Replay):\n    name = 'outside'\n"
    )
    (tmp_path / "outside_nothing.py").write_text("from mnemonics_tf.methods.replay import Replay\n")
    assert methods.defined_in(["outside_replay", "outside_nothing"]).name == "outside"
    assert methods.defined_in(["outside_nothing"]) is None
    with pytest.raises(UsageError, match="The module 'outside_nobody' cannot be imported"):
        methods.defined_in(["outside_nobody"])


def test_the_ten_methods_are_found_by_name():
    found = methods.available()
    assert list(found) == _NAMES
    for name, method in found.items():
        assert issubclass(method, Method)
        assert method.name == name


def test_methods_have_names_of_their_own_and_are_configured_by_them():
    classes = list(methods.available().values())
    assert len({method.name for method in classes}) == len(set(classes)) == 10
    for name, method in methods.available().items():
        assert config.CONFIGURABLES[name] is method


@every_method
def test_what_a_method_says_of_itself_can_be_had(method):
    assert method.primary_classifier in ("cnn", "nme")
    assert method.head in method.heads
    assert set(method.heads) <= set(HEADS)
    # Nothing else would hand its fine-tuning loss a teacher.
    assert method.distils or not method.distils_in_finetuning


@every_method
def test_initial_phase_is_the_classification_loss_alone(method):
    outputs = oracles.outputs(0)
    (name,) = terms = _losses(method, outputs, None, groups=INITIAL)
    if name == "cross_entropy":
        # Of full weight, whatever share distillation has later.
        assert terms[name] == pytest.approx(oracles.cross_entropy(outputs.logits, LABELS), rel=1e-10)
    else:
        assert name == {"icarl": "binary_cross_entropy", "podnet": "nca"}[method.name]


@every_method
def test_without_distillation_a_later_phase_is_trained_like_the_first(method):
    outputs = oracles.outputs(0)
    initial, later = _losses(method, outputs, None, groups=INITIAL), _losses(method, outputs, None)
    # LUCIR's ranking needs no teacher: its own test compares it with NumPy.
    assert set(later) - set(initial) == ({"margin_ranking"} if method.name == "lucir" else set())
    for name, value in initial.items():
        assert later[name] == pytest.approx(value, rel=1e-12)


@every_method
def test_methods_look_at_the_teacher_only_if_they_say_that_they_distil(method):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    assert (_losses(method, outputs, teacher) != _losses(method, outputs, None)) is method.distils


@every_method
def test_methods_look_at_feature_maps_only_if_they_say_so(method):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    moved = tuple(2 * part + 1 for part in outputs.maps)
    terms, changed = (_losses(method, outputs._replace(maps=maps), teacher) for maps in (outputs.maps, moved))
    assert (terms != changed) is method.tells_maps
    if not method.tells_maps:
        assert _losses(method, outputs._replace(maps=()), teacher._replace(maps=())) == terms


@every_method
def test_order_of_images_does_not_matter(method):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    order = np.random.default_rng(0).permutation(len(LABELS))
    expected = _losses(method, outputs, teacher)
    terms = _losses(method, *(oracles.reordered(each, order) for each in (outputs, teacher)), LABELS[order])
    assert terms == pytest.approx(expected, rel=1e-10)


@every_method
def test_order_of_the_classes_of_a_phase_does_not_matter(method):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    order = np.array([2, 0, 1, 4, 3, 6, 5])  # within 0-2, 3-4 and 5-6
    renumbered = outputs._replace(
        scores=tf.gather(outputs.scores, order, axis=1), logits=tf.gather(outputs.logits, order, axis=1)
    )
    renumbered_teacher = teacher._replace(logits=tf.gather(teacher.logits, order[:NUM_OLD], axis=1))
    terms = _losses(method, renumbered, renumbered_teacher, np.argsort(order)[LABELS])
    assert terms == pytest.approx(_losses(method, outputs, teacher), rel=1e-10)


@every_method
def test_only_eeil_asks_in_how_many_phases_the_old_classes_came(method):
    outputs, teacher = oracles.outputs(0), oracles.of_old_classes(oracles.outputs(1))
    together = _losses(method, outputs, teacher, groups=ClassGroups((5, 2)))
    assert (together == _losses(method, outputs, teacher)) is (method.name != "eeil")


@pytest.mark.parametrize("labels", [LABELS, np.full(9, 6), np.full(9, 1)], ids=["mixed", "new", "old"])
@pytest.mark.parametrize("moved", [True, False])
@every_method
def test_gradients_are_finite_even_where_the_network_has_not_moved(method, moved, labels):
    outputs = oracles.outputs(0)
    teacher = oracles.of_old_classes(oracles.outputs(1) if moved else outputs)
    with tf.GradientTape() as tape:
        watched = [outputs.features, outputs.scores, outputs.logits, outputs.eta, *outputs.maps]
        tape.watch(watched)
        terms = method.losses(outputs, teacher, tf.constant(labels), GROUPS)
        total = tf.add_n(list(terms.values()))
    gradients = [gradient for gradient in tape.gradient(total, watched) if gradient is not None]
    assert gradients
    assert np.isfinite(total)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_methods_with_the_same_initial_training_train_alike_in_phase_0():
    # They share networks of phase 0, so what they say must be true.
    outputs = oracles.outputs(0)
    trained: dict[str, list[tuple]] = {}
    for method in _METHODS.values():
        total = sum(_losses(method, outputs, None, groups=INITIAL).values())
        trained.setdefault(method.initial_training, []).append((total, method.gradient_noise))
    for alike in trained.values():
        assert all(noise == alike[0][1] for _, noise in alike)
        assert [total for total, _ in alike] == pytest.approx([alike[0][0]] * len(alike), rel=1e-12)
    # Cross-entropy, iCaRL's sigmoids, EEIL's noise and PODNet's NCA.
    assert len(trained) == 4
    assert len(trained["cross_entropy"]) == 9


def test_default_fine_tuning_is_cross_entropy_with_hard_and_with_soft_labels():
    outputs = oracles.outputs(0)
    terms = _Plain().finetuning_losses(outputs, None, None, tf.constant(LABELS), GROUPS)
    assert set(terms) == {"cross_entropy"}
    assert float(terms["cross_entropy"]) == pytest.approx(oracles.cross_entropy(outputs.logits, LABELS), rel=1e-10)
    soft = np.random.default_rng(3).dirichlet(np.ones(7), len(LABELS))
    rows = zip(soft, outputs.logits.numpy(), strict=True)
    expected = np.mean([-np.sum(target * np.log(oracles.probabilities(logits))) for target, logits in rows])
    terms = _Plain().finetuning_losses(outputs, None, None, tf.constant(soft), GROUPS)
    assert float(terms["cross_entropy"]) == pytest.approx(expected, rel=1e-10)


def test_default_training_data_are_everything_and_nothing_is_held_out():
    phase, exemplars = oracles.a_phase(), oracles.images_of([0, 1, 2, 3, 4])
    data, held_out = _Plain().training_data(phase, exemplars, np.random.default_rng(0))
    assert held_out is None
    assert oracles.pixels_of(data) == [*oracles.pixels_of(phase.train), 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(data.labels, [*phase.train.labels, 0, 1, 2, 3, 4])
    data, held_out = _Plain().training_data(phase, None, np.random.default_rng(0))
    assert held_out is None
    assert oracles.pixels_of(data) == oracles.pixels_of(phase.train)


def test_default_training_on_learned_exemplars_is_by_hard_labels():
    exemplars = oracles.images_of([0, 1])
    soft = LabelledImages(exemplars.images, exemplars.labels, np.full((2, 5), 0.2, np.float32))
    data, _ = _Plain().training_data(oracles.a_phase(), soft, np.random.default_rng(0))
    assert data.soft_labels is None


def test_default_hooks_do_nothing():
    method = _Plain()
    assert not method.imprints
    assert method.gradient_noise is None
    # It touches neither of its arguments.
    assert method.complete(None, None, None, GROUPS) is None


@every_method
def test_exemplars_are_needed_unless_the_method_says_otherwise(method):
    if method.name == "analytic":
        method.check(0, method.head)
        with pytest.raises(UsageError, match=r"trains on no exemplars.*Set ExemplarMemory\.per_class = 0"):
            method.check(2, method.head)
        return
    method.check(2, method.head)
    if method.name in ("lwf", "joint"):
        method.check(0, method.head)
        return
    message = rf"Method '{method.name}' needs exemplars, and ExemplarMemory\.per_class = 0 keeps none\. Raise it, "
    with pytest.raises(UsageError, match=message):
        method.check(0, method.head)


@every_method
def test_heads_that_a_method_cannot_work_with_are_refused(method):
    for head in HEADS:
        if head in method.heads:
            method.check_head(head)
        else:
            with pytest.raises(UsageError, match=rf"Experiment\.head = '{head}': method '{method.name}' works with '"):
                method.check_head(head)


def test_refused_head_names_those_that_work():
    @dataclasses.dataclass(frozen=True)
    class Choosy(_Plain):
        name: ClassVar[str] = "choosy"
        heads: ClassVar[tuple[str, ...]] = ("cosine", "linear")

    message = r"Experiment\.head = 'proxies': method 'choosy' works with 'cosine', 'linear'\."
    with pytest.raises(UsageError, match=message):
        Choosy().check(20, "proxies")


def test_methods_of_others_are_not_among_those_of_the_package():
    assert "plain" not in methods.available()
    assert "choosy" not in methods.available()
