"""What figures were measured with, in few words: the paper's rows do not say it, and our runs may be smaller."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from mnemonics_tf.report.groups import Group, setting


def conditions(measured: Sequence[tuple[str, Group]]) -> str:
    """Network, epochs, head and classifier of groups, as text.

    Of each, what most groups have comes first; what others have follows in parentheses, with the names of their rows.

    Args:
      measured: groups, each with the name of its row, at least one.
    """
    parts = []
    for values in zip(*(_of_group(group) for _, group in measured), strict=True):
        rows: dict[str, list[str]] = {}
        for (row, _), value in zip(measured, values, strict=True):
            rows.setdefault(value, []).append(row)
        (most, _), *others = collections.Counter(values).most_common()
        exceptions = "; ".join(f"{value}: {', '.join(dict.fromkeys(rows[value]))}" for value, _ in others)
        parts.append(f"{most} ({exceptions})" if exceptions else most)
    return ", ".join(parts)


def _of_group(group: Group) -> tuple[str, ...]:
    own = setting(group, "Experiment.network")
    is_own = own.startswith("@")
    return (
        f"network {own}" if is_own else f"ResNet of blocks {setting(group, 'ResNet.blocks')}",
        "its own widths" if is_own else f"widths {setting(group, 'ResNet.widths')}",
        f"epochs {setting(group, 'ModelLevel.epochs')}",
        f"{group.setup.head} head",
        group.setup.primary_classifier.upper(),
    )
