"""What users wait for before the first step, and where nothing is to be trained."""

from __future__ import annotations

import inputs
from harness.cases import TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Results
from harness.tables import text

_NOTE = f"""\
Commands as they are typed, each in a process of its own from Python's start on, in a terminal. The first step is the
moment at which the bar shows that one training step of phase 0 is over. The made-up set has CIFAR-100's size and comes
from memory; CIFAR-100 itself is read by TensorFlow Datasets where it is prepared. The folder has
{inputs.FOLDER_CLASSES * inputs.FOLDER_IMAGES_A_CLASS:,} JPEGs of {inputs.FOLDER_SIDE} x {inputs.FOLDER_SIDE}. An absent
data set is refused by a machine that reaches no other: without a network where the system lets users take it away
(`unshare`), and otherwise with a proxy that does not answer."""

# The case, what it is called among the ratios, and its wanted bound.
_CASES = (
    (Case(TENSORFLOW, "--help", "start.show_help", repeats=3), "under 0.5 s"),
    (
        Case(TENSORFLOW, "digits, first step", "start.first_step", {"configuration": "configs/lucir_digits.gin"}),
        "under 12 s",
    ),
    (
        Case(
            TENSORFLOW,
            "CIFAR-100's size, made up, first step",
            "start.first_step",
            {"configuration": "launch/benchmarks/made_up/cifar_sized.gin"},
        ),
        "under 25 s",
    ),
    (Case(TENSORFLOW, "CIFAR-100, first step", "start.first_step_of_cifar100"), "under 25 s"),
    (Case(TENSORFLOW, "folder, first step", "start.first_step_of_folder"), ""),
    (Case(TENSORFLOW, "a finished run, shown", "start.show_finished"), "under 3 s"),
    (Case(TENSORFLOW, "an absent data set, refused", "start.refuse_absent"), "under 10 s"),
)


def heats(quick: bool) -> list[Heat]:
    """All of them take turns; nothing else computes meanwhile, as their processes wait. Two turns are enough to see."""
    return [Heat("start", 1, tuple(case for case, _ in _CASES))]


def watched(results: Results) -> list[Line]:
    """Seconds of each."""
    wanted = {case.name: bound for case, bound in _CASES}
    known = [each for each in results.all if each.seconds]
    return [Line(f"start: {each.case.name}", each.spread, " s", wanted.get(each.case.name, "")) for each in known]


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row a command."""
    rows = [
        (each.case.name, text(each.spread), f"{each.first_seconds:.2f}")
        if each.seconds
        else (each.case.name, each.reason or "", "")
        for each in results.all
    ]
    return ("command", "seconds", "the first time, s"), rows


GROUP = Group("start", "Start", _NOTE, heats, table, watched)
