"""The schema of `results.json` and of a phase's `metrics.json`: written, read and checked here, and known nowhere else.

The fields of `Results` and `PhaseResult` are the keys of the files, in this order; their annotations are what a reader
insists on. It imports no TensorFlow: reports and sweeps read results all the time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mnemonics_tf import __version__, checks
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.system import files, folders, screen

RESULTS_FILE = "results.json"
METRICS_FILE = "metrics.json"

SCHEMA_VERSION = 2
_VERSION_KEY = "schema_version"  # the first key of results.json

_NoneType = type(None)
_T = typing.TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class PhaseResult:
    """What one phase reached. Percentages, a value per classifier (`cnn`: the head, `nme`: nearest mean of exemplars,
    where there are any).

    Attributes:
      phase: index of the phase.
      num_classes: classes seen so far.
      accuracy: top-1 on the test images of all classes seen so far (A_i of the paper).
      initial_classes_accuracy: top-1 on the test images of the classes of phase 0.
      group_accuracy: top-1 on the test images of each phase's classes, in the order of the phases.
      exemplars_per_class: how many exemplars are kept of a class (the smallest number, if they differ).
      probe: how good the exemplars of the new classes are, see `mnemonics_tf.evaluation.probe`; empty without it.
      seconds: duration of each stage.
      reused: whether the network is that of an earlier run with the same initial phase. Files of versions that shared
        no initial phases do not have it.
      num_exemplars: how many exemplars are kept of all classes. This and what follows is missing, None, in files of
        versions that counted no bytes.
      bytes_per_class: what is kept of a class, labels included (the largest number, if they differ).
      memory_bytes: all that is kept of all classes, with what they share, see `mnemonics_tf.memory.budget`.
      statistics_bytes: what the method keeps of all images beside network and exemplars, such as Gram matrices; 0 for
        most methods, and in files of versions that had no such method.
      movement: how far exemplars moved, by `learned` (new ones) and `adjusted` (old ones): `mean` and `largest` change
        in grey levels, and `unmoved`, the percentage that is bit for bit what it was (of learned ones, a real image).
        Empty where none were optimised, and in files of versions that did not look.
      notes: what did not go as configured, such as a learning of exemplars that diverged; a sentence each.
    """

    phase: int
    num_classes: int
    accuracy: dict[str, float]
    initial_classes_accuracy: dict[str, float]
    group_accuracy: dict[str, list[float]]
    exemplars_per_class: int
    probe: dict[str, float]
    seconds: dict[str, float]
    reused: bool = False
    num_exemplars: int | None = None
    bytes_per_class: int | None = None
    memory_bytes: int | None = None
    statistics_bytes: int = 0
    movement: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Results:
    """All phases of a run that are complete, and what the run was.

    Attributes:
      package_version: of mnemonics_tf.
      dataset: name of the data.
      method: name of the base method.
      head: `cosine`, `linear` or `proxies`.
      exemplars: `mnemonics`, `herding`, `random` or `none`.
      adjust_exemplars: whether old exemplars are adjusted.
      budget: `per_class_20`, `total_2000`, `bytes_per_class_61440` or `none`, for example.
      discard: which exemplars go when a total budget shrinks: `random` or `herding`.
      weight_transfer: `none`, `per_neuron` or `per_kernel`.
      balanced_finetune: whether there is any; None for what the base method does by itself.
      distillation: whether the method's losses look at the teacher.
      seed: of training.
      order_seed: of the class order; None for the data set's own order.
      num_phases: N, the phases after the first, of which some may be still to come.
      phase_sizes: number of new classes in each of the N + 1 phases.
      class_order: the data set's ids of the classes, in the order in which they arrive.
      primary_classifier: the classifier that is reported, `cnn` or `nme`.
      phases: those that are complete.
      average_accuracy: mean over them of `PhaseResult.accuracy`, in percent, by classifier.
      forgetting: what they have forgotten of the classes of phase 0, in percentage points, by classifier.
    """

    package_version: str
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
    seed: int
    order_seed: int | None
    num_phases: int
    phase_sizes: tuple[int, ...]
    class_order: tuple[int, ...]
    primary_classifier: str
    phases: tuple[PhaseResult, ...]
    average_accuracy: dict[str, float]
    forgetting: dict[str, float]

    @property
    def is_complete(self) -> bool:
        """Whether the run has no phases left to do."""
        return len(self.phases) == self.num_phases + 1


def summarise(
    phases: Sequence[PhaseResult], *, phase_sizes: Sequence[int], class_order: Sequence[int], **setup: Any
) -> Results:
    """The results of the phases so far, with what sums them up.

    Args:
      phases: those that are complete, at least one.
      phase_sizes: number of new classes in each phase of the run, complete or not.
      class_order: ids of the classes in the order in which they arrive.
      setup: the fields of `Results` from `dataset` to `order_seed`, and `primary_classifier`.

    Returns:
      Results of this version of the package.
    """
    classifiers = list(phases[0].accuracy)
    return Results(
        package_version=__version__,
        num_phases=len(phase_sizes) - 1,
        phase_sizes=tuple(phase_sizes),
        class_order=tuple(class_order),
        phases=tuple(phases),
        average_accuracy={
            name: metrics.average_accuracy([phase.accuracy[name] for phase in phases]) for name in classifiers
        },
        forgetting={
            name: metrics.forgetting([phase.initial_classes_accuracy[name] for phase in phases]) for name in classifiers
        },
        **setup,
    )


def to_text(results: Results) -> str:
    """The content of `results.json`. Its last entry is a checksum of all others: reports read this file alone."""
    content = {_VERSION_KEY: SCHEMA_VERSION, **dataclasses.asdict(results)}
    return json.dumps(folders.with_checksum(content), indent=1) + "\n"


def phase_to_text(result: PhaseResult) -> str:
    """The content of a phase's `metrics.json`."""
    return json.dumps(dataclasses.asdict(result), indent=1)


def read(path: str) -> Results:
    """Reads and checks a `results.json`. Earlier versions wrote no checksum, and theirs is read all the same.

    Raises:
      UsageError: it is missing, damaged, or of another version of the schema. One line.
    """
    return _read(path, "Leave it out, or run the experiment again.", _results)


def read_phase(path: str) -> PhaseResult:
    """Reads and checks a phase's `metrics.json`. Raises UsageError if it is missing or damaged. One line."""
    return _read(path, "Delete its phase's folder and all later ones to train them again.", _phase_result)


def _read(path: str, mend: str, convert: Callable[[Any], _T]) -> _T:
    try:
        return convert(files.read_json(path))
    except _VersionError as error:
        raise checks.UsageError(
            f"{screen.shown(path)} has {_VERSION_KEY} {error}: expected {SCHEMA_VERSION}. Leave it out, or run the "
            "experiment again with this version of mnemonics_tf."
        ) from error
    except files.UnreadableError as error:
        raise checks.UsageError(f"{screen.shown(path)} is damaged: {error}. {mend}") from error


class _VersionError(ValueError):
    """The file is of another version of the schema."""


def _results(content: Any) -> Results:
    _check(isinstance(content, dict), f"it holds a {type(content).__name__}, not an object")
    version = content.get(_VERSION_KEY)
    if type(version) is not int or version != SCHEMA_VERSION:
        raise _VersionError(_brief(version))
    content = folders.without_checksum(content)
    results = _as_dataclass(Results, content, "")
    num_complete, num_phases = len(results.phases), results.num_phases
    _check(num_complete >= 1, "it has no phases")
    _check(num_complete <= num_phases + 1, f"it has {num_complete} phases, and num_phases = {results.num_phases}")
    _check(
        len(results.phase_sizes) == num_phases + 1,
        f"'phase_sizes' has {len(results.phase_sizes)} entries, and 'num_phases' is {num_phases}",
    )
    _check(min(results.phase_sizes) >= 1, "'phase_sizes' has a phase without classes")
    _check(
        len(results.class_order) == len(set(results.class_order)) == sum(results.phase_sizes),
        f"'class_order' has {len(results.class_order)} entries; expected {sum(results.phase_sizes)} different ones",
    )
    classifiers = results.average_accuracy.keys()
    _check(
        results.primary_classifier in classifiers,
        f"it has no figures of the classifier {_brief(results.primary_classifier)}",
    )
    for index, phase in enumerate(results.phases):
        _check_phase(phase, f"phases[{index}].")
        _check(phase.phase == index, f"'phases[{index}].phase' is {phase.phase}")
        _check(
            phase.num_classes == sum(results.phase_sizes[: index + 1]),
            f"'phases[{index}].num_classes' is {phase.num_classes}, and 'phase_sizes' says otherwise",
        )
        _check(phase.accuracy.keys() == classifiers, f"'phases[{index}].accuracy' has other classifiers than the rest")
    _check_percentages("average_accuracy", results.average_accuracy.values())
    _check(results.forgetting.keys() == classifiers, "'forgetting' has other classifiers than 'average_accuracy'")
    for value in results.forgetting.values():
        _check(-100 <= value <= 100, f"'forgetting' has {value!r}: no difference of percentages")
    return results


def _phase_result(content: Any) -> PhaseResult:
    result = _as_dataclass(PhaseResult, content, "")
    _check_phase(result, "")
    return result


def _check_phase(phase: PhaseResult, where: str) -> None:
    _check(phase.phase >= 0 and phase.num_classes >= 1, f"'{where}phase' or '{where}num_classes' is too small")
    _check(phase.exemplars_per_class >= 0, f"'{where}exemplars_per_class' is {phase.exemplars_per_class}")
    for name in ("num_exemplars", "bytes_per_class", "memory_bytes"):
        value = getattr(phase, name)
        _check(value is None or value >= 0, f"'{where}{name}' is {value}")
    _check(phase.statistics_bytes >= 0, f"'{where}statistics_bytes' is {phase.statistics_bytes}")
    _check(bool(phase.accuracy), f"'{where}accuracy' is empty")
    _check_percentages(f"{where}accuracy", phase.accuracy.values())
    _check_percentages(f"{where}initial_classes_accuracy", phase.initial_classes_accuracy.values())
    same = phase.accuracy.keys() == phase.initial_classes_accuracy.keys() == phase.group_accuracy.keys()
    _check(same, f"'{where}accuracy', 'initial_classes_accuracy' and 'group_accuracy' have different classifiers")
    for name, values in phase.group_accuracy.items():
        _check(len(values) == phase.phase + 1, f"'{where}group_accuracy' has {len(values)} figures of {_brief(name)}")
        _check_percentages(f"{where}group_accuracy", values)
    for which, moved in phase.movement.items():
        for name in ("mean", "largest", "unmoved"):
            value = moved.get(name, -1.0)
            _check(0 <= value <= 255, f"'{where}movement' of {_brief(which)} has the {name} {value!r}")
    for name, value in phase.seconds.items():
        _check(value >= 0, f"'{where}seconds' of {_brief(name)} is {value!r}")


def _check_percentages(where: str, values: Iterable[float]) -> None:
    for value in values:
        _check(0 <= value <= 100 + 1e-6, f"'{where}' has {value!r}: no percentage")


def _check(holds: bool, why: str) -> None:
    if not holds:
        raise files.UnreadableError(why)


# The annotations of the dataclasses, as types.
_KINDS: dict[Any, dict[str, Any]] = {owner: typing.get_type_hints(owner) for owner in (PhaseResult, Results)}


def _as_dataclass(owner: type[_T], content: Any, where: str) -> _T:
    """A dataclass from what JSON holds. Keys that it does not know are passed over; fields with defaults may miss."""
    _check(isinstance(content, dict), f"{where.rstrip('.') or 'it'} holds a {type(content).__name__}, not an object")
    values = {}
    for field in dataclasses.fields(owner):  # type: ignore[arg-type]
        if field.name in content:
            values[field.name] = _as_kind(_KINDS[owner][field.name], content[field.name], f"{where}{field.name}")
        else:
            has_default = not (field.default is field.default_factory is dataclasses.MISSING)
            _check(has_default, f"it has no '{where}{field.name}'")
    return owner(**values)


def _as_kind(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type of an annotation. Raises UnreadableError unless it is one."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _as_dataclass(kind, value, f"{where}.")  # type: ignore[arg-type]
    if origin in (list, tuple):
        _check(type(value) is list, f"'{where}' is {_brief(value)}, not a list")
        return origin(_as_kind(arguments[0], each, f"{where}[{index}]") for index, each in enumerate(value))
    if origin is dict:
        _check(type(value) is dict, f"'{where}' is {_brief(value)}, not an object")
        # Names of stages and classifiers stand in figures, which hold no control characters, and on screens.
        _check(all(map(str.isprintable, value)), f"'{where}' has a name with characters that cannot be printed")
        return {name: _as_kind(arguments[1], each, f"{where}.{name}") for name, each in value.items()}
    allowed = arguments if origin in (types.UnionType, typing.Union) else (kind,)
    names = " or ".join("null" if each is _NoneType else each.__name__ for each in allowed)
    is_number = float in allowed and type(value) in (int, float)
    _check(is_number or type(value) in allowed, f"'{where}' is {_brief(value)}, not of type {names}")
    if type(value) is int:
        _check(abs(value) < 2**63, f"'{where}' is too large a number")
    if is_number:
        _check(math.isfinite(value), f"'{where}' is {value!r}, which is not finite")
        return float(value)
    return value


def _brief(value: Any) -> str:
    """A value in few characters, whatever it is; an integer of thousands of digits has no text."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "too large a number"
    text = f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
