"""Finished runs, read from their folders."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from mnemonics_tf import checks

SCHEMA_VERSION = 2  # of results.json

_RESULTS_FILE = "results.json"
_CONFIG_FILE = "config.gin"
_SEED = "Experiment.seed"

# What results.json must hold at its top level, besides the schema's version.
_TYPES: dict[str, tuple[type, ...]] = {
    "dataset": (str,),
    "method": (str,),
    "head": (str,),
    "exemplars": (str,),
    "adjust_exemplars": (bool,),
    "budget": (str,),
    "discard": (str,),
    "weight_transfer": (str,),
    "balanced_finetune": (bool, type(None)),
    "distillation": (bool,),
    "seed": (int,),
    "num_phases": (int,),
    "phase_sizes": (list,),
    "primary_classifier": (str,),
    "phases": (list,),
    "average_accuracy": (dict,),
    "forgetting": (dict,),
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the runs of one experiment have in common. Names and values are those of results.json.

    Attributes:
      dataset: name of the data.
      method: name of the base method.
      head: `cosine`, `linear` or `proxies`.
      exemplars: `mnemonics`, `herding`, `random` or `none`.
      adjust_exemplars: whether old exemplars are adjusted.
      budget: `per_class_20`, `total_2000` or `none`, for example.
      discard: which exemplars go when a total budget shrinks: `random` or `herding`.
      weight_transfer: `none`, `per_neuron` or `per_kernel`.
      balanced_finetune: whether there is any; None for what the base method does by itself.
      distillation: whether the method's losses look at the teacher.
      num_phases: N, the phases after the first.
      phase_sizes: number of new classes in each of the N + 1 phases.
      primary_classifier: the classifier that is reported, `cnn` or `nme`.
      settings: name and value of every setting in config.gin but the seed.
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


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
      folder: as the user would name it.
      seed: of training.
      setup: what it shares with other seeds.
      figures: percentages by measure and classifier. Measures are `average_accuracy`, `last_accuracy` (after the last
        phase) and `forgetting`; classifiers `cnn` and, where exemplars were kept, `nme`.
    """

    folder: str
    seed: int
    setup: Setup
    figures: dict[tuple[str, str], float]


def find_runs(folders: Iterable[str]) -> list[str]:
    """The folders of runs among `folders` and below them, each once. A run's folder is not searched further.

    Raises:
      UsageError: a folder does not exist, cannot be listed, or has no run in it.
    """
    found: dict[str, str] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            raise checks.UsageError(
                f"{folder}: there is no such folder. Expected that of a run, or one with runs below."
            )
        runs = list(_runs_below(folder))
        if not runs:
            raise checks.UsageError(
                f"{folder}: there is no run in it. A run's folder holds {_RESULTS_FILE}, which is written when the "
                "first phase is complete."
            )
        for run in runs:
            found.setdefault(os.path.realpath(run), run)
    return list(found.values())


def read_runs(folders: Iterable[str]) -> tuple[list[Run], list[str]]:
    """Reads runs.

    Args:
      folders: of runs.

    Returns:
      The finished runs, and a few words on each of the others: its folder and how far it got.

    Raises:
      UsageError: a file is missing, damaged or of another version.
    """
    finished, unfinished = [], []
    for folder in folders:
        results = _read_results(os.path.join(folder, _RESULTS_FILE))
        complete, expected = len(results["phases"]), results["num_phases"] + 1
        if complete < expected:
            unfinished.append(f"{folder} ({complete} of {expected} phases)")
        else:
            finished.append(_read_finished(folder, results))
    return finished, unfinished


def read_settings(text: str) -> dict[str, str]:
    """Name and value of each binding in a resolved configuration."""
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
    return {name.strip(): value.strip() for name, _, value in pairs}


def _runs_below(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> NoReturn:
        raise checks.UsageError(f"{error.filename}: cannot be listed ({error.strerror}).") from error

    for path, subfolders, files in os.walk(folder, onerror=refuse):
        subfolders.sort()
        if _RESULTS_FILE in files:
            subfolders.clear()
            yield path


def _read_results(path: str) -> dict[str, Any]:
    try:
        results = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(results, dict):
        raise _damaged(path, f"it holds a {type(results).__name__}, not an object")
    version = results.get("schema_version")
    if version != SCHEMA_VERSION:
        raise checks.UsageError(
            f"{path} has schema_version {version!r}: expected {SCHEMA_VERSION}. Leave it out, or run the experiment "
            "again with this version of mnemonics_tf."
        )
    for name, types in _TYPES.items():
        if name not in results:
            raise _damaged(path, f"it has no {name!r}")
        if type(results[name]) not in types:
            expected = " or ".join(each.__name__ for each in types)
            raise _damaged(path, f"{name!r} is {results[name]!r:.60}, not of type {expected}")
    if len(results["phases"]) > results["num_phases"] + 1:
        raise _damaged(path, f"it has {len(results['phases'])} phases, and num_phases = {results['num_phases']}")
    return results


def _read_finished(folder: str, results: dict[str, Any]) -> Run:
    path, config = os.path.join(folder, _RESULTS_FILE), os.path.join(folder, _CONFIG_FILE)
    if not os.path.isfile(config):
        raise checks.UsageError(
            f"{folder} has no {_CONFIG_FILE}: it tells which runs belong together. Copy the run's folder as a whole."
        )
    settings = read_settings(_read_text(config))
    settings.pop(_SEED, None)
    shared = {field.name: results[field.name] for field in dataclasses.fields(Setup) if field.name in _TYPES}
    shared["phase_sizes"] = tuple(shared["phase_sizes"])
    try:
        by_measure = {
            "average_accuracy": results["average_accuracy"],
            "last_accuracy": results["phases"][-1]["accuracy"],
            "forgetting": results["forgetting"],
        }
        classifiers = tuple(results["average_accuracy"])
        figures = {
            (measure, classifier): float(values[classifier])
            for measure, values in by_measure.items()
            for classifier in classifiers
        }
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(path, f"a figure is missing or no number ({error!r})") from error
    if not all(map(math.isfinite, figures.values())):
        raise _damaged(path, "a figure is not finite")
    if results["primary_classifier"] not in classifiers:
        raise _damaged(path, f"it has no figures of the classifier {results['primary_classifier']!r}")
    return Run(folder, results["seed"], Setup(**shared, settings=settings), figures)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise checks.UsageError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not text") from error


def _damaged(path: str, why: str) -> checks.UsageError:
    return checks.UsageError(f"{path} is damaged: {why}. Leave it out, or run the experiment again.")
