"""Classes with one image, and arrivals that bring no class: learned, by the rules that hold for others."""

from __future__ import annotations

import numpy as np
from tiny_learner import bars, tiny_learner

from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.training import model_level
from mnemonics_tf.training.rehearsal import PhaseRehearsal, Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel


def _few_epochs(**changes):
    level = ModelLevel(epochs=1, batch_size=16, milestones=(), weight_transfer="none")
    return {"model_level": level, "finetuning": BalancedFinetune(enabled=False), **changes}


def test_class_of_one_image_is_learned_within_a_budget_in_bytes():
    # BiC holds out one image of a class and trains on others, which the budget has room for, and this class has not.
    memory = Memory(strategy="herding", adjust=False, bytes_per_class=2000)
    learner = tiny_learner("bic", **_few_epochs(memory=memory))
    learner.learn(*bars([0, 1, 2], 12))
    learner.learn(*bars([3], 1, 5))
    assert learner.memory.counts["3"] == 1 < learner.memory.counts["0"]


def test_single_exemplar_that_stays_real_is_left_as_it_is():
    level = ExemplarLevel(objective="matching", epochs=1, steps_per_epoch=2, learning_rate=1e3, real_share=0.5)
    memory = Memory(strategy="mnemonics", initial="herding", per_class=4, adjust=False)
    learner = tiny_learner("lwf", **_few_epochs(memory=memory, exemplar_level=level))
    learner.learn(*bars([0, 1], 12))
    images, labels = bars([2], 1, 5)
    learner.learn(images, labels)
    assert learner.memory.counts["2"] == 1
    rows = np.array(learner.memory.names) == "2"
    np.testing.assert_array_equal(learner.memory.images[rows], images)


def test_exemplars_are_not_taken_for_new_images_where_no_class_is_new(monkeypatch):
    seen = []

    def noted(settings, *others):
        seen.append(settings)
        return PhaseRehearsal(settings, *others)

    monkeypatch.setattr(model_level, "PhaseRehearsal", noted)
    rehearsal = Rehearsal(memory_share=0.5, logit_adjustment=1.0)
    learner = tiny_learner("replay", **_few_epochs(rehearsal=rehearsal))
    learner.learn(*bars([0, 1], 12))
    learner.learn(*bars([2], 12))
    learner.learn(*bars([0], 12, seed=3))
    assert seen == [rehearsal, Rehearsal(logit_adjustment=1.0)]
