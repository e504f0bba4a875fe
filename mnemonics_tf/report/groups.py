"""Groups: runs of the same experiment with different seeds. Runs that repeat another are left out of them."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence

from mnemonics_tf import checks
from mnemonics_tf.report.runs import MeasuredRun, Setup
from mnemonics_tf.system import screen

_NOT_SET = "(not set)"
_SHOWN_CLASSES = 30  # characters of names of classes
# Settings, and names of classes: where a folder of images lies is no setting, and another may have its name.
_Experiment = tuple[frozenset[tuple[str, str]], tuple[str, ...] | None]
_Kind = tuple[frozenset[tuple[str, str]], tuple[int, ...]]  # settings, and sizes of phases


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
      setup: what the runs have in common: data, method, settings.
      runs: one run for each seed, in the order of seeds.
    """

    setup: Setup
    runs: tuple[MeasuredRun, ...]


def leave_out_repeats(runs: Iterable[MeasuredRun]) -> tuple[list[MeasuredRun], list[str]]:
    """Keeps the first of the runs that have the same settings and seed: grids of several tables share some of theirs.

    Args:
      runs: finished runs; of two that repeat each other, the one that comes first is kept.

    Returns:
      The runs that are kept, and for each of the others a line of text that says which one it repeats.

    Raises:
      UsageError: two runs of the same settings and seed have different figures and lie in the same folder, so that no
        sweep's name tells them apart; or something else in their setups differs, such as their data.
    """
    kept: dict[tuple[_Experiment, int], MeasuredRun] = {}
    lines = []
    for run in runs:
        first = kept.setdefault((_experiment(run), run.seed), run)
        if first is run:
            continue
        _check_alike(first, run)
        same = first.figures == run.figures
        if not same and _sweep(first) == _sweep(run):
            raise checks.UsageError(
                f"{first.name} and {run.name} are the same experiment with the same seed, {run.seed}, and have "
                "different results. Leave one of them out."
            )
        lines.append(f"{run.name}: repeats {first.name}, {'with the same' if same else 'but with other'} results")
    return list(kept.values()), lines


def with_data_told_apart(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The same runs; data of one name and other classes get labels, with their classes.

    A folder of images gives its name to the data, and many are called `images`. A run that does not say its classes has
    those of the runs with its settings, where these agree.
    """
    by_settings: dict[_Kind, set[tuple[str, ...]]] = {}
    classes: dict[str, list[tuple[str, ...]]] = {}
    for run in runs:
        names, known = run.setup.class_names, classes.setdefault(run.setup.dataset, [])
        if names is None:
            continue
        by_settings.setdefault(_kind(run), set()).add(names)
        if names not in known:
            known.append(names)
    told = []
    for run in runs:
        setup, found = run.setup, by_settings.get(_kind(run), set())
        if setup.class_names is None and len(found) == 1:
            setup = dataclasses.replace(setup, class_names=next(iter(found)))
        names, known = setup.class_names, classes[setup.dataset]
        if names is not None and len(known) > 1:
            label = f"{1 + known.index(names)}: {screen.shortened(', '.join(names), _SHOWN_CLASSES)}"
            setup = dataclasses.replace(setup, data_label=label)
        told.append(dataclasses.replace(run, setup=setup))
    return told


def _kind(run: MeasuredRun) -> _Kind:
    return frozenset(run.setup.settings.items()), run.setup.phase_sizes


def group_seeds(runs: Iterable[MeasuredRun]) -> list[Group]:
    """Puts runs together that differ in nothing but their seed.

    Args:
      runs: finished runs, none of which repeats another, as `leave_out_repeats` returns them.

    Returns:
      The groups, in the order of the folders of their first runs.

    Raises:
      UsageError: two runs have the same settings, and something else in their setups differs, such as their data.
    """
    by_experiment: dict[_Experiment, list[MeasuredRun]] = {}
    for run in runs:
        by_experiment.setdefault(_experiment(run), []).append(run)
    for members in by_experiment.values():
        members.sort(key=lambda run: run.seed)
        for first, second in itertools.pairwise(members):
            _check_alike(first, second)
    groups = [Group(members[0].setup, tuple(members)) for members in by_experiment.values()]
    return sorted(groups, key=lambda group: group.runs[0].folder)


def differing_settings(groups: Sequence[Group]) -> list[str]:
    """Names of the settings that are not the same in all of `groups`, in alphabetical order."""
    names = sorted(set().union(*(group.setup.settings for group in groups)))
    return [name for name in names if len({setting(group, name) for group in groups}) > 1]


def setting(group: Group, name: str) -> str:
    """The value of a setting, such as `ModelLevel.epochs`, as text of config.gin; `(not set)` if it is not there."""
    return group.setup.settings.get(name, _NOT_SET)


def _experiment(run: MeasuredRun) -> _Experiment:
    return frozenset(run.setup.settings.items()), run.setup.class_names


def _sweep(run: MeasuredRun) -> str:
    """The folder that a run's folder lies in."""
    return os.path.dirname(os.path.realpath(run.folder))


def _check_alike(first: MeasuredRun, second: MeasuredRun) -> None:
    """Raises UsageError unless the runs' setups are equal: data or package may have changed between them."""
    for field in dataclasses.fields(Setup):
        values = [getattr(run.setup, field.name) for run in (first, second)]
        if values[0] != values[1]:
            raise checks.UsageError(
                f"{first.name} and {second.name} have the same settings, but their {field.name} differ: "
                f"{values[0]!r} and {values[1]!r}. They are not seeds of one experiment; leave one of them out."
            )
