"""What a run, or a set of runs, came to, in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from mnemonics_tf.evaluation import metrics
from mnemonics_tf.report import paper
from mnemonics_tf.report.aggregate import Figure, figure
from mnemonics_tf.report.groups import Group
from mnemonics_tf.report.labels import budget_label, exemplars_label
from mnemonics_tf.report.page.record import Record
from mnemonics_tf.results import Results

_APART = 5.0  # percentage points between old and new classes that are worth a sentence


def summary(record: Record) -> list[str]:
    """Sentences on a run: what it is, how far it is, what it reached, and how that compares with the paper."""
    results, setup = record.results, record.run.setup
    last, name = results.phases[-1], results.primary_classifier
    kept = "" if results.exemplars == "none" else f" ({budget_label(setup)})"
    sentences = [
        f"{results.method} on {results.dataset}, {exemplars_label(setup)}{kept}. Seed {results.seed}. Figures are "
        f"of the {'head' if name == 'cnn' else 'nearest mean of exemplars'}, in percent of the test images."
    ]
    if not results.is_complete:
        sentences.append(
            f"This run is not finished: {len(results.phases)} of {results.num_phases + 1} phases are complete. All "
            "figures are of these, and change with every further phase."
        )
    sentences.append(
        f"After phase {last.phase} the network knows {last.num_classes} classes and is right on "
        f"{last.accuracy[name]:.1f} %. The average over the phases is {results.average_accuracy[name]:.2f} %."
    )
    if len(results.phases) > 1:
        sentences += [_on_forgetting(results), _on_balance(record)]
    sentences += _beside_paper(record)
    return [sentence for sentence in sentences if sentence]


def _on_forgetting(results: Results) -> str:
    name = results.primary_classifier
    first, last = (results.phases[place].initial_classes_accuracy[name] for place in (0, -1))
    lost = results.forgetting[name]
    if lost <= 0:
        return f"Nothing was forgotten of the classes of phase 0: {first:.1f} % then, {last:.1f} % now."
    return f"Of the classes of phase 0, {lost:.1f} points were forgotten: {first:.1f} % then, {last:.1f} % now."


def _on_balance(record: Record) -> str:
    """Whether the network leans to what it learned last."""
    old = record.of_old_classes(record.last)
    new = record.results.phases[-1].group_accuracy[record.results.primary_classifier][-1]
    if abs(new - old) < _APART:
        return f"Old and new classes are served alike: {old:.1f} % and {new:.1f} %."
    towards = "new classes: it has forgotten" if new > old else "old classes: it has learned too little of the new"
    return f"It leans to {towards} ({old:.1f} % on old classes, {new:.1f} % on new ones)."


def _beside_paper(record: Record) -> list[str]:
    if not record.results.is_complete:
        return []
    name = record.results.primary_classifier
    ours = record.results.average_accuracy[name]
    sentences = []
    for table, value in paper.figures_for(record.run.setup, "average_accuracy"):
        side = "above" if ours >= value else "below"
        sentences.append(
            f"The paper has an average of {value:.2f} % for this row ({table}): this run is {abs(ours - value):.2f} "
            f"points {side}. Network and schedule need not be the paper's: see the configuration."
        )
    return sentences


def movement(results: Results) -> list[str]:
    """A sentence on how far exemplars moved that were learned, and on those that were adjusted."""
    sentences = []
    for which, name, was in (
        ("learned", "New exemplars", "real images, as learning left them"),
        ("adjusted", "Old exemplars", "what they were before they were adjusted"),
    ):
        found = [phase.movement[which] for phase in results.phases if which in phase.movement]
        if not found:
            continue
        mean, unmoved = (float(np.mean([each[key] for each in found])) for key in ("mean", "unmoved"))
        largest = max(each["largest"] for each in found)
        if unmoved == 100:
            sentences.append(f"{name} have not moved: all of them are still {was}.")
            continue
        sentences.append(
            f"{name} moved by {mean:.2f} grey levels a pixel in the mean over the phases, "
            f"{largest:.0f} at most; {unmoved:.1f} % of them are still {was}."
        )
    return sentences


def verdict(groups: Sequence[Group]) -> list[str]:
    """Sentences on groups of the same data and phases: which is best, and whether seeds leave a doubt.

    Args:
      groups: at least one.
    """
    measured = [(group, found) for group in groups if (found := _average(group)) is not None]
    measured.sort(key=lambda each: -each[1].mean)
    (best, top), *others = measured
    count = sum(len(group.runs) for group in groups)
    sentences = [f"{_count(count, 'run')} of {_count(len(groups), 'kind')}."]
    if not others:
        return [*sentences, f"Its average accuracy is {_text(top)}{_seeds(best)}."]
    (_, second), *_ = others
    sentences.append(
        f"The highest average accuracy has {title(best, groups)}: {_text(top)}{_seeds(best)}. The next, "
        f"{title(others[0][0], groups)}, has {_text(second)}."
    )
    if top.half_interval is None or second.half_interval is None:
        whose = "Both have" if top.half_interval is second.half_interval else "One of the two has"
        sentences.append(f"{whose} one seed only: their difference may be chance.")
    else:
        sentences.append(_on_order(best, top, others[0][0], second))
    kept = [(group, found) for group in groups if (found := _forgetting(group)) is not None]
    least, lost = min(kept, key=lambda each: each[1].mean)
    sentences.append(f"Least is forgotten by {title(least, groups)}: {_text(lost)} of the classes of phase 0.")
    return sentences


def _on_order(best: Group, top: Figure, next_best: Group, second: Figure) -> str:
    """Whether seeds settle which of two groups is above the other; pair by pair where the seeds are the same."""
    first, other = (
        {run.seed: run.figures["average_accuracy", group.setup.primary_classifier] for run in group.runs}
        for group in (best, next_best)
    )
    if first.keys() == other.keys():
        gains = [first[seed] - other[seed] for seed in first]
        mean, half = statistics.fmean(gains), metrics.confidence_interval(gains)
        settled = "" if mean > half else ": their order is not settled"
        return f"Seed by seed the difference is {mean:.2f} ± {half:.2f} points{settled}."
    if top.half_interval is None or second.half_interval is None:
        raise ValueError("Groups of one seed have no interval.")
    if top.mean - top.half_interval > second.mean + second.half_interval:
        return "Their 95 % intervals over seeds do not overlap."
    return "Their 95 % intervals over seeds overlap: their order is not settled."


def title(group: Group, among: Sequence[Group]) -> str:
    """A name for a group that tells it from others: method and exemplars, and the folder where these are the same."""
    short = f"{group.setup.method}, {exemplars_label(group.setup)}"
    same = [each for each in among if f"{each.setup.method}, {exemplars_label(each.setup)}" == short]
    if len({budget_label(each.setup) for each in same}) > 1:
        short += f", {budget_label(group.setup)}"
        same = [each for each in same if budget_label(each.setup) == budget_label(group.setup)]
    # The number comes first: figures cut long names off at their end.
    return short if len(same) == 1 else f"kind {1 + same.index(group)}, {short} ({group.runs[0].name})"


def _average(group: Group) -> Figure | None:
    return figure(group, "average_accuracy", group.setup.primary_classifier)


def _forgetting(group: Group) -> Figure | None:
    return figure(group, "forgetting", group.setup.primary_classifier)


def _text(found: Figure) -> str:
    interval = "" if found.half_interval is None else f" ± {found.half_interval:.2f}"
    return f"{found.mean:.2f}{interval} %"


def _seeds(group: Group) -> str:
    return f" over {len(group.runs)} seeds" if len(group.runs) > 1 else " with one seed"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
