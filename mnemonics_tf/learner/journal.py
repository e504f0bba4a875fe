"""The journals of a learner, which put down no results; that of a run is `mnemonics_tf.run.journal`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from mnemonics_tf.data.types import Arrival, LabelledImages, Phase
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system.snapshots import Snapshots, Store, Workers

SECONDS_APART = 60.0  # between two snapshots of a step, as `Experiment.snapshot_seconds` of a run is by default


class NoJournal:
    """Puts nothing down."""

    def __init__(self) -> None:
        self.snapshots = Snapshots()

    def waiting_room(self, context: Context) -> AbstractContextManager[PixelFile | None]:
        return contextlib.nullcontext()

    def store(self, phase: int) -> Store | None:
        return None

    def initial_network(
        self, context: Context, phase: Phase, train: Callable[[], Classifier], notes: list[str]
    ) -> tuple[Classifier, bool]:
        return train(), False

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        pass

    def phase_finished(self, state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
        return state.finished(arrival)


class KeepingJournal(NoJournal):
    """Puts down what the steps of a phase have come to while it is under way, and no results.

    Args:
      place: where it is put down, and where an interrupted attempt may have left something.
      workers: processes that share the work; None for one that works alone.
    """

    def __init__(self, place: Store, workers: Workers | None = None):
        self.snapshots = Snapshots(SECONDS_APART, workers)
        self._place = place

    def store(self, phase: int) -> Store | None:
        return self._place
