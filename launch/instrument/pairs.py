"""Memories against one of them, pair by pair: later phases that differ in nothing but their memory."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from instrument.outcomes import Outcome, with_interval


def table(outcomes: Sequence[Outcome], against: str) -> str:
    """A line for each memory and length: how much more of all classes it has right than a memory it is held against.

    A pair has method, N, seed, length and training seed in common, and so the network of phase 0 and the draws of the
    later phase: their spread is not in the differences, as it is in the means of the other table.

    Args:
      outcomes: of any memories.
      against: the memory that the others are held against.

    Returns:
      Markdown; empty as long as no pair was measured.
    """
    known = {_key(outcome): outcome for outcome in outcomes if outcome.memory == against}
    differences: dict[tuple, list[float]] = collections.defaultdict(list)
    for outcome in outcomes:
        other = known.get(_key(outcome))
        if other is not None and outcome.memory != against:
            group = outcome.method, outcome.num_phases, outcome.memory, outcome.length
            differences[group].append(outcome.of_all - other.of_all)
    if not differences:
        return ""
    lines = [f"| method | N | memory | length | all, above {against} | pairs |", "|" + " --- |" * 6]
    for (method, num_phases, memory, length), values in differences.items():
        lines.append(f"| {method} | {num_phases} | {memory} | {length:g} | {with_interval(values)} | {len(values)} |")
    return "\n".join(lines)


def _key(outcome: Outcome) -> tuple:
    return outcome.method, outcome.num_phases, outcome.seed, outcome.length, outcome.training_seed
