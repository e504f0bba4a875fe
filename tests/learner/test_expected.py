"""How long learning will take: counts by hand, and a network whose products are counted layer by layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.learner import expected
from mnemonics_tf.learner.defaults import BACKBONES
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.objective_settings import Matching, NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.analytic import Analytic
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_SHAPE = (32, 32, 3)


@pytest.mark.parametrize("network", [BACKBONES["resnet8"], BACKBONES["small"], ResNet((2, 1), (8, 8))])
@pytest.mark.parametrize("side", [32, 45])
def test_products_are_those_of_the_layers(network, side):
    total = 0
    for layer in network.build((side, side, 3)).layers:
        for weight in layer.weights:
            if len(weight.shape) == 4:  # each kernel at each place of the layer's output
                total += int(np.prod(weight.shape)) * int(np.prod(layer.output.shape[1:3]))
            elif len(weight.shape) == 2:
                total += int(np.prod(weight.shape))
    assert network.multiply_adds((side, side, 3)) == total


def _settings(method, **parts) -> Settings:
    return Settings(method, ResNet(), **{"probe": Probe(enabled=False), **parts})


def test_passes_are_counted():
    settings = _settings(
        LUCIR(),
        memory=Memory(per_class=5, initial="herding"),
        model_level=ModelLevel(epochs=10),
        exemplar_level=ExemplarLevel(epochs=2, steps_per_epoch=3, inner_steps=4, inner_batch_size=8, batch_size=16),
        finetuning=BalancedFinetune(epochs=6),
    )
    # 100 images of 2 classes beside 15 exemplars of 3; a pass of training counts 3, and 1 more with a teacher.
    training = 10 * (100 + 15) * (3 + 1)
    chosen_and_measured = 100 + 2 * (10 + 15)
    # 2 x 3 meta-steps of 4 inner steps of 8 images, walked back (7), and an outer batch of 16; adjusting: 2 parts of 7,
    # each validated on the other 8, so that an epoch is one step.
    learned = 6 * (4 * 8 * (3 + 7) + 3 * 16)
    adjusted = 2 * 2 * (4 * 7 * (3 + 7) + 3 * 8)
    finetuned = 6 * (10 + 15) * 3
    load = expected.Load(num_images=100, num_old=3, num_new=2, num_kept=15)
    assert expected.passes(settings, _SHAPE, load) == training + chosen_and_measured + learned + adjusted + finetuned


def test_objectives_take_what_their_meta_steps_pass():
    level = ExemplarLevel(
        epochs=2, steps_per_epoch=3, inner_steps=4, inner_batch_size=8, batch_size=16, objective="matching"
    )
    memory = Memory(per_class=5, initial="herding", adjust=False)
    settings = _settings(LUCIR(), memory=memory, exemplar_level=level, finetuning=BalancedFinetune(enabled=False))
    load = expected.Load(num_images=100, num_old=3, num_new=4, num_kept=15)

    def of_a_meta_step(**changes) -> float:
        none = dataclasses.replace(settings, memory=dataclasses.replace(memory, strategy="herding"))
        return (
            expected.passes(dataclasses.replace(settings, **changes), _SHAPE, load)
            - expected.passes(none, _SHAPE, load)
        ) / 6

    # 16 real images forward, 5 exemplars of each of 2 classes forward and back; gradients of a block take a pass more.
    assert of_a_meta_step(matching=Matching(classes=2)) == 16 + 10 * 3
    assert of_a_meta_step(matching=Matching(classes=2, gradients="block")) == 16 * 3 + 10 * 7
    half = dataclasses.replace(level, real_share=0.5)
    assert of_a_meta_step(exemplar_level=half, matching=Matching(classes=2)) == 16 + 5 + 5 * 3
    # Two later phases of 4 steps of 8 images with a teacher, once for all 6 meta-steps.
    forgetting = of_a_meta_step(matching=Matching(classes=2, later_phases=2))
    assert forgetting == pytest.approx(16 + 10 * 3 + 2 * 4 * 8 * (3 + 1) / 6)
    # Three draws of 4 inner steps of 8 images with a teacher, walked back, and an outer batch of 16.
    simulated = dataclasses.replace(level, objective="next_phase")
    assert of_a_meta_step(exemplar_level=simulated, next_phase=NextPhase(draws=3)) == 3 * (4 * 8 * (3 + 7 + 1) + 16 * 3)


@pytest.mark.parametrize("objective", ["temporary_model", "matching", "next_phase"])
def test_more_images_of_known_classes_are_learned_as_those_of_new_ones_are(objective):
    level = ExemplarLevel(epochs=1, steps_per_epoch=2, inner_steps=3, objective=objective)
    settings = _settings(LUCIR(), memory=Memory(per_class=5, initial="herding"), exemplar_level=level)
    # Exemplars of 2 classes are chosen and learned in either case, beside those of 3 others; the latter are adjusted.
    again = expected.passes(settings, _SHAPE, expected.Load(100, 5, 0, 25, num_again=2))
    new = expected.passes(settings, _SHAPE, expected.Load(100, 3, 2, 15))
    # The 10 old exemplars of the 2 classes are trained on with a teacher, and are among those that are chosen from.
    assert again - new == 10 * (settings.model_level.epochs * (3 + 1) + 1)
    # With none left to adjust there is only less to do.
    assert 0 < expected.passes(settings, _SHAPE, expected.Load(100, 2, 0, 10, num_again=2)) < again


def test_methods_without_teacher_or_training_take_less():
    memory, finetuning = Memory(strategy="random", per_class=5, adjust=False), BalancedFinetune(enabled=False)
    replay = _settings(Replay(), memory=memory, model_level=ModelLevel(epochs=2), finetuning=finetuning)
    assert expected.passes(replay, _SHAPE, expected.Load(100, 3, 2, 15)) == 2 * 115 * 3 + 2 * 25
    fitted = _settings(Analytic(), memory=Memory(strategy="herding", per_class=0, adjust=False), finetuning=finetuning)
    assert expected.passes(fitted, _SHAPE, expected.Load(100, 3, 2, 0)) == 2 * 100


def test_phases_have_the_exemplars_of_those_before():
    settings = _settings(Replay(), memory=Memory(strategy="random", total=12, adjust=False))
    found = expected.loads(settings, _SHAPE, [2, 1], [10, 4, 7])
    # 6 of each of two classes, of which the second has 4.
    assert found == [expected.Load(14, 0, 2, 0), expected.Load(7, 2, 1, 10)]


@pytest.mark.parametrize(
    ("memory", "kept"),
    [
        (Memory(strategy="random", adjust=False, bytes_per_class=61600), 20),
        (Memory(strategy="random", adjust=False, total_bytes=61600), 10),  # of two classes
        (Memory(strategy="random", adjust=False, bytes_per_class=61600, store_floats=True), 5),
        (Memory(strategy="random", adjust=False, bytes_per_class=12320, low_resolution=2), 16),
        # As measured in runs: 91 to 109.
        (Memory(strategy="random", adjust=False, bytes_per_class=61600, codec="webp"), 111),
        (Memory(strategy="random", adjust=False, bytes_per_class=100), 1),
    ],
)
def test_exemplars_of_a_budget_in_bytes_are_reckoned_from_the_size_of_images(memory, kept):
    found = expected.loads(_settings(Replay(), memory=memory), _SHAPE, [2, 1], [500, 500, 500])
    assert found[1].num_kept == 2 * kept


def test_a_set_number_of_steps_is_what_later_phases_take():
    memory, finetuning = Memory(strategy="random", per_class=5, adjust=False), BalancedFinetune(enabled=False)
    parts = {"memory": memory, "model_level": ModelLevel(epochs=2, batch_size=8), "finetuning": finetuning}
    settings = _settings(Replay(), **parts, rehearsal=Rehearsal(memory_share=0.5, steps_per_epoch=3))
    measured = 2 * (10 + 15)
    assert expected.passes(settings, _SHAPE, expected.Load(100, 3, 2, 15)) == 2 * 3 * 8 * 3 + measured
    # Phase 0 has nothing to pair, and goes through its images.
    assert expected.passes(settings, _SHAPE, expected.Load(100, 0, 2, 0)) == 2 * 100 * 3 + 2 * 10


def test_seconds_grow_with_the_work_and_are_unknown_for_a_network_of_unknown_size():
    settings = _settings(Replay(), model_level=ModelLevel(epochs=200))
    short, long = expected.seconds(settings, (32, 32, 3), [expected.Load(100, 0, 2, 0), expected.Load(9000, 0, 2, 0)])
    assert 0 < short < long

    class _Unknown:
        network, method = object(), settings.method

    assert expected.seconds(_Unknown(), (32, 32, 3), []) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (200, "3 minutes"), (5000, "83 minutes"), (9000, "2.5 hours")]
)
def test_durations_are_told_as_people_do(seconds, text):
    assert expected.told(seconds) == text
