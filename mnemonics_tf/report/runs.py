"""Finding runs in folders, and reading the finished ones from their files."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from mnemonics_tf import checks, results
from mnemonics_tf.results import Results
from mnemonics_tf.run import bindings, intact
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.system import files, screen
from mnemonics_tf.system.folders import RUN_FILE

_SEED = "Experiment.seed"


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the runs of one experiment have in common.

    Attributes:
      dataset: name of the data.
      method: name of the base method.
      head: `cosine`, `linear` or `proxies`.
      exemplars: strategy of the exemplars: `mnemonics`, `herding`, `random` or `none`.
      adjust_exemplars: whether old exemplars are adjusted.
      budget: how many exemplars are kept, such as `per_class_20` or `total_2000`; `none` for no exemplars.
      discard: which exemplars go when a total budget shrinks: `random` or `herding`.
      weight_transfer: `none`, `per_neuron` or `per_kernel`.
      balanced_finetune: whether there is balanced fine-tuning; None for what the base method does by itself.
      distillation: whether the method's losses look at the teacher.
      num_phases: N, the number of phases after the initial one.
      phase_sizes: number of new classes in each of the N + 1 phases.
      primary_classifier: the classifier that is reported, `cnn` or `nme`.
      settings: value of every setting in config.gin that decides what the run comes to, by its name, without the seed.
      class_names: by class id, which tell folders of images apart that lie in folders of one name; None where the run's
        data.json does not say.
      data_label: tells data from others of the same name; empty where there are none.
    """

    dataset: str
    method: str
    head: str
    exemplars: str
    adjust_exemplars: bool
    budget: str
    discard: str
    weight_transfer: str
    balanced_finetune: bool | None
    distillation: bool
    num_phases: int
    phase_sizes: tuple[int, ...]
    primary_classifier: str
    settings: dict[str, str]
    class_names: tuple[str, ...] | None = None
    data_label: str = ""

    @property
    def data(self) -> str:
        """The name of the data in tables, unlike that of other data."""
        return f"{self.dataset} ({self.data_label})" if self.data_label else self.dataset


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
    """A run as its files tell of it. Of one that is still going, figures are those so far: tables leave it out.

    Attributes:
      folder: the run's folder, as the user would name it.
      setup: what the run shares with runs of other seeds.
      results: all that its results.json holds.
      config: the text of its config.gin.
    """

    folder: str
    setup: Setup
    results: Results
    config: str

    @property
    def name(self) -> str:
        """The folder as text for the screen, on which it can do no harm: control characters are escaped."""
        return screen.shown(self.folder)

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return self.results.seed

    @property
    def figures(self) -> dict[tuple[str, str], float]:
        """Percentages by measure and classifier.

        Measures are `average_accuracy`, `last_accuracy` (after the last phase) and `forgetting`; classifiers `cnn` and,
        where exemplars were kept, `nme`.
        """
        by_measure = {
            "average_accuracy": self.results.average_accuracy,
            "last_accuracy": self.results.phases[-1].accuracy,
            "forgetting": self.results.forgetting,
        }
        return {(measure, name): value for measure, values in by_measure.items() for name, value in values.items()}

    @property
    def movement(self) -> dict[str, float]:
        """How far learned exemplars moved, means over the phases; empty where none were learned, or nobody looked.

        `mean` is the change of a pixel in grey levels, and `unmoved` the percentage that is still a real image.
        """
        moved = [phase.movement["learned"] for phase in self.results.phases if "learned" in phase.movement]
        return {name: statistics.fmean(each[name] for each in moved) for name in ("mean", "unmoved")} if moved else {}

    @property
    def kept_bytes(self) -> int | None:
        """What is kept of all images after the last phase: exemplars with their labels, and a method's statistics.

        None in files of versions that counted no bytes.
        """
        last = self.results.phases[-1]
        return None if last.memory_bytes is None else last.memory_bytes + last.statistics_bytes

    @property
    def notes(self) -> list[str]:
        """A sentence on each thing that did not go as configured, with its phase."""
        return [f"phase {phase.phase}: {screen.shown(note)}" for phase in self.results.phases for note in phase.notes]


def find_runs(folders: Iterable[str]) -> list[str]:
    """The folders of runs among `folders` and below them, each once. A run's folder is not searched further.

    Raises:
      UsageError: a folder does not exist, cannot be listed, or has no run in it.
    """
    found: dict[str, str] = {}
    for folder in (os.path.expanduser(each).rstrip(os.sep) or each for each in folders):
        if not os.path.isdir(folder):
            raise checks.UsageError(
                f"{screen.shown(folder)}: there is no such folder. Expected that of a run, or one with runs below."
            )
        runs = list(_runs_below(folder))
        if not runs:
            raise checks.UsageError(
                f"{screen.shown(folder)}: there is no run in it. A run's folder holds {results.RESULTS_FILE}, which is "
                "written when the first phase is complete."
            )
        for run in runs:
            found.setdefault(os.path.realpath(run), run)
    return list(found.values())


@dataclasses.dataclass(frozen=True)
class Found:
    """What became of runs that were to be read.

    Attributes:
      finished: runs that have completed all of their phases.
      unfinished: a text for each run that has phases to do: its folder and how far it got.
      unreadable: a line of text for each run that is damaged, or of another version: its file and what is wrong.
    """

    finished: list[MeasuredRun]
    unfinished: list[str]
    unreadable: list[str]


def read_runs(folders: Iterable[str], named: Iterable[str] = ()) -> Found:
    """Reads runs. What cannot be read is left out, unless the user has named that very run.

    Args:
      folders: folders of runs, as `find_runs` returns them.
      named: folders that the user has named, of runs or not. Empty by default: then all that cannot be read is left
        out.

    Raises:
      UsageError: a file of a named run is missing, damaged or of another version.
    """
    insisted = {os.path.realpath(os.path.expanduser(each)) for each in named}
    found = Found([], [], [])
    for folder in folders:
        try:
            read = results.read(os.path.join(folder, results.RESULTS_FILE))
            if read.is_complete:
                found.finished.append(measured(folder, read))
            else:
                phases = f"{len(read.phases)} of {read.num_phases + 1} phases"
                found.unfinished.append(f"{screen.shown(folder)} ({phases})")
        except (checks.UsageError, OSError) as error:
            text = str(error)
            if isinstance(error, OSError):
                text = f"{screen.shown(folder)}: {screen.shown(str(error.filename))} cannot be read ({error.strerror})"
            if os.path.realpath(folder) in insisted:
                raise checks.UsageError(text) from error
            found.unreadable.append(text)
    return found


def read_settings(text: str) -> dict[str, str]:
    """The value of each binding in the text of a resolved configuration (config.gin), by its name."""
    statements: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and statements:  # gin indents the further lines of a long value
            start = statements[-1].removesuffix("\\").rstrip()
            statements[-1] = f"{start} {line.strip()}"
        else:
            statements.append(line.rstrip())
    pairs = (statement.partition("=") for statement in statements)
    return {screen.shown(name.strip()): screen.shown(value.strip()) for name, _, value in pairs}


def _runs_below(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> NoReturn:
        raise checks.UsageError(f"{screen.shown(error.filename)}: cannot be listed ({error.strerror}).") from error

    for path, subfolders, names in os.walk(folder, onerror=refuse):
        subfolders.sort()
        if results.RESULTS_FILE in names:
            subfolders.clear()
            yield path


def measured(folder: str, read: Results) -> MeasuredRun:
    """A run, finished or not, with its configuration.

    Args:
      folder: the run's folder.
      read: what its results.json holds.

    Raises:
      UsageError: its configuration cannot be read, or is not the one that its phases name.
    """
    config, run = _config_in(folder), RunDirectory(folder)
    intact.check_configuration(run, config)  # or runs would be taken for what they are not
    settings = {name: value for name, value in read_settings(config).items() if bindings.decides(name, value)}
    settings.pop(_SEED, None)
    shared: dict[str, Any] = {
        field.name: screen.shown(value) if isinstance(value := getattr(read, field.name), str) else value
        for field in dataclasses.fields(Setup)
        if field.name not in ("settings", "class_names", "data_label")
    }
    return MeasuredRun(folder, Setup(**shared, settings=settings, class_names=_class_names(run)), read, config)


def _class_names(run: RunDirectory) -> tuple[str, ...] | None:
    try:
        names = files.read_json(run.data_file)["class_names"]
        return tuple(screen.shown(str(name)) for name in names)
    except (files.UnreadableError, KeyError, TypeError):
        return None


def _config_in(folder: str) -> str:
    try:
        return files.read_text(os.path.join(folder, RUN_FILE))
    except files.UnreadableError as error:
        raise checks.UsageError(
            f"{screen.shown(folder)}: its {RUN_FILE} cannot be read ({error}), which tells the runs that belong "
            "together. Copy the run's folder as a whole."
        ) from error
