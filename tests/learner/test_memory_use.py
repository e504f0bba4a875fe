"""A learner that uses its memory in every way there is: phase 0 stays as it was, later phases do not."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_learner import bars, tiny_learner

from mnemonics_tf import Rehearsal
from mnemonics_tf.checks import UsageError
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_EVERY = Rehearsal(0.5, True, 1.0, 0.05, "cosine", "all", 0.9)
_LEVEL = ModelLevel(epochs=2, batch_size=16, milestones=(), weight_transfer="none", precision="float16")


def test_phase_0_is_the_same_bit_for_bit_and_later_phases_learn_otherwise():
    images, _ = bars([0, 1, 2, 3], 4, seed=1)
    told = []
    for rehearsal, distil_from in ((Rehearsal(), "none"), (_EVERY, "both")):
        learner = tiny_learner(
            "replay",
            model_level=_LEVEL,
            rehearsal=rehearsal,
            finetuning=BalancedFinetune(epochs=1, batch_size=16, initial_phase=False, distil_from=distil_from),
        )
        learner.learn(*bars([0, 1], 16))
        first = learner.predict(images).probabilities
        learner.learn(*bars([2, 3], 16))
        told.append((first, learner.predict(images).probabilities))
    (first, later), (first_by_every, later_by_every) = told
    np.testing.assert_array_equal(first, first_by_every)
    assert np.abs(later - later_by_every).max() > 1e-3
    assert np.isfinite(later_by_every).all()


def test_part_of_another_kind_is_refused():
    with pytest.raises(UsageError, match=r"^rehearsal = 0\.5: expected a Rehearsal"):
        tiny_learner(rehearsal=0.5)
