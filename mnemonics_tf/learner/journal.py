"""Where a learner puts down what it has learned: nowhere, or in a run's folder (`mnemonics_tf.run.journal`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from mnemonics_tf.data.types import Arrival, LabelledImages, Phase
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.models.classifier import Classifier

if TYPE_CHECKING:
    from mnemonics_tf.learner.context import Context
    from mnemonics_tf.learner.state import LearnerState


class Journal(Protocol):
    """What the algorithm tells, and asks, while it works."""

    def waiting_room(self, context: Context) -> AbstractContextManager[PixelFile | None]:
        """Where exemplars wait on disk until the phase is over; None where memory holds them."""

    def initial_network(
        self, context: Context, phase: Phase, train: Callable[[], Classifier]
    ) -> tuple[Classifier, bool]:
        """The network of phase 0, and whether an earlier run has trained it; `train` trains it now."""

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        """Exemplars were learned (`which` is `new`) or adjusted (`old`); slots that are worked on."""

    def phase_finished(self, state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
        """All steps are over and `state.work` tells what they came to. Returns the state to go on from."""


class NoJournal:
    """Puts nothing down."""

    def waiting_room(self, context: Context) -> AbstractContextManager[PixelFile | None]:
        return contextlib.nullcontext()

    def initial_network(
        self, context: Context, phase: Phase, train: Callable[[], Classifier]
    ) -> tuple[Classifier, bool]:
        return train(), False

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        pass

    def phase_finished(self, state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
        return state.finished(arrival)
