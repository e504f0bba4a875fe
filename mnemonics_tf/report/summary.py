"""The table that a run ends with."""

from __future__ import annotations

from typing import Any


def summary(results: dict[str, Any]) -> str:
    """A table of the phases, average accuracy and forgetting, as text.

    Args:
      results: the content of `results.json`.
    """
    lines = ["phase  classes  CNN (%)  NME (%)  seconds"]
    for phase in results["phases"]:
        accuracy, seconds = phase["accuracy"], sum(phase["seconds"].values())
        lines.append(
            f"{phase['phase']:5d}  {phase['num_classes']:7d}  {accuracy['cnn']:7.2f}  {accuracy['nme']:7.2f}  "
            f"{seconds:7.0f}"
        )
    for title, key in (("average", "average_accuracy"), ("forgetting", "forgetting")):
        lines.append(f"{title:14s}  {results[key]['cnn']:7.2f}  {results[key]['nme']:7.2f}")
    return "\n".join(lines)
