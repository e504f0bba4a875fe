"""What can be measured: cases, heats in which cases take turns, and groups that `--only` names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.measured import Line, Results

PYTORCH = "PyTorch"
TENSORFLOW = "TensorFlow"

MINUTE = 60.0


@dataclasses.dataclass(frozen=True)
class Case:
    """A piece of work that a process of its own does.

    Attributes:
      framework: `TENSORFLOW` or `PYTORCH`: whose interpreter does it.
      name: in the tables.
      work: `module.function` in the folder `in_tensorflow` or `in_pytorch`.
      settings: arguments of the function.
      repeats: how often a turn after the first does the work; short work needs more than one for a steady time.
      images: how many images the work looks at; None where nothing is counted by images.
      operations: floating-point additions and multiplications that the work cannot do without; None if that was not
        counted.
      passes: forward-and-backward passes of an inner batch that a meta-step cannot do without; None for other work.
      grows: memory grows with T, so it is predicted before the case is run.
      first_limit: seconds after which the first turn, which traces, is given up.
    """

    framework: str
    name: str
    work: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeats: int = 1
    images: int | None = None
    operations: float | None = None
    passes: int | None = None
    grows: bool = False
    first_limit: float = 30 * MINUTE


@dataclasses.dataclass(frozen=True)
class Heat:
    """Cases that take turns, A B C, A B C, ..., so that what else the machine does falls on all of them alike.

    Attributes:
      title: for the screen and in tables; different from those of the group's other heats.
      rounds: turns of each case after the first one.
      cases: in their order.
      inner_steps: T of its meta-steps; None for other work.
      batch_norm: of its meta-steps.
    """

    title: str
    rounds: int
    cases: tuple[Case, ...]
    inner_steps: int | None = None
    batch_norm: str = "frozen"


@dataclasses.dataclass(frozen=True)
class Group:
    """Heats that are measured together, and what is told of them.

    Attributes:
      name: for `--only`.
      title: of its part of the tables.
      note: Markdown above its table: what the work is.
      heats: those to be run; its argument is whether a few of them with fewer rounds are enough.
      table: columns and rows, made of this group's measurements.
      watched: the lines of its measurements that stand among the ratios.
      failures: what is wrong with its results, though every case has ended well.
    """

    name: str
    title: str
    note: str
    heats: Callable[[bool], list[Heat]]
    table: Callable[[Results], tuple[tuple[str, ...], list[tuple[str, ...]]]]
    watched: Callable[[Results], list[Line]]
    failures: Callable[[Results], list[str]] = lambda results: []
