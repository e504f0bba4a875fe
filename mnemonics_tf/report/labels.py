"""What groups of runs are called: their switches in words, and a number where words do not tell two of them apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mnemonics_tf.report.groups import Group, differing_settings, setting
from mnemonics_tf.report.paper import IDLE_MEMORY
from mnemonics_tf.report.runs import Setup

WITH_OURS = "w/ ours"
WITHOUT_OURS = "without ours"
_ALONE = "mnemonics alone"

# Strategy of the exemplars, then whether they are adjusted, weight transfer, balanced fine-tuning.
_SWITCHES = {
    WITH_OURS: ("mnemonics", True, True, True),
    WITHOUT_OURS: ("herding", False, False, False),
    _ALONE: ("mnemonics", False, False, False),
    "no exemplars": ("none", False, False, False),
}
_NAMES = ("adjusting", "weight transfer", "balanced fine-tuning")

_NUM_PHASES = "Protocol.num_phases"
_CODEC = "ExemplarMemory.codec"
# Settings by which later phases give the memory a weight of its own.
_BALANCING = ("Rehearsal.logit_adjustment", "Rehearsal.memory_share", "Rehearsal.separated_softmax")


@dataclasses.dataclass(frozen=True)
class Variation:
    """Settings of a group that its row of a table does not tell, and their number.

    Attributes:
      number: what tables call them, `#1` and so on; the same for groups with the same `settings`.
      settings: pairs of name and value, in alphabetical order of names.
    """

    number: int
    settings: tuple[tuple[str, str], ...]


def exemplars_label(setup: Setup) -> str:
    """The label of a run's switches: `w/ ours`, `without ours`, `mnemonics alone` or `no exemplars`, the nearest.

    Switches that differ from it follow, such as `w/ ours, but no adjusting`. The switches are the strategy of the
    exemplars, adjusting, weight transfer, balanced fine-tuning and distillation, which are the paper's, and whether
    exemplars are coded and later phases balance memory and new images, which are not.
    """
    ours = (
        setup.exemplars,
        setup.adjust_exemplars,
        setup.weight_transfer != "none",
        setup.balanced_finetune is True,
    )
    differences = {
        label: [index for index, value in enumerate(switches) if value != ours[index]]
        for label, switches in _SWITCHES.items()
    }
    nearest = min(differences, key=lambda label: len(differences[label]))
    words = [
        setup.exemplars if index == 0 else f"{'' if ours[index] else 'no '}{_NAMES[index - 1]}"
        for index in differences[nearest]
    ]
    if not setup.distillation:
        words.append("no distillation")
    memory = IDLE_MEMORY | setup.settings
    if memory[_CODEC] != IDLE_MEMORY[_CODEC]:
        words.append("coded by " + memory[_CODEC].strip("'"))
    if any(memory[name] != IDLE_MEMORY[name] for name in _BALANCING):
        words.append("balanced use")
    return f"{nearest}, but {', '.join(words)}" if words else nearest


def budget_label(setup: Setup) -> str:
    """The label of a run's budget, such as `20 a class` or `2000 in all`; a dash if it keeps no exemplars."""
    kind, _, number = setup.budget.rpartition("_")
    labels = {
        "per_class": f"{number} a class",
        "total": f"{number} in all",
        "bytes_per_class": f"{number} bytes a class",
        "total_bytes": f"{number} bytes in all",
    }
    return labels.get(kind, "-")


def variations(groups: Sequence[Group]) -> dict[Group, Variation]:
    """Numbers the settings in which groups differ although their data, method, exemplars and budget are the same.

    Such groups would share a row, and those of the same N even a cell; settings that differ between two N of one row
    count too, for a row is read across. All groups of the same data are numbered by the settings that differ in any of
    its rows, so that a number means the same in each. Groups of data without such differences are not in the result.
    """
    rows: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        rows.setdefault(row_key(group.setup), []).append(group)
    own = {row: _unsaid(members) for row, members in rows.items()}
    by_dataset: dict[str, set[str]] = {}
    for (dataset, *_), unsaid in own.items():
        by_dataset.setdefault(dataset, set()).update(unsaid)
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    numbered = {}
    for group in groups:
        # A setting of another method, say, means nothing where it is not set.
        meant = own[row_key(group.setup)] | set(group.setup.settings)
        names = sorted(by_dataset[group.setup.data] & meant)
        if names:
            settings = tuple((name, setting(group, name)) for name in names)
            numbered[group] = Variation(numbers.setdefault(settings, len(numbers) + 1), settings)
    return numbered


def _unsaid(members: Sequence[Group]) -> set[str]:
    """Settings that differ within a row, but for N where it is what columns tell (other settings may overrule it)."""
    told = all(setting(group, _NUM_PHASES) == str(group.setup.num_phases) for group in members)
    return set(differing_settings(members)) - ({_NUM_PHASES} if told else set())


def row_key(setup: Setup) -> tuple[str, ...]:
    """All that the text of a row tells of a group: data set, method, label of the exemplars, label of the budget."""
    return setup.data, setup.method, exemplars_label(setup), budget_label(setup)
