"""Memories against one of them, pair by pair: later phases that differ in nothing but their memory."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from instrument.outcomes import Outcome, by_seed, with_interval


def table(outcomes: Sequence[Outcome], against: str) -> str:
    """A line for each memory and length: how much more of all classes it has right than a memory it is held against.

    A pair has method, N, seed, length and training seed in common, and so the draws of the later phase; and the network
    of phase 0, unless a setting of the memory changes that as well. Their spread is not in the differences, as it is in
    the means of the other table.

    Args:
      outcomes: of any memories.
      against: the memory that the others are held against.

    Returns:
      Markdown; empty as long as no pair was measured.
    """
    known = {_key(outcome): outcome for outcome in outcomes if outcome.memory == against}
    pairs: dict[tuple, list[tuple[Outcome, Outcome]]] = collections.defaultdict(list)
    for outcome in outcomes:
        other = known.get(_key(outcome))
        if other is not None and outcome.memory != against:
            group = outcome.method, outcome.num_phases, outcome.memory, outcome.length
            pairs[group].append((outcome, other))
    if not pairs:
        return ""
    lines = [f"| method | N | memory | length | all, above {against} | pairs | phase 0 |", "|" + " --- |" * 7]
    for (method, num_phases, memory, length), members in pairs.items():
        above = with_interval(by_seed((outcome.seed, outcome.of_all - other.of_all) for outcome, other in members))
        cells = (method, num_phases, memory, f"{length:g}", above, len(members), _initial_phases(members))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _initial_phases(pairs: list[tuple[Outcome, Outcome]]) -> str:
    """Whether the networks that later phases began from are the same in each pair; empty if that is not known."""
    if any(not outcome.network for pair in pairs for outcome in pair):
        return ""
    return "the same" if all(outcome.network == other.network for outcome, other in pairs) else "others"


def _key(outcome: Outcome) -> tuple:
    return outcome.method, outcome.num_phases, outcome.seed, outcome.length, outcome.training_seed
