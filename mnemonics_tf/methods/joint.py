"""Joint training: the upper bound, which sees all data so far in every phase."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from mnemonics_tf.data.types import LabelledImages, Phase
from mnemonics_tf.methods.replay import Replay


@dataclasses.dataclass(frozen=True)
class Joint(Replay):
    """Cross-entropy on the training images of all classes seen so far, from the network of the phase before."""

    name: ClassVar[str] = "joint"
    needs_exemplars: ClassVar[bool] = False
    trains_on_old_data: ClassVar[bool] = True

    def training_data(
        self, phase: Phase, exemplars: LabelledImages | None, generator: np.random.Generator
    ) -> tuple[LabelledImages, LabelledImages | None]:
        """The training images of all classes so far, and nothing held out. Exemplars, learned or not, are left out."""
        return (phase.train if phase.old_train is None else phase.old_train.join(phase.train)), None
