"""Settings of the exemplar level that cannot work are refused."""

from __future__ import annotations

import pytest

from mnemonics_tf.bilevel.kinds import Adjoint
from mnemonics_tf.checks import UsageError
from mnemonics_tf.memory.optimising.settings import ExemplarLevel


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
    level.check_shared(4, 4)
    with pytest.raises(
        UsageError, match=r"ExemplarLevel\.classes_per_chunk = 1: some chunks have 3 exemplars .* 4 devices"
    ):
        level.check_shared(3, 4)
