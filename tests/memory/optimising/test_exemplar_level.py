"""Settings of the exemplar level that cannot work are refused."""

from __future__ import annotations

import pytest

from mnemonics_tf.bilevel.kinds import Adjoint
from mnemonics_tf.checks import UsageError
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "adjont"},
        {"inner_steps": 0},
        {"learning_rate": 0.0},
        {"num_parts": 1},
        {"inner_momentum": 1.0},
        {"classes_per_chunk": 0},
        {"clip_norm": 0.0},
        {"learned_rates": "one"},
        {"augmentation": ("mirror",)},
        {"augmentation": "flip"},
        {"learn_labels": "False"},
        {"batch_norm": "training"},
        {"batch_norm": "batch", "engine": "head"},
        {"checkpoint_every": 2, "engine": "unrolled"},
        {"images_at_once": 8, "batch_norm": "batch"},
        {"keep_activations": 0},
        {"keep_activations": 2, "images_at_once": 8},
        {"keep_activations": 2, "engine": "adjoint_forward"},
        {"learned_rates": "shared", "engine": "prototype"},
        {"inner_momentum": 0.9, "engine": "prototype"},
        {"learn_labels": True, "engine": "prototype"},
        {"window": 60, "engine": "truncated"},
        {"window": 2},
        {"objective": "paper"},
        {"optimiser": "lion"},
        {"momentum": 1.0},
        {"momentum": 0.9, "optimiser": "adam"},
        {"real_share": 1.0},
        {"project_every": 0},
        {"adjust_epochs": 0},
        {"engine": "head", "objective": "next_phase"},
        {"learn_labels": True, "objective": "matching"},
        {"learned_rates": "shared", "objective": "next_phase"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError, match=f"ExemplarLevel.{next(iter(settings))}"):
        ExemplarLevel(**settings)


def test_moments_of_whole_batches_are_not_taken_of_pieces_however_these_are_asked_for():
    with pytest.raises(UsageError, match=r"ExemplarLevel\.images_at_once = 8 with batch_norm = 'batch'"):
        ExemplarLevel(batch_norm="batch", engine=Adjoint(images_at_once=8))


def test_truncated_needs_a_window():
    with pytest.raises(UsageError, match=r"ExemplarLevel\.window = None"):
        ExemplarLevel(engine="truncated")


def test_digits_are_not_mirrored():
    mirrored = ExemplarLevel(augmentation=("crop", "flip"))
    mirrored.check_mirrored(True)
    with pytest.raises(UsageError, match="Leave 'flip' out"):
        mirrored.check_mirrored(False)


def test_chunks_that_are_too_small_for_the_devices_are_refused():
    level = ExemplarLevel(classes_per_chunk=1)
    level.check_shared([4, 5], 4)
    with pytest.raises(
        UsageError,
        match=r"ExemplarLevel\.classes_per_chunk = 1: 3 exemplars are optimised .* 4 devices.*, raise it, or",
    ):
        level.check_shared([9, 3, 9], 4)
    # All classes together: 1 + 20 exemplars, and there is nothing to be raised.
    ExemplarLevel().check_shared([1, 20], 4)
    with pytest.raises(UsageError, match=r"= None: 3 exemplars .* Keep more of each class, or make fewer"):
        ExemplarLevel().check_shared([1, 2], 4)


def test_parts_of_old_exemplars_that_are_too_small_for_the_devices_are_refused():
    level, memory = ExemplarLevel(num_parts=2), Memory(low_resolution=2)
    # Two parts of 2 + 1 slots of four images each; a class of one slot is not split.
    level.check_parts_shared([4, 3, 1], memory, 12)
    with pytest.raises(UsageError, match="12 exemplars are optimised together, to be shared by 13 devices"):
        level.check_parts_shared([4, 3, 1], memory, 13)
    level.check_parts_shared([1, 1], memory, 13)  # none is adjusted
