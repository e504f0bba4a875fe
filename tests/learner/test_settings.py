"""What settings of memory's use are refused beside others, each with one line."""

from __future__ import annotations

import dataclasses

import pytest

from mnemonics_tf.bilevel.kinds import Adjoint
from mnemonics_tf.checks import UsageError
from mnemonics_tf.learner import saving
from mnemonics_tf.learner.settings import PhasePlan, Settings
from mnemonics_tf.memory.optimising.objective_settings import Matching, NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.eeil import EEIL
from mnemonics_tf.methods.icarl import ICaRL
from mnemonics_tf.methods.joint import Joint
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.methods.lwf import LwF
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_NONE_KEPT = {
    "memory": Memory(strategy="herding", per_class=0, adjust=False),
    "finetuning": BalancedFinetune(enabled=False),
}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((LUCIR(), Rehearsal(memory_share=0.001)), "Rehearsal.memory_share = 0.001: of 128 images .* that is 0"),
        ((LwF(), Rehearsal(memory_share=0.5), _NONE_KEPT), "Rehearsal.memory_share = 0.5: .* keeps no memory"),
        ((LwF(), Rehearsal(logit_adjustment=1.0), _NONE_KEPT), "Rehearsal.logit_adjustment = 1.0: .* keeps no memory"),
        ((Joint(), Rehearsal(memory_share=0.5)), "Rehearsal.memory_share = 0.5: method 'joint' trains on all images"),
        (
            (ICaRL(targets="sigmoid"), Rehearsal(logit_adjustment=1.0)),
            "Rehearsal.logit_adjustment = 1.0: the loss of method 'icarl' is no softmax",
        ),
        (
            (LUCIR(), Rehearsal(), {"finetuning": BalancedFinetune(enabled=None, distil_from="before")}),
            "BalancedFinetune.distil_from = 'before': nothing is fine-tuned",
        ),
        (
            (EEIL(), Rehearsal(), {"finetuning": BalancedFinetune(distil_from="both")}),
            "BalancedFinetune.distil_from = 'both': method 'eeil' distils there by itself",
        ),
        (
            (
                LUCIR(),
                Rehearsal(),
                {
                    "finetuning": BalancedFinetune(distil_from="teacher"),
                    "model_level": ModelLevel(distillation=False),
                },
            ),
            "BalancedFinetune.distil_from = 'teacher': ModelLevel.distillation = False",
        ),
        (
            (
                LUCIR(),
                Rehearsal(),
                {"exemplar_level": ExemplarLevel(project_every=5), "memory": Memory(store_floats=True)},
            ),
            "ExemplarLevel.project_every = 5 with ExemplarMemory.store_floats = True",
        ),
        (
            # Its ranking is a mean over rehearsed images: half of each piece must be such.
            (
                LUCIR(),
                Rehearsal(),
                {"exemplar_level": ExemplarLevel(objective="next_phase", engine=Adjoint(images_at_once=3))},
            ),
            "ExemplarLevel.images_at_once = 3 with objective = 'next_phase': a part of the loss of method 'lucir'",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(settings, message):
    method, rehearsal, others = (*settings, {})[:3]
    with pytest.raises(UsageError, match=f"^{message}") as raised:
        Settings(method, rehearsal=rehearsal, **others).check()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("method", "size"), [(LUCIR(margin_weight=0.0), 3), (EEIL(), 3), (LUCIR(), 4)])
def test_pieces_of_batches_that_weigh_losses_rightly_are_taken(method, size):
    Settings(method, exemplar_level=ExemplarLevel(objective="next_phase", images_at_once=size)).check()


def test_separated_softmax_of_a_single_new_class_is_refused():
    settings = Settings(LUCIR(), rehearsal=Rehearsal(separated_softmax=True))
    settings.check_plan(PhasePlan([1, 2], [500] * 3), 1)
    settings.check_arrival([500], 0, 1, 1)
    settings.check_arrival([500], 3, 0, 1)  # more images of a known class
    for check in (
        lambda: settings.check_plan(PhasePlan([3, 2, 1], [500] * 6), 1),
        lambda: settings.check_arrival([500], 3, 1, 1),
    ):
        with pytest.raises(UsageError, match=r"^Rehearsal.separated_softmax = True: a phase brings one class"):
            check()


def test_old_exemplars_that_devices_cannot_share_are_refused_when_images_come():
    settings = Settings(LUCIR(), memory=Memory(per_class=4))  # a part has 2 of each of three classes
    settings.check_arrival([500] * 3, 3, 3, 6, [4, 4, 4])
    with pytest.raises(UsageError, match="6 exemplars are optimised together, to be shared by 8 devices"):
        settings.check_arrival([500] * 3, 3, 3, 8, [4, 4, 4])


def test_uneven_classes_are_counted_as_they_are():
    # 1 + 20 exemplars are enough for 4 devices.
    settings = Settings(LUCIR(), memory=Memory(adjust=False))
    settings.check_arrival([1, 500], 0, 2, 4)


def test_separated_softmax_needs_no_memory():
    # New images over new classes alone is what LwF was made for.
    Settings(LwF(), rehearsal=Rehearsal(separated_softmax=True), **_NONE_KEPT).check()


@pytest.mark.parametrize(
    ("first", "changes", "message"),
    [
        (4, {"new_classes": 4}, "NextPhase.new_classes = 4: of 4 classes that are learned together none is left"),
        (9, {"new_classes": 4, "chunk": 4}, "NextPhase.new_classes = 4: of 3 classes that are learned together"),
        (1, {}, "phase 0 has one class, and"),
        (3, {"chunk": 2}, r"phase 0 has one class in a chunk \(ExemplarLevel.classes_per_chunk = 2\), and"),
        (4, {"new_classes": 3}, None),
        (4, {"chunk": 2}, None),
    ],
)
def test_phase_0_without_pseudo_old_classes_is_refused_before_it_is_trained(first, changes, message):
    level = ExemplarLevel(objective="next_phase", classes_per_chunk=changes.pop("chunk", None))
    settings = Settings(LUCIR(), exemplar_level=level, next_phase=NextPhase(**changes))
    plan = PhasePlan([first, 2], [500] * (first + 2))
    if message is None:
        settings.check_plan(plan, 1)
        return
    with pytest.raises(UsageError, match=message):
        settings.check_plan(plan, 1)
    # Of a memory that is chosen the objective has no effect.
    chosen = dataclasses.replace(settings, memory=Memory(strategy="herding", adjust=False))
    chosen.check_plan(plan, 1)
    chosen.check_arrival([500] * first, 0, first, 1)


def test_settings_of_objectives_have_no_effect_where_nothing_is_learned():
    memory = Memory(strategy="herding", adjust=False)
    matching = {"matching": Matching(classes=600), "exemplar_level": ExemplarLevel(objective="matching")}
    odd = {"exemplar_level": ExemplarLevel(objective="next_phase", engine=Adjoint(images_at_once=3))}
    for settings, message in ((matching, "Matching.classes = 600"), (odd, "images_at_once = 3")):
        Settings(LUCIR(), memory=memory, **settings).check()
        with pytest.raises(UsageError, match=message):
            Settings(LUCIR(), **settings).check()


def test_xla_is_refused_where_devices_share_a_batch():
    settings = Settings(LUCIR(), model_level=ModelLevel(xla=True))
    plan = PhasePlan([4, 2], [500] * 6)
    with pytest.raises(UsageError, match=r"^ModelLevel\.xla = True with 2 devices: XLA cannot wait"):
        settings.check_plan(plan, 2)
    settings.check_plan(plan, 1)


def test_moments_of_batches_that_devices_share_are_refused():
    # Two devices gave a meta-gradient that was 44 % off that of one.
    settings = Settings(LUCIR(), exemplar_level=ExemplarLevel(batch_norm="batch"))
    plan = PhasePlan([4, 2], [500] * 6)
    with pytest.raises(UsageError, match=r"^ExemplarLevel\.batch_norm = 'batch' with 2 devices"):
        settings.check_plan(plan, 2)
    settings.check_plan(plan, 1)
    for others in (
        {"exemplar_level": ExemplarLevel(batch_norm="batch", engine="unrolled")},
        {"memory": Memory(strategy="herding", adjust=False)},
    ):
        dataclasses.replace(settings, **others).check_plan(plan, 2)


def test_learners_keep_every_part_of_their_settings():
    assert {field.name for field in dataclasses.fields(Settings)} == {
        "method",
        "network",
        *saving._PARTS,
        *saving._PLAIN,
    }
