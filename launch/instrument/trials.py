"""Memories made from one network of phase 0, and one real later phase with each."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import tqdm
from sweeping.grid import OF_GRIDS, ROOT, PlannedRun

from instrument import outcomes
from instrument.balance import balanced_accuracy
from instrument.likeness import Likeness
from instrument.outcomes import Outcome
from mnemonics_tf import __version__, checks, config
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.data.types import Arrival, Dataset, LabelledImages, Phase
from mnemonics_tf.learner.context import Context, beginning, context_of
from mnemonics_tf.learner.journal import NoJournal
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.learner.steps import run_phase
from mnemonics_tf.memory.budget import size_of
from mnemonics_tf.memory.optimising.movement import Movement
from mnemonics_tf.memory.statistics import num_bytes
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.run.configuration import Configuration, check_data
from mnemonics_tf.run.initial_phases import InitialPhases, shared_network
from mnemonics_tf.system import screen, seeds, sources
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.settings import ModelLevel

_MAKING_MEMORY = ("select_exemplars", "learn_exemplars", "enforce_budget")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which later phases there are from each memory.

    Attributes:
      lengths: by which the epochs of the later phase are multiplied, each above 0.
      training_seeds: of the later phase.
    """

    lengths: Sequence[float]
    training_seeds: Sequence[int]


class Bench:
    """Makes memories and runs later phases, one after the other, in this process.

    Args:
      folder: where outcomes are kept, so that the same call goes on where another one stopped.
      initial_phases: trained networks of phase 0, which all memories share.
      plan: which later phases there are.

    Attributes:
      has_diverged: whether a loss of some later phase became NaN, so that it has no outcome.
    """

    def __init__(self, folder: pathlib.Path, initial_phases: InitialPhases, plan: Plan):
        self._folder, self._journal, self._plan = folder, _SharedStart(initial_phases), plan
        self._loaded: tuple[object, Dataset] | None = None
        self._code = sources.checksum_of_all()
        self.has_diverged = False

    def outcomes_of(self, run: PlannedRun, method: str, memory: str, seed: int) -> Iterator[Outcome]:
        """The later phases of one memory; those of an earlier call with the same settings and data are not run again.

        A later phase whose loss becomes NaN is told and left out.

        Args:
          run: one of the grid's runs; its first two phases are what is tried.
          method: the base method's name in the grid.
          memory: the memory's name in the grid.
          seed: of phase 0 and of the memory.

        Raises:
          UsageError: something cannot be done as configured.
          DivergedError: a loss became NaN before there was a memory.
        """
        configuration = configured(run)
        wanted = configuration.settings.network.pixel_range
        stream = ClassStream(self._dataset(configuration), configuration.protocol, wanted)
        settings = dataclasses.replace(
            configuration.settings, probe=dataclasses.replace(configuration.settings.probe, enabled=False)
        )
        text = configuration.text()
        trial = _Trial(settings, configuration, stream, self._journal)
        for length in self._plan.lengths:
            for training_seed in self._plan.training_seeds:
                path = self._folder / f"{run.name}-length{length:g}-training{training_seed}.json"
                told = f"{__version__}\n{length}\n{training_seed}\n{text}\n{stream.identity()}{sources.imported(text)}"
                fingerprint = hashlib.sha256(told.encode()).hexdigest()
                outcome = outcomes.load(path, fingerprint)
                if outcome is None:
                    trial.with_memory()
                    try:
                        found = trial.later_phase(length, training_seed)
                    except checks.DivergedError as error:
                        self.has_diverged = True
                        which = f"{run.name}, length {length:g}, training seed {training_seed}"
                        screen.notice(f"{which}: {error} It is not in the table.")
                        continue
                    outcome = Outcome(
                        method=method,
                        memory=memory,
                        num_phases=stream.num_phases - 1,
                        seed=seed,
                        length=length,
                        training_seed=training_seed,
                        code=self._code,
                        **found,
                    )
                    outcomes.save(path, outcome, fingerprint)
                yield outcome

    def _dataset(self, configuration: Configuration) -> Dataset:
        """The data, which memories with the same source share."""
        source = configuration.source
        if self._loaded is None or source is None or self._loaded[0] != source:
            self._loaded = source, configuration.load_dataset()
        return self._loaded[1]


def configured(run: PlannedRun, lengths: Sequence[float] = (1.0,)) -> Configuration:
    """The configuration of a grid's run, checked. Raises UsageError, which names the run.

    Args:
      run: of the grid.
      lengths: of its later phases, which must differ in their epochs.
    """
    values: dict[str, list[str]] = {"gin_file": [], "gin_param": []}
    for argument in run.arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        values[name].append(value)
    try:
        config.parse([str(ROOT / path) for path in values["gin_file"]], values["gin_param"], OF_GRIDS)
        configuration = config.resolved()
        configuration.check()
        if not configuration.protocol.has_later_phases:
            raise checks.UsageError(
                "Protocol.sizes or Protocol.classes has one phase: there is no later one that could show what a memory "
                "is worth. Give it two or more."
            )
        _check_lengths(configuration.settings.model_level, lengths)
    except checks.UsageError as error:
        _, text = screen.explained(error, place="", advice="")
        raise checks.UsageError(f"{run.name}: {text}") from error
    return configuration


def _prolonged(level: ModelLevel, length: float) -> tuple[int, tuple[int, ...]]:
    """So many times the epochs, and the milestones, each at least one."""
    epochs, *milestones = (max(1, round(each * length)) for each in (level.epochs, *level.milestones))
    return epochs, tuple(milestones)


def _check_lengths(level: ModelLevel, lengths: Sequence[float]) -> None:
    """Raises UsageError if two lengths would be the same training, or one has two milestones in one epoch."""
    shown: dict[int, float] = {}
    for length in lengths:
        epochs, milestones = _prolonged(level, length)
        if epochs in shown:
            raise checks.UsageError(
                f"--lengths has {shown[epochs]:g} and {length:g}: both are {epochs} of ModelLevel.epochs = "
                f"{level.epochs}, and would be the same later phases. Leave one out."
            )
        if len(set(milestones)) < len(milestones):
            raise checks.UsageError(
                f"--lengths has {length:g}: ModelLevel.milestones = {level.milestones} come to epochs {milestones}, of "
                "which two are one. Give a larger number."
            )
        shown[epochs] = length


class _Trial:
    """One memory, made when it is first needed."""

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        stream: ClassStream,
        journal: _SharedStart,
    ):
        self._settings, self._stream, self._journal = settings, stream, journal
        self._strategy = configuration.devices.create_strategy()
        check_data(settings, stream, self._strategy.num_replicas_in_sync)
        if settings.deterministic:
            seeds.make_deterministic()
        self._state: LearnerState | None = None
        self._memory_seconds = 0.0
        self._made: dict[str, Any] = {}
        self._likeness: Likeness | None = None

    def later_phase(self, length: float, training_seed: int) -> dict:
        """Runs the second phase from the memory of the first: fields of `Outcome`."""
        state, settings = self.with_memory(), self._settings
        epochs, milestones = _prolonged(settings.model_level, length)
        level = dataclasses.replace(settings.model_level, epochs=epochs, milestones=milestones)
        settings = dataclasses.replace(settings, seed=training_seed, model_level=level)
        state = dataclasses.replace(state, seed=training_seed)
        tracker = _CountingTracker()
        tracker.start_phase(1, 2)
        arrival = self._stream.arrival(1, settings.method.trains_on_old_data)
        finished = run_phase(state, arrival, self._context(settings, tracker))
        if finished.predictions is None:
            raise checks.UsageError("The later phase has no test images: there is nothing to measure by.")
        num_old = len(state.classes)
        return {
            "classifier": settings.primary_classifier,
            "accuracy": outcomes.accuracies(finished.predictions, num_old),
            "images_per_class": state.exemplars.num_images / num_old,
            "bytes_per_class": (size_of(state.exemplars, num_old).total + num_bytes(state.statistics)) / num_old,
            "steps": sum(tracker.steps.get(stage, 0) for stage in outcomes.MODEL_LEVEL),
            "seconds": outcomes.training_seconds(tracker.seconds),
            "memory_seconds": self._memory_seconds,
            **self._made,
            **self._seen_by_network(finished, arrival.test, num_old),
        }

    def _seen_by_network(self, finished: LearnerState, test: LabelledImages | None, num_old: int) -> dict[str, float]:
        if finished.network is None:
            return {}
        found = {}
        if self._likeness is not None:
            found["apart_after"] = self._likeness.distance(finished.network.predictor)
        if test is not None and self._settings.primary_classifier == "cnn":
            _, logits = finished.network.predictor(test, "balance")
            found["balanced"] = balanced_accuracy(logits, test.labels, num_old)
        return found

    def with_memory(self) -> LearnerState:
        """The state after phase 0, which is run once."""
        if self._state is None:
            traits, settings = self._stream.dataset.traits, self._settings
            tracker = _CountingTracker()
            tracker.start_phase(0, 2)
            state = beginning(settings, traits, self._stream.pixel_range)
            arrival = self._stream.arrival(0)
            settings.memory.check_readable(arrival.train, self._stream.class_names)
            self._state = run_phase(state, arrival, self._context(settings, tracker))
            learned = self._journal.movement.get("learned")
            if learned is not None:
                steps = sum(count for name, count in tracker.steps.items() if name.startswith("learn_exemplars"))
                self._made = {"meta_steps": steps, "moved": learned.mean, "still_real": learned.unmoved}
            if self._state.network is not None and len(self._state.exemplars):
                self._likeness = Likeness(self._state.exemplars.decoded(), arrival.train)
                self._made["apart_before"] = self._likeness.distance(self._state.network.predictor)
            if self._state.network is not None:
                self._made["network"] = network_mark(self._state.network.model)
            self._memory_seconds = sum(tracker.seconds.get(name, 0.0) for name in _MAKING_MEMORY)
        return self._state

    def _context(self, settings: Settings, tracker: Tracker) -> Context:
        stream = self._stream
        return context_of(settings, stream.dataset.traits, stream.pixel_range, self._strategy, tracker, self._journal)


def network_mark(model: Classifier) -> str:
    """What tells a network from others: a checksum of its weights."""
    digest = hashlib.sha256()
    for name, variable in sorted(model.named_weights().items()):
        digest.update(f"{name}\n".encode() + variable.numpy().tobytes())
    return digest.hexdigest()[:16]


class _SharedStart(NoJournal):
    """Puts nothing down but the network of phase 0, and notes how far exemplars moved in the last phase."""

    def __init__(self, initial_phases: InitialPhases):
        super().__init__()
        self._initial_phases = initial_phases
        self.movement: dict[str, Movement] = {}

    def phase_finished(self, state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
        self.movement = state.under_way.movement
        return super().phase_finished(state, arrival, context)

    def initial_network(self, context: Context, phase: Phase, train, notes) -> tuple[Classifier, bool]:
        return shared_network(self._initial_phases, context, phase, train, notes)


class _CountingTracker(Tracker):
    """Also notes how many steps each stage had."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, int] = {}

    @contextlib.contextmanager
    def progress(self, stage: str, total: int, unit: str) -> Iterator[tqdm.tqdm]:
        self.steps[stage] = self.steps.get(stage, 0) + total
        with super().progress(stage, total, unit) as bar:
            yield bar
