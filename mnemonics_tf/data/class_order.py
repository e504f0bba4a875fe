"""In which order classes arrive, and how many in each phase."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Sequence

import numpy as np

from mnemonics_tf import checks


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a data set's classes are dealt out to phases: evenly, in given numbers, or by name.

    Attributes:
      num_phases: N, the number of phases after the initial one. 5 by default, the shortest of the paper's settings (5,
        10 and 25, Section 7.1). 0 puts all classes into phase 0.
      initial_share: share of the classes in phase 0, in 0..1; 0 deals all classes evenly to N + 1 phases (known as B0).
        0.5 by default, as in Section 7.1: half of the classes come first.
      sizes: number of new classes of each phase, the initial one first, such as (50, 30, 20). They must add up to all
        classes, and take the place of `num_phases` and `initial_share`. None by default: those two decide.
      classes: the names (or the data set's ids) of the new classes of each phase, such as `(("cat", "dog"), ("cow",))`.
        The lists take the place of `num_phases`, `initial_share` and the shuffled order, and cannot be set together
        with `sizes`; classes in no list are left out of the run. Where every class has a number for its name, a whole
        number is that name; elsewhere it is an id. None by default, no lists: all classes, in the shuffled order.
      order_seed: seed of the class order, a whole number from 0 up to, but not including, 2^32; the seed of training is
        another setting, so that one can be varied without the other. None keeps the data set's own order. 1993 by
        default, the seed of the literature, which the paper follows.

    Raises:
      UsageError: a value is out of its range, or `sizes` and `classes` are both set.
    """

    num_phases: int = 5
    initial_share: float = 0.5
    sizes: tuple[int, ...] | None = None
    classes: tuple[tuple[str | int, ...], ...] | None = None
    order_seed: int | None = 1993

    def __post_init__(self):
        checks.check_non_negative_integer(**{"Protocol.num_phases": self.num_phases})
        if self.order_seed is not None:
            checks.check_legacy_seed(**{"Protocol.order_seed": self.order_seed})
        checks.check_share(**{"Protocol.initial_share": self.initial_share})
        if self.sizes is not None:
            self._check_sizes()
        if self.classes is not None:
            self._check_classes()

    def _check_sizes(self) -> None:
        if self.classes is not None:
            raise checks.UsageError(
                "Protocol.sizes and Protocol.classes are both set: the lists of classes say how many there are. Leave "
                "sizes out."
            )
        if not isinstance(self.sizes, tuple | list) or not self.sizes:
            raise checks.UsageError(f"Protocol.sizes = {self.sizes!r}: expected one number a phase, as (50, 30, 20).")
        for index, size in enumerate(self.sizes):
            checks.check_positive_integer(**{f"Protocol.sizes[{index}]": size})

    def _check_classes(self) -> None:
        lists = self.classes
        if not isinstance(lists, tuple | list) or not lists or not all(isinstance(x, tuple | list) for x in lists):
            raise checks.UsageError(
                f"Protocol.classes = {lists!r}: expected a list of class names for each phase, as "
                "(('cat', 'dog'), ('cow',))."
            )
        for index, names in enumerate(lists):
            if not names:
                raise checks.UsageError(f"Protocol.classes[{index}] is empty: expected at least one class a phase.")
            for name in names:
                if isinstance(name, bool) or not isinstance(name, str | int):
                    raise checks.UsageError(f"Protocol.classes[{index}] has {name!r}: expected a class name or id.")

    def class_order(self, class_names: Sequence[str]) -> np.ndarray:
        """Class ids in the order of their arrival, `[num_classes]` int64.

        Args:
          class_names: the name of each class id.

        Raises:
          UsageError: a list names an unknown class, or a class twice.
        """
        if self.classes is None:
            return class_order(len(class_names), self.order_seed)
        phase_of: dict[int, int] = {}
        for index, names in enumerate(self.classes):
            for name in names:
                class_id = _class_id(name, index, class_names)
                if class_id in phase_of:
                    raise checks.UsageError(
                        f"Protocol.classes: class {class_names[class_id]!r} is in phase {phase_of[class_id]} and again "
                        f"in phase {index}. A class arrives once: take one of them out."
                    )
                phase_of[class_id] = index
        return np.array(list(phase_of), np.int64)

    @property
    def has_later_phases(self) -> bool:
        """Whether phases follow the initial one."""
        lists = self.classes if self.classes is not None else self.sizes
        return self.num_phases > 0 if lists is None else len(lists) > 1

    def phase_sizes(self, num_classes: int) -> list[int]:
        """Number of new classes in each of the N + 1 phases.

        Args:
          num_classes: classes of the data set; lists in `classes` are taken as they are, whatever it is.

        Raises:
          UsageError: the classes cannot be dealt out so: `sizes` do not add up to them, `initial_share` of them is no
            whole number, or the rest cannot be dealt evenly.
        """
        if self.classes is not None:
            return [len(names) for names in self.classes]
        if self.sizes is not None:
            if sum(self.sizes) != num_classes:
                raise checks.UsageError(
                    f"Protocol.sizes = {self.sizes} are {sum(self.sizes)} classes, but the data set has {num_classes}. "
                    "Make them add up (Protocol.classes can leave classes out)."
                )
            return list(self.sizes)
        if self.num_phases == 0:
            return [num_classes]
        if self.initial_share == 0:
            return _even(num_classes, self.num_phases + 1, num_classes, num_initial=1)
        initial = num_classes * self.initial_share
        if not math.isclose(initial, round(initial)) or not 0 < round(initial) < num_classes:
            raise checks.UsageError(
                f"Protocol.initial_share = {self.initial_share} of {num_classes} classes is {initial:g}: expected a "
                f"whole number from 1 to {num_classes - 1}."
            )
        rest = num_classes - round(initial)
        return [round(initial), *_even(rest, self.num_phases, num_classes, num_initial=0)]


def _class_id(name: str | int, phase: int, class_names: Sequence[str]) -> int:
    """The id of a class that a list gives by name or id."""
    if isinstance(name, int):
        return _class_id_of_number(name, phase, class_names)
    known = [unicodedata.normalize("NFC", each) for each in class_names]  # accents are stored in two ways
    if unicodedata.normalize("NFC", name) not in known:
        hint = checks.nearest(name, class_names)
        raise checks.UsageError(f"Protocol.classes[{phase}] has {name!r}, which the data set does not know.{hint}")
    return known.index(unicodedata.normalize("NFC", name))


def _class_id_of_number(number: int, phase: int, class_names: Sequence[str]) -> int:
    """The id of a class that a list gives by a whole number.

    Where all classes have numbers for names (`1` to `12`, or `001`), users mean the name. Where some have, only they
    can tell.
    """
    where = f"Protocol.classes[{phase}] has {number}"
    named = [class_id for class_id, name in enumerate(class_names) if _number(name) == number]
    if all(_number(name) is not None for name in class_names):
        if not named:
            shown = ", ".join(map(repr, class_names[:5])) + ", ..." * (len(class_names) > 5)
            raise checks.UsageError(f"{where}: no class has that number for its name. There are {shown}")
        if len(named) > 1:
            both = " and ".join(repr(class_names[class_id]) for class_id in named)
            raise checks.UsageError(f"{where}: that may be any of the classes {both}. Put the name in quotes.")
        return named[0]
    if not 0 <= number < len(class_names):
        raise checks.UsageError(
            f"Protocol.classes[{phase}] has class id {number}: the data set has ids 0 to {len(class_names) - 1}."
        )
    if named and named != [number]:
        raise checks.UsageError(
            f"{where}: that may be the class {class_names[named[0]]!r} or the class id {number}, which is "
            f"{class_names[number]!r}. Put the name of the class in quotes."
        )
    return number


def _number(name: str) -> int | None:
    """The whole number that a class has for its name, or None."""
    return int(name) if name.isascii() and name.isdigit() else None


def index_of_id(class_order: np.ndarray, num_ids: int) -> np.ndarray:
    """The class index of each class id.

    Args:
      class_order: class ids in the order of their arrival, `[num_classes]`; each is below `num_ids`.
      num_ids: how many class ids the data set has.

    Returns:
      `[num_ids]` int64; -1 for classes that are not in the order.
    """
    indices = np.full(num_ids, -1, np.int64)
    indices[class_order] = np.arange(len(class_order))
    return indices


def class_order(num_classes: int, seed: int | None) -> np.ndarray:
    """The field's class order: `arange` shuffled by NumPy's legacy generator.

    Args:
      num_classes: number of classes to order.
      seed: the seed of the shuffling, 1993 in the literature; None for no shuffling.

    Returns:
      Class ids in the order of their arrival, `[num_classes]` int64. For 100 classes and seed 1993 they start 68, 56,
      78, 8, 23.
    """
    order = np.arange(num_classes)
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    return order.astype(np.int64)


def _even(count: int, parts: int, num_classes: int, num_initial: int) -> list[int]:
    """Deals `count` of the classes out to phases, of which `num_initial` are not counted by N."""
    if count % parts:
        fitting = [n - num_initial for n in range(1, count + 1) if count % n == 0]
        raise checks.UsageError(
            f"{count} of the {num_classes} classes cannot be dealt evenly to {parts} phases. Values of "
            f"Protocol.num_phases that divide them: {', '.join(map(str, fitting))} (see also Protocol.initial_share)."
        )
    return [count // parts] * parts
