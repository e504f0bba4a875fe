"""What a run's folder holds for its page. Files that are missing or damaged are told in a sentence."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from mnemonics_tf import checks, results
from mnemonics_tf.report import runs
from mnemonics_tf.report.page.blocks import MissingError
from mnemonics_tf.results import Results
from mnemonics_tf.system import archives, screen

_CONFUSION_FILE = "confusion.npz"  # as `run.observations` writes it, which is not imported: it needs TensorFlow
_EXEMPLARS_FILE = "exemplars.npz"
_STARTING_FILE = "starting_images.npz"
_MOST_UNPACKED = 2**30  # bytes: confusions of ten thousand classes have 800 million


@dataclasses.dataclass(frozen=True)
class Record:
    """A run, finished or not, with what lies in its folder.

    Attributes:
      run: as tables take it.
      class_names: by class index; `class 17` where the run's data.json does not say.
    """

    run: runs.MeasuredRun
    class_names: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The run's folder."""
        return self.run.folder

    @property
    def results(self) -> Results:
        """All phases so far."""
        return self.run.results

    @property
    def name(self) -> str:
        """The folder's own name and that of the folder around it, in one line."""
        path = os.path.realpath(self.folder)
        return screen.shown(os.path.join(os.path.basename(os.path.dirname(path)), os.path.basename(path)))

    @property
    def last(self) -> int:
        """Index of the last phase that is complete."""
        return len(self.results.phases) - 1

    @property
    def group_of(self) -> np.ndarray:
        """The phase that brought each class, by class index, `[num_classes]`."""
        return np.repeat(np.arange(len(self.results.phase_sizes)), self.results.phase_sizes)

    def phase_file(self, phase: int, *names: str) -> str:
        """The path of a file of a phase, whether it is there or not."""
        return os.path.join(self.folder, "phases", f"{phase:03d}", *names)

    def classes_of(self, phase: int) -> range:
        """Indices of the classes that a phase brought."""
        end = sum(self.results.phase_sizes[: phase + 1])
        return range(end - self.results.phase_sizes[phase], end)

    def confusion(self, phase: int) -> dict[str, np.ndarray]:
        """Counts `[k, k]` of a phase by classifier, rows by true class, in the order of class indices.

        Raises:
          MissingError: the run has not written them, or they are damaged.
        """
        arrays = _arrays(self.phase_file(phase, _CONFUSION_FILE))
        count = self.results.phases[phase].num_classes
        ids = arrays.pop("class_ids", np.zeros(0, np.int64))
        expected = np.array(self.results.class_order[:count])
        counted = all(each.shape == (count, count) and each.dtype.kind in "iu" for each in arrays.values())
        if not np.array_equal(ids, expected) or not counted:
            raise MissingError(f"{screen.shown(self.phase_file(phase, _CONFUSION_FILE))} is of other classes.")
        return arrays

    def of_old_classes(self, phase: int) -> float:
        """Accuracy of a later phase on the test images of all classes but its own, in percent.

        Where the run has not written how many images those are, each class counts alike.
        """
        name, sizes = self.results.primary_classifier, self.results.phase_sizes[:phase]
        try:
            images = self.confusion(phase)[name].sum(axis=1)[: sum(sizes)]
            weights = [int(part.sum()) for part in np.split(images, np.cumsum(sizes)[:-1])]
        except (MissingError, KeyError):
            weights = list(sizes)
        values = self.results.phases[phase].group_accuracy[name][:-1]
        return float(np.average(values, weights=weights if sum(weights) else list(sizes)))

    def exemplars(self, phase: int, starting: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Images `[n, H, W, C]` uint8 that a phase kept, and the class index of each; with `starting`, what those of
        its new classes were before they were learned.

        Raises:
          MissingError: there are none, or they are damaged.
        """
        path = self.phase_file(phase, _STARTING_FILE if starting else _EXEMPLARS_FILE)
        if not os.path.isfile(path):
            raise MissingError(f"The run has no {os.path.basename(path)} in phase {phase}.")
        with screen.quiet():
            from mnemonics_tf.memory.exemplar_file import read_exemplars  # and with it TensorFlow

        try:
            read = read_exemplars(path)
            index = {class_id: place for place, class_id in enumerate(self.results.class_order)}
            return read.images, np.array([index[int(each)] for each in read.labels], np.int64)
        except checks.UsageError as error:
            raise MissingError(screen.shown(str(error))) from error
        except KeyError as error:
            raise MissingError(f"{screen.shown(path)} is of other classes.") from error


def read_record(folder: str) -> Record:
    """Reads a run.

    Raises:
      UsageError: its results or its configuration cannot be read.
    """
    read = results.read(os.path.join(folder, results.RESULTS_FILE))
    return record_of(runs.measured(folder, read))


def record_of(run: runs.MeasuredRun) -> Record:
    """The record of a run whose results and configuration have been read."""
    return Record(run, _class_names(run))


def _class_names(run: runs.MeasuredRun) -> tuple[str, ...]:
    order, names = run.results.class_order, run.setup.class_names
    if names is None or max(order) >= len(names):
        return tuple(f"class {class_id}" for class_id in order)
    return tuple(names[class_id] for class_id in order)


def _arrays(path: str) -> dict[str, np.ndarray]:
    if not os.path.isfile(path):
        raise MissingError(f"The run has no {os.path.basename(path)}: it was made by an earlier version.")
    try:
        with archives.reading(path, _MOST_UNPACKED) as arrays:
            loaded: Mapping[str, np.ndarray] = {name: arrays[name] for name in arrays.files}
            return dict(loaded)
    except archives.DAMAGES as error:
        raise MissingError(f"{screen.shown(path)} is damaged ({type(error).__name__}).") from error
