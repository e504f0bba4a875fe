"""What a trial came to, its file, and the table of many."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mnemonics_tf.evaluation import metrics
from mnemonics_tf.system import files, folders

_LEGEND = (
    "Images and bytes are those of an old class; seconds made the memory and trained the later phase. Balanced: all",
    "classes, with that constant on the logits of old ones which suits each memory best. Meta-steps learned the",
    "memory; moved: the mean change of a pixel, in grey levels. Apart: how far means of exemplars are from those of",
    "their classes, squared, in variances within classes (1 / n for n drawn at random), to the network before and",
    "after the later phase. Intervals of 95 % are over seeds of phase 0; where there is one, over training seeds.",
)
_SAME = 0.01  # share by which steps or bytes of rows that are compared may differ
_COMPARED = {"steps": "steps", "bytes_per_class": "bytes", "meta_steps": "meta-steps"}
# Stages that train the network, by whose steps memories are compared.
MODEL_LEVEL = ("train_model", "finetune_balanced")
# What trains a later phase. It also makes exemplars of its own classes, for phases after it: no part of a trial.
_TRAINING = (*MODEL_LEVEL, "adjust_exemplars")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One later phase.

    Attributes:
      method: the base method.
      memory: what the grid calls the memory.
      num_phases: N, of the classes as they were dealt out.
      seed: of phase 0 and of the memory.
      length: by which the epochs of the later phase were multiplied.
      training_seed: of the later phase.
      classifier: what the method predicts by, `cnn` or `nme`.
      accuracy: percent of the test images of `all`, `old` and `new` classes, by classifier.
      images_per_class: exemplars of an old class that the phase was trained on, the mean over classes.
      bytes_per_class: what the memory takes, labels, tables and a method's statistics included, for each old class.
      steps: training steps of the later phase, fine-tuning included.
      seconds: duration of its training, see `training_seconds`.
      memory_seconds: what choosing, learning and coding the memory took.
      meta_steps: of learning the memory; 0 for one that is chosen.
      moved: mean change of a pixel by learning, in grey levels; 0 for a memory that is chosen.
      still_real: percent of the exemplars that are real images bit for bit, before they are coded.
      apart_before: squared distance between the means of exemplars and of images of their class, in variances within
        classes, by the network that the memory was made for; see `likeness.distance_of_means`. None without exemplars.
      apart_after: the same by the network of the later phase.
      balanced: percent of all test images at the best constant between old and new classes; see
        `balance.balanced_accuracy`. None for a classifier other than the network's head.
      network: what tells the network after phase 0 from others, see `trials.network_mark`; empty in files of earlier
        versions.
      code: of the package's sources, see `sources.checksum_of_all`; empty likewise.
    """

    method: str
    memory: str
    num_phases: int
    seed: int
    length: float
    training_seed: int
    classifier: str
    accuracy: dict[str, dict[str, float]]
    images_per_class: float
    bytes_per_class: float
    steps: int
    seconds: float
    memory_seconds: float
    meta_steps: int = 0
    moved: float = 0.0
    still_real: float = 100.0
    apart_before: float | None = None
    apart_after: float | None = None
    balanced: float | None = None
    network: str = ""
    code: str = ""

    @property
    def of_all(self) -> float:
        """Percent of all test images that the method's classifier has right."""
        return self.accuracy[self.classifier]["all"]


def accuracies(predictions: Any, num_old: int) -> dict[str, dict[str, float]]:
    """Percent of right answers, by classifier, for all, old and new classes.

    Args:
      predictions: `labels`, `[n]` class indices, and what each classifier says, `by_classifier`.
      num_old: K; class indices below it are old.
    """
    labels = predictions.labels
    parts = {"all": labels >= 0, "old": labels < num_old, "new": labels >= num_old}
    return {
        name: {part: metrics.accuracy(predicted[rows], labels[rows]) for part, rows in parts.items()}
        for name, predicted in predictions.by_classifier.items()
    }


def training_seconds(seconds: Mapping[str, float]) -> float:
    """How long a later phase was trained, fine-tuning included, by the durations of its steps."""
    return sum(seconds.get(name, 0.0) for name in _TRAINING)


def save(path: pathlib.Path, outcome: Outcome, fingerprint: str) -> None:
    """Writes an outcome in one step, with a checksum."""
    content = {"fingerprint": fingerprint, **dataclasses.asdict(outcome)}
    files.write_text(str(path), json.dumps(folders.with_checksum(content), indent=1))


def load(path: pathlib.Path, fingerprint: str | None) -> Outcome | None:
    """The outcome of an earlier call; None if there is none, it is damaged, or it came of other settings.

    `fingerprint` is that of the settings; None takes any.
    """
    try:
        content = folders.read_checked(str(path))
        if content.pop("fingerprint") != fingerprint and fingerprint is not None:
            return None
        return Outcome(**content)
    except (OSError, files.UnreadableError, AttributeError, KeyError, TypeError):
        return None


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each method, N, memory and length: means over seeds, with half of the 95 % interval."""
    groups: dict[tuple, list[Outcome]] = collections.defaultdict(list)
    for outcome in outcomes:
        groups[outcome.method, outcome.num_phases, outcome.memory, outcome.length].append(outcome)
    headings = ["method", "N", "memory", "images", "bytes", "length", "steps", "all", "balanced", "old", "new"]
    headings += ["runs", "seconds", "meta-steps", "moved", "still real", "apart", "apart after"]
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    for (method, num_phases, memory, length), members in groups.items():
        first = members[0]
        shares = {
            part: with_interval(by_seed((member.seed, member.accuracy[member.classifier][part]) for member in members))
            for part in ("all", "old", "new")
        }
        balanced = by_seed((member.seed, member.balanced) for member in members if member.balanced is not None)
        cells = (
            f"{method} ({first.classifier})",
            num_phases,
            memory,
            f"{_mean(member.images_per_class for member in members):.1f}",
            f"{_mean(member.bytes_per_class for member in members):,.0f}",
            f"{length:g}",
            f"{_mean(member.steps for member in members):,.0f}",
            shares["all"],
            with_interval(balanced) if balanced else "",
            shares["old"],
            shares["new"],
            len(members),
            f"{_mean(member.seconds + member.memory_seconds for member in members):.0f}",
            f"{_mean(member.meta_steps for member in members):,.0f}",
            f"{_mean(member.moved for member in members):.1f}",
            f"{_mean(member.still_real for member in members):.0f} %",
            _distance(member.apart_before for member in members),
            _distance(member.apart_after for member in members),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", *_LEGEND]
    return "\n".join([*lines, *_warnings(groups)])


def _warnings(groups: dict[tuple, list[Outcome]]) -> list[str]:
    """Says which lines are no fair comparison, and which have no interval."""
    lines = []
    versions = {outcome.code for members in groups.values() for outcome in members}
    if len(versions) > 1:
        lines.append(
            f"Lines are of {len(versions)} versions of the code: another --output_dir has all of them run by this one."
        )
    if any(len(members) < 2 for members in groups.values()):
        lines.append("Lines of one run have no interval: give more --training_seeds, or seeds in the grid.")
    rows: dict[tuple, list[tuple[str, list[Outcome]]]] = collections.defaultdict(list)
    for (method, num_phases, memory, length), members in groups.items():
        rows[method, num_phases, length].append((memory, members))
    for (method, num_phases, length), members_of in rows.items():
        for measure, what in _COMPARED.items():
            values = {name: _mean(getattr(each, measure) for each in members) for name, members in members_of}
            if measure == "meta_steps":  # which chosen memories have none of
                values = {name: value for name, value in values.items() if value}
            if values and max(values.values()) > (1 + _SAME) * min(values.values()):
                names = ", ".join(f"{name} {value:,.0f}" for name, value in values.items())
                lines.append(f"Other {what} in {method}, N = {num_phases}, length {length:g}: {names}.")
    return lines


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _distance(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{_mean(known):.3f}" if known else ""


def by_seed(values: Iterable[tuple[int, float]]) -> list[float]:
    """What an interval is taken over: a mean for each seed of phase 0; of one seed, the values themselves.

    Later phases that begin from one network have more in common than those of two, so that an interval over all of
    them would be too narrow.

    Args:
      values: with the seed of each.
    """
    groups: dict[int, list[float]] = collections.defaultdict(list)
    for seed, value in values:
        groups[seed].append(value)
    if len(groups) == 1:
        return groups.popitem()[1]
    return [_mean(group) for group in groups.values()]


def with_interval(values: Sequence[float]) -> str:
    """The mean, with half of the 95 % interval if there are two values or more."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {metrics.confidence_interval(values):.2f}"
