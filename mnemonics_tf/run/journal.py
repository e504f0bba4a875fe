"""A learner's journal that is a run's folder: files of phases, pictures for TensorBoard, a phase 0 that runs share."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

from mnemonics_tf import runtime
from mnemonics_tf.data.types import Arrival, LabelledImages, Phase
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.memory.codecs import Codec
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.memory.store import ExemplarStore, as_kept
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.run import initial_phases as shared_phases
from mnemonics_tf.run.board import Board
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.initial_phases import InitialPhases, shared_network
from mnemonics_tf.run.observations import few_of_each_class, save_confusion, save_starting_images
from mnemonics_tf.run.phase_files import read_exemplars, result_of, write_phase
from mnemonics_tf.system.snapshot_files import PhaseSnapshots
from mnemonics_tf.system.snapshots import Snapshots


class RunJournal:
    """Writes each phase to the run's folder, in one step; with several workers the first one writes.

    Args:
      directory: the run's folder.
      board: what is shown in TensorBoard.
      codec: how exemplars are stored.
      initial_phases: trained networks of phase 0 that runs share, or None.
      streamed: whether exemplars stay in files.
      writes: whether this process writes the run's files; of several workers the first one does.
      on_phase: is told what each phase reached, once it is on disk.
      snapshots: when steps put down what they have come to.
      earlier: what phases reached that an earlier process has learned. Their files are not asked again: of a phase that
        is not the last one some may be lost.
    """

    def __init__(
        self,
        directory: RunDirectory,
        board: Board,
        codec: Codec,
        initial_phases: InitialPhases | None,
        streamed: bool,
        writes: bool,
        on_phase: Callable[[PhaseResult], None],
        snapshots: Snapshots,
        earlier: Sequence[PhaseResult] = (),
    ):
        self.snapshots = snapshots
        self._directory, self._board, self._codec = directory, board, codec
        self._initial_phases, self._streamed = initial_phases, streamed
        self._writes, self._on_phase = writes, on_phase
        self._results = list(earlier)
        self._starting: LabelledImages | None = None  # what the phase's exemplars began as, if they were learned

    @contextlib.contextmanager
    def waiting_room(self, context: Context) -> Iterator[PixelFile | None]:
        """A file in the run's folder, where a streamed data set has too many exemplars for memory."""
        with self._directory.scratch(runtime.worker_index(context.trainer.strategy)) as folder:
            path = os.path.join(folder, "exemplars.pixels")
            yield PixelFile(path, context.traits.image_shape) if self._streamed else None

    def store(self, phase: int) -> PhaseSnapshots:
        """What an interrupted attempt at the phase has come to, if there was one, and a place for more."""
        # A network that other runs will take for that of this code must not be of another one's by half.
        code = "" if phase or self._initial_phases is None else shared_phases.code()
        return self._directory.snapshots(phase, self._writes, self._board.tracker.seconds_so_far, code)

    def initial_network(
        self, context: Context, phase: Phase, train: Callable[[], Classifier], notes: list[str]
    ) -> tuple[Classifier, bool]:
        """That of an earlier run with the same phase 0, if runs share them and there is one."""
        if self._initial_phases is None:
            return train(), False
        return shared_network(self._initial_phases, context, phase, train, notes)

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        """Shows them side by side in TensorBoard, and remembers what new ones began as."""
        if not self._writes:
            return
        # Those of a streamed data set lie in a file, and there may be more of them than memory holds.
        few = [as_kept(few_of_each_class(exemplars), self._codec) for exemplars in (before, after)]
        if which == "new":
            self._starting = few[0]
        self._board.exemplars_changed(which, *few)

    def phase_finished(self, state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
        """Writes the phase. Exemplars of a streamed data set are those in its file from here on."""
        strategy = context.trainer.strategy
        if self._writes:
            with self._directory.writing_phase(state.phase) as folder:
                result = write_phase(folder, state, arrival, context)
                self._observe(folder, state, arrival)
            self._results.append(result)
            self._board.phase(self._results, state.under_way.predictions)
        else:
            result = result_of(state, arrival, dict(context.tracker.seconds))
        if state.under_way.exemplars is not None:
            embed = state.new_network.predictor.features
            self._board.embeddings(
                state.phase, state.under_way.exemplars.decoded(), lambda images: embed(images, "projector")
            )
        if self._writes:
            self._directory.remove_snapshots()
        self._board.tracker.flush()
        self._on_phase(result)
        # What the chief has written must be there before others read it, or end.
        runtime.barrier(strategy)
        finished = state.finished(arrival)
        if not self._streamed:
            return finished
        slots = read_exemplars(self._directory.phase_dir(state.phase), finished.classes.order, streamed=True)
        return dataclasses.replace(finished, exemplars=ExemplarStore(slots, self._codec))

    def _observe(self, folder: str, state: LearnerState, arrival: Arrival) -> None:
        """Writes what is only looked at."""
        classes = state.classes.grown(arrival.class_ids, arrival.class_names)
        if state.under_way.predictions is not None:
            save_confusion(folder, state.under_way.predictions, classes)
        if self._starting is not None:
            save_starting_images(folder, self._starting, classes, self._codec)
            self._starting = None
