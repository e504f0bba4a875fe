"""A whole run: all phases of a data set, resumed where an earlier process left off."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from mnemonics_tf import checks, runtime
from mnemonics_tf.data.layout import listed
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.data.types import Arrival, Dataset, PixelRange
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.store import codec_for
from mnemonics_tf.results import PhaseResult, Results, summarise
from mnemonics_tf.run import data_note, initial_phases
from mnemonics_tf.run.board import Board
from mnemonics_tf.run.configuration import Configuration, check_data
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.initial_phases import InitialPhases
from mnemonics_tf.run.journal import RunJournal
from mnemonics_tf.run.phase_files import read_state
from mnemonics_tf.run.recovery import check_room, recover
from mnemonics_tf.run.telling import Teller
from mnemonics_tf.system import screen, seeds, sources
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker


class Run:
    """An experiment in a folder. Creating it checks everything, loads the data, and leaves the folder alone.

    Settings are checked against one another first: a contradiction is refused before other workers are met, data are
    downloaded or anything is written.

    Args:
      output_dir: the run's folder.
      configure: makes all that the run consists of; `config.resolved` makes it of what gin has bound.
      initial_phases_dir: folder of trained initial phases that runs share; None to share none.

    Raises:
      UsageError: something cannot be done as configured.
    """

    def __init__(self, output_dir: str, configure: Callable[[], Configuration], initial_phases_dir: str | None = None):
        configuration = configure()
        configuration.check()
        # Files may be edited while the run works: what marks of phases name is what was imported.
        sources.checksum_of_all()
        if initial_phases_dir is not None:
            initial_phases.code()
        self._settings, self._setup = configuration.settings, configuration.setup
        self._initial_phases_dir, self._snapshot_seconds = initial_phases_dir, configuration.snapshot_seconds
        # With several workers, nothing may be computed before they have met.
        self._strategy = configuration.devices.create_strategy()
        self._check_shared_phases()
        if self._settings.deterministic:
            seeds.make_deterministic()
        dataset, wanted = self._load_dataset(configuration), self._settings.network.pixel_range
        self._stream = ClassStream(dataset, configuration.protocol, wanted)
        check_data(self._settings, self._stream, self._strategy.num_replicas_in_sync)
        self._config = configuration.text()
        self.directory = RunDirectory(output_dir)
        self._phases: list[PhaseResult] = []
        self._teller: Teller | None = None

    @property
    def num_phases(self) -> int:
        """N + 1."""
        return self._stream.num_phases

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run's files: it works alone, or is the first of several workers."""
        return runtime.is_chief(self._strategy)

    def run(self) -> Results:
        """Runs the phases that are not complete yet.

        Returns:
          What `results.json` then holds.

        Raises:
          UsageError: the folder cannot be used, or a saved phase belongs elsewhere.
          DivergedError: a loss became NaN; complete phases stay.
        """
        shared = InitialPhases(self._initial_phases_dir) if self._initial_phases_dir else None
        with runtime.explaining_lost_workers(self._strategy):
            self._phases = self._open()
            complete = len(self._phases)
            if complete < self.num_phases:
                self._learn_phases(complete, shared)
            elif self.is_chief:
                self._notice_changed_data()
                self.directory.remove_snapshots()
            self._write()
            # A worker that left before the first has written everything would be missed if that one had to start again.
            runtime.barrier(self._strategy)
            return self._results()

    def _learn_phases(self, first: int, shared: InitialPhases | None) -> None:
        """Phases `first`, `first + 1`, ... one after the other."""
        self._recall_data()
        tracker = Tracker(self.directory.tensorboard_dir if self.is_chief else None)
        journal = RunJournal(
            self.directory,
            Board(tracker, self._config, self._hparams(), self._stream.class_names, self._stream.phase_sizes),
            codec_for(self._settings.memory),
            shared,
            self._stream.streamed,
            self.is_chief,
            self._note_phase,
            Snapshots(self._snapshot_seconds, runtime.agreement(self._strategy)),
            self._phases,
        )
        learner = IncrementalLearner.from_settings(
            self._settings,
            self._stream.dataset.traits,
            self._stream.pixel_range,
            strategy=self._strategy,
            tracker=tracker,
            journal=journal,
        )
        if self.is_chief:
            self._teller = Teller(self._settings, self._stream, self._strategy)
            self._teller.begin(self._phases)
            tracker.overview = self._teller.overview
        if first:
            self._restore(learner, first - 1)
        for index in range(first, self.num_phases):
            self.directory.check_there()
            store = journal.store(index)
            tracker.start_phase(index, self.num_phases, store.seconds() if len(store) else None)
            if self.is_chief:
                check_room(self.directory, index)
            with tracker.stage("check_images"):
                arrival = self._arriving(index)
            try:
                learner.advance(arrival)
            except checks.DivergedError as error:
                raise checks.DivergedError(f"Phase {index}: {error}") from error

    def _restore(self, learner: IncrementalLearner, phase: int) -> None:
        """Puts the learner in the state after a phase that an earlier process has finished."""
        sizes = tuple(self._stream.phase_sizes[: phase + 1])
        ids = tuple(int(class_id) for class_id in self._stream.class_order[: sum(sizes)])
        classes = ClassTable(ids, tuple(self._stream.class_names[: sum(sizes)]), sizes)
        folder = self.directory.phase_dir(phase)
        learner.resume(lambda context: read_state(folder, phase, classes, context, self._stream.streamed))

    def _note_phase(self, result: PhaseResult) -> None:
        self._phases.append(result)
        self._write()
        if self._teller is not None:
            self._teller.phase(self._phases)

    def _check_shared_phases(self) -> None:
        if self._initial_phases_dir and runtime.num_workers(self._strategy) > 1:
            raise checks.UsageError(
                "--initial_phases_dir: trained initial phases are shared by runs of one process each, and this run has "
                f"{runtime.num_workers(self._strategy)} workers. Leave it out."
            )

    def _load_dataset(self, configuration: Configuration) -> Dataset:
        """The data: the first worker prepares them, if that is still to do, and then the others find them."""
        with runtime.explaining_lost_workers(self._strategy):
            if not self.is_chief:
                runtime.barrier(self._strategy)
            dataset = configuration.load_dataset()
            if self.is_chief:
                runtime.barrier(self._strategy)
            return dataset

    def _open(self) -> list[PhaseResult]:
        """Opens the folder on all workers. What the phases that are complete have reached."""
        if self.is_chief:
            self.directory.open(self._config)
            phases = recover(self.directory, writes=True)
        runtime.barrier(self._strategy)
        if not self.is_chief:
            self.directory.check_shared(self._config)
            phases = recover(self.directory, writes=False)
        if not runtime.is_common(self._strategy, len(phases)):
            raise checks.UsageError(
                f"--output_dir = {self.directory.path}: this worker sees {len(phases)} complete phases there, others "
                "see another number. Name a folder that all workers share."
            )
        return phases

    def _recall_data(self) -> None:
        """Takes from an earlier process what it has found out about the data, or notes it for later ones."""
        stream = self._stream
        classes = {
            "class_names": list(stream.dataset.class_names),
            "class_order": stream.class_order.tolist(),
            "phase_sizes": list(stream.phase_sizes),
        }
        noted = data_note.read(self.directory, classes, renews=self.is_chief)
        if noted is not None:
            self._compare_images(noted.get("images", {}))
            stream.pixel_range = PixelRange(**{name: tuple(values) for name, values in noted["pixel_range"].items()})
        elif self.is_chief:
            noted = {
                **classes,
                "images": stream.identity(),
                "traits": dataclasses.asdict(stream.dataset.traits),
                "pixel_range": dataclasses.asdict(stream.pixel_range),
            }
            data_note.write(self.directory, noted)

    def _compare_images(self, noted: Mapping[str, Any]) -> None:
        """Refuses other images of complete phases, and tells of those of phases to come, which are learned as they are.

        Args:
          noted: what `data.json` tells of the images with which the run began.

        Raises:
          UsageError: images that were learned are not there any more.
        """
        stream = self._stream
        learned = data_note.images_as_learned(self.directory, noted)
        stream.check_same_images(learned, len(self._phases))
        replaced = stream.replaced_images(learned)
        # Where a mark has said that they were others, those that are again what they were at first are told, too.
        since = stream.replaced_images(noted)
        told = {split: since.get(split, {}) | replaced.get(split, {}) for split in sorted({*since, *replaced})}
        self.directory.note_replaced(told, stream.phase_sizes)
        indices = sorted({int(index) for classes in replaced.values() for index in classes})
        if indices and self.is_chief:
            screen.notice(
                f"Data set {stream.dataset.name!r}: the images of "
                f"{listed([stream.class_names[index] for index in indices])} are not those with which the run began. "
                "They are learned as they are now."
            )

    def _notice_changed_data(self) -> None:
        """Says of a finished run that is looked at again if its data are others by now."""
        try:
            self._recall_data()
        except checks.UsageError as error:
            screen.notice(f"The results are those of the data as they were. {error}")

    def _arriving(self, index: int) -> Arrival:
        """What comes in a phase: the images that can be read, the same on all workers."""
        stream = self._stream
        arrival = stream.arrival(index, self._settings.method.trains_on_old_data)
        self._settings.memory.check_readable(arrival.train, stream.class_names)
        # Folders may lie elsewhere on other machines: the last two names of a path tell the image.
        skipped = sorted(os.sep.join(place.split(os.sep)[-2:]) for place in stream.skipped)
        test = b"" if arrival.test is None else arrival.test.labels.tobytes()
        seen = repr((arrival.train.labels.tobytes(), test, skipped)).encode(errors="replace")
        if not runtime.is_common(self._strategy, zlib.crc32(seen)):
            raise checks.UsageError(
                f"The images of phase {index} that this worker can read are not those that other workers can read. "
                "Give all of them the same data."
            )
        if self.is_chief:
            self.directory.add_skipped(stream.skipped)
        return arrival

    def _write(self) -> None:
        if self.is_chief:
            self.directory.write_results(self._results())

    def _hparams(self) -> dict[str, str | int | float | bool]:
        """What runs of a sweep differ in, for TensorBoard's plug-in; what is None is left out."""
        values = {**self._setup, "dataset": self._stream.dataset.name, "num_phases": self.num_phases - 1}
        values |= {name: getattr(self._settings.memory, name) for name in ("per_class", "total", "total_bytes")}
        return {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}

    def _results(self) -> Results:
        return summarise(
            self._phases,
            phase_sizes=self._stream.phase_sizes,
            class_order=self._stream.class_order.tolist(),
            dataset=self._stream.dataset.name,
            **self._setup,
        )
