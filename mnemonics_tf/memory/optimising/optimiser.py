"""The exemplar level: learning new exemplars (Eq. 7-9) and adjusting old ones (Eq. 10)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.codecs import Codec, Pixels, decoded
from mnemonics_tf.memory.optimising.chunks import class_chunks
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.tasks import Task, Tasks, TemporaryModel
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.memory.selection import real_slots
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system import seeds
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker

_WHOLE_IMAGES = Pixels()


class _Pace(NamedTuple):
    """How long exemplars are optimised, and how fast their pixels move at first."""

    epochs: int
    learning_rate: float


class ExemplarOptimiser:
    """Optimises exemplars for one network Θ_i, by a compiled engine that learning and adjusting share.

    All that is drawn is a function of the seed that `learn` or `adjust` is given, the stage and the meta-step.

    Args:
      model: Θ_i; not changed.
      pixel_range: normalisation; exemplars stay in the range of real pixels.
      settings: length and rates.
      tracker: progress and TensorBoard.
      codec: how exemplars are stored; networks see what it decodes.
      strategy: whose replicas share the work; None for one device.
      file: where optimised exemplars go, rounded to uint8, chunk after chunk; None keeps them in memory as floats.
      snapshots: where the state goes on the way, and from where an interrupted optimisation goes on; None keeps
        nothing, so that an interrupted one starts anew. A stage is one optimisation, such as
        `adjust_exemplars_part1_chunk2of5`.
      objective: what new exemplars are learned for; None for the paper's, Eq. 7-9. Old ones are adjusted by Eq. 10.
    """

    def __init__(
        self,
        model: Classifier,
        pixel_range: PixelRange,
        settings: ExemplarLevel,
        tracker: Tracker,
        codec: Codec = _WHOLE_IMAGES,
        strategy: tf.distribute.Strategy | None = None,
        file: PixelFile | None = None,
        snapshots: Snapshots | None = None,
        objective: Tasks | None = None,
    ):
        paper = TemporaryModel(model, pixel_range, settings, strategy or tf.distribute.get_strategy())
        self._learning, self._adjusting = objective or paper, paper
        self._num_classes = model.num_classes
        self._pixel_range, self._settings, self._tracker = pixel_range, settings, tracker
        self._codec, self._file, self._snapshots = codec, file, snapshots or Snapshots()

    def learn(self, exemplars: LabelledImages, data: LabelledImages, seed: int) -> LabelledImages:
        """Learns new exemplars E_i so that a model trained on them does well on D_i (Eq. 7-9), or for the objective.

        Args:
          exemplars: S, their initial values, as they are stored.
          data: D_i.
          seed: of all that is drawn; a phase has its own (`seeds.stage_seed(run_seed, phase, "learn_exemplars")`).

        Returns:
          The same classes in the same order, float32 on the scale 0..255, or uint8 in a file; with soft labels if they
          are learned.

        Raises:
          DivergedError: a loss became NaN or infinite.
          UnsuitableError: the objective cannot work with these exemplars and data.
        """
        settings = self._settings
        pace, fixed = _Pace(settings.epochs, settings.learning_rate), real_slots(exemplars.labels, settings.real_share)
        result = _Collected(self._file)
        for members, suffix in self._chunks(exemplars):
            chunk = in_memory(exemplars.take(members))
            stage = f"learn_exemplars{suffix}"
            task = self._learning.task(chunk, data.of_classes(np.unique(chunk.labels)), seed, stage)
            result.add(members, self._optimise(chunk, task, fixed[members], pace, seed, stage))
        return result.exemplars

    def adjust(self, exemplars: LabelledImages, seed: int) -> LabelledImages:
        """Adjusts old exemplars: each part of them is optimised on the other parts, in turn (Eq. 10).

        Every class is split on its own, so each part holds every class.

        Args:
          exemplars: E_{0:i-1}, as they are stored.
          seed: of the split and of all else that is drawn; a phase has its own.

        Returns:
          The same classes in the same order, float32 on the scale 0..255, or uint8 in a file; with soft labels if they
          are learned.

        Raises:
          ValueError: a class has fewer exemplars than there are parts.
          DivergedError: a loss became NaN or infinite.
        """
        result = _Collected(self._file)
        for members, suffix in self._chunks(exemplars):
            result.add(members, self._adjust_chunk(in_memory(exemplars.take(members)), seed, suffix))
        return result.exemplars

    def _adjust_chunk(self, exemplars: LabelledImages, seed: int, suffix: str) -> LabelledImages:
        split = seeds.generator(seed, f"split{suffix}")
        parts = split_within_classes(exemplars.labels, self._settings.num_parts, split)
        settings, result = self._settings, _Merged(exemplars)
        pace = _Pace(settings.adjust_epochs or settings.epochs, settings.adjust_learning_rate)
        fixed = real_slots(exemplars.labels, self._settings.real_share)
        for index, part in enumerate(parts):
            complement = np.setdiff1d(np.arange(len(exemplars)), part)
            present, stage = result.exemplars, f"adjust_exemplars_part{index + 1}{suffix}"
            others = decoded(present.take(complement), self._codec)
            task = self._adjusting.task(present.take(part), others, seed, stage)
            result.replace(part, self._optimise(present.take(part), task, fixed[part], pace, seed, stage))
        return result.exemplars

    def _chunks(self, exemplars: LabelledImages) -> Iterator[tuple[np.ndarray, str]]:
        """Positions of each chunk of classes, so that only one has image-size variables, and a suffix for its name."""
        chunks = class_chunks(exemplars.labels, self._settings.classes_per_chunk)
        for index, classes in enumerate(chunks):
            suffix = "" if len(chunks) == 1 else f"_chunk{index + 1}of{len(chunks)}"
            yield np.flatnonzero(np.isin(exemplars.labels, classes)), suffix

    def _optimise(
        self, exemplars: LabelledImages, task: Task, fixed: np.ndarray, pace: _Pace, seed: int, stage: str
    ) -> LabelledImages:
        settings, steps = self._settings, task.steps_per_epoch
        variables = ExemplarVariables(
            exemplars, self._num_classes, self._codec, self._pixel_range, settings, fixed if fixed.any() else None
        )
        if fixed.all() and not settings.learn_labels:
            return variables.stored()  # a single exemplar of each class may be the real one
        progress, total = _Progress(variables), pace.epochs * steps
        work = self._snapshots.stage(stage, progress.take, exemplars=len(exemplars), steps=total)
        with self._tracker.progress(stage, total, "meta-steps") as bar, work:
            bar.update(progress.step)
            while progress.step < total:
                epoch, place = divmod(progress.step, steps)
                rate = pace.learning_rate * 0.5 ** (epoch // settings.halve_every)
                values = self._meta_step(variables, task, progress.step, rate, seed, stage)
                checks.check_finite_losses(stage, values, f"epoch {epoch + 1}, step {place + 1}")
                progress.add(values)
                bar.update()
                bar.set_postfix(loss=f"{values['meta_loss']:.3f}", refresh=False)
                if place + 1 == steps:
                    means = progress.epoch_means() | variables.distances()
                    self._tracker.phase_scalars(stage, {**means, "learning_rate": rate}, epoch + 1)
                work.after_step(progress.arrays)
            work.finish(progress.arrays)
        return variables.stored()

    def _meta_step(
        self, variables: ExemplarVariables, task: Task, index: int, rate: float, seed: int, stage: str
    ) -> dict[str, float]:
        if self._settings.project_every is not None and index % self._settings.project_every == 0:
            variables.project()
        found = task.step(variables, index, seeds.generator(seed, stage, "meta_step", index))
        values = dict(found.values)
        values["gradient_norm"] = variables.descend(found.presented, found.labels, found.tape, found.meta, rate)
        values["inner_rate"] = variables.inner_rate
        return values


class _Progress:
    """How far an optimisation has come.

    Args:
      variables: what it changes.

    Attributes:
      step: meta-steps that are over, of all epochs.
    """

    def __init__(self, variables: ExemplarVariables):
        self._variables, self.step = variables, 0
        self._history: list[dict[str, float]] = []

    def add(self, values: dict[str, float]) -> None:
        """Counts a meta-step, with what it found."""
        self.step += 1
        self._history.append(values)

    def epoch_means(self) -> dict[str, float]:
        """Means over the meta-steps since the last call."""
        history, self._history = self._history, []
        return {name: sum(values[name] for values in history) / len(history) for name in history[0]}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a snapshot."""
        history = self._history
        values = {
            f"value/{name}": np.array([each[name] for each in history]) for name in (history[0] if history else ())
        }
        return {**self._variables.state(), **values, "step": np.array(self.step)}

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `arrays` gave. Raises ValueError if it is of other exemplars or settings."""
        columns = {name: arrays[name].tolist() for name in arrays if name.startswith("value/")}
        step = int(arrays["step"])
        self._variables.restore({name: arrays[name] for name in arrays if name != "step" and name not in columns})
        self.step = step
        names = [name.removeprefix("value/") for name in columns]
        self._history = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class _Merged:
    """Exemplars some of which are replaced by optimised ones; images float32 on the scale 0..255."""

    def __init__(self, exemplars: LabelledImages):
        self._images, self._labels = exemplars.array.astype(np.float32), exemplars.labels
        self._soft = exemplars.soft_labels

    def replace(self, positions: np.ndarray, optimised: LabelledImages) -> None:
        self._images[positions] = optimised.array
        if optimised.soft_labels is not None:
            width = optimised.soft_labels.shape[1]
            soft = np.eye(width, dtype=np.float32)[self._labels] if self._soft is None else self._soft
            self._soft = np.pad(soft, [(0, 0), (0, width - soft.shape[1])])
            self._soft[positions] = optimised.soft_labels

    @property
    def exemplars(self) -> LabelledImages:
        return LabelledImages(self._images, self._labels, self._soft)


class _Collected:
    """Optimised chunks of exemplars, in memory as they are, or in a file as uint8."""

    def __init__(self, file: PixelFile | None):
        self._file = file
        self._positions: list[np.ndarray] = []
        self._chunks: list[LabelledImages] = []

    def add(self, positions: np.ndarray, optimised: LabelledImages) -> None:
        """Takes in a chunk; `positions` say where its exemplars stand among all."""
        if self._file is not None:
            stored = self._file.append(pixels.to_uint8(optimised.array))
            optimised = dataclasses.replace(optimised, images=stored)
        self._positions.append(positions)
        self._chunks.append(optimised)

    @property
    def exemplars(self) -> LabelledImages:
        """All of them, in their order."""
        if len(self._chunks) == 1:
            return self._chunks[0]
        joined = functools.reduce(LabelledImages.join, self._chunks)
        return joined.take(np.argsort(np.concatenate(self._positions)))


def split_within_classes(labels: np.ndarray, num_parts: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Splits positions in parts of (nearly) equal size so that every part has every class; each part is sorted.

    Raises:
      ValueError: a class has fewer members than there are parts.
    """
    parts: list[list[np.ndarray]] = [[] for _ in range(num_parts)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < num_parts:
            raise ValueError(f"Class index {label} has {len(members)} exemplars: {num_parts} parts need one each.")
        for part, share in zip(parts, np.array_split(generator.permutation(members), num_parts), strict=True):
            part.append(share)
    return [np.sort(np.concatenate(part)) for part in parts]
