"""Macros of gin: which bindings use them, and whether all of it has an end.

A macro may use others. A few lines of a stranger's file could so stand for any number of values, or for none at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import gin

from mnemonics_tf import checks

_MOST_NESTED = 20  # macros that use one another
_MOST_VALUES = 100_000  # of a binding, once all macros stand for what they are

# Of both kinds of bindings: a parameter of a configurable, or a macro, whose parameter is empty.
Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Bound:
    """A value that is bound, and the place that says so, in words."""

    value: Any
    place: str


def check(bound: Mapping[Key, Bound], known: Mapping[str, list[str]]) -> None:
    """Refuses macros that no binding uses, that nothing defines, or that use one another in a circle or too deeply, and
    bindings of too many values.

    Args:
      bound: all that is bound.
      known: what can be bound, by name: its parameters.

    Raises:
      UsageError: there is such a macro or binding.
    """
    macros = {name for name, parameter in bound if not parameter}
    used = {key: set(_macros(each.value)) for key, each in bound.items()}
    for name in sorted(macros - set().union(*used.values())):
        owners = [owner for owner, parameters in known.items() if name in parameters]
        hint = f" Did you mean '{owners[0]}.{name}'?" if owners else checks.nearest(name, known)
        raise checks.UsageError(
            f"Unknown name {name!r}: a binding is written 'Owner.parameter = value' {bound[name, ''].place}.{hint}"
        )
    for key, names in used.items():
        for name in sorted(names - macros):
            raise checks.UsageError(
                f"Unknown macro '%{name}': nothing defines it {bound[key].place}.{checks.nearest(name, macros)}"
            )
    sizes: dict[Key, int] = {}
    for name in sorted(macros):
        _measure(name, bound, used, sizes, ())
    for (owner, parameter), each in bound.items():
        if _size(each.value, sizes) > _MOST_VALUES:
            name = ".".join(filter(None, (owner.rpartition(".")[2], parameter)))
            raise checks.UsageError(f"{name} has more than {_MOST_VALUES:,} values {each.place}. Give fewer.")


def inner(value: Any) -> list[Any]:
    """What a value holds: keys and values of a dictionary, entries of a list or tuple."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple) else []


def _measure(
    name: str,
    bound: Mapping[Key, Bound],
    used: Mapping[Key, set[str]],
    sizes: dict[Key, int],
    above: tuple[str, ...],
) -> None:
    """Notes how many values a macro stands for. Each macro is looked at once, however many use it."""
    place = bound[name, ""].place
    if name in above:
        circle = " -> ".join(f"%{each}" for each in (*above[above.index(name) :], name))
        raise checks.UsageError(f"The macros {circle} refer to one another {place}.")
    if (name, "") in sizes:
        return
    if len(above) == _MOST_NESTED:
        raise checks.UsageError(
            f"The macros {' -> '.join(f'%{each}' for each in above[:3])} -> ... use one another more than "
            f"{_MOST_NESTED} deep {place}. Write the value itself."
        )
    for other in sorted(used[name, ""]):
        _measure(other, bound, used, sizes, (*above, name))
    sizes[name, ""] = _size(bound[name, ""].value, sizes)


def _size(value: Any, sizes: Mapping[Key, int]) -> int:
    """How many values there are in one, itself included, with macros as what they stand for."""
    name = _macro(value)
    if name is not None:
        return sizes[name, ""]
    return 1 + sum(_size(each, sizes) for each in inner(value))


def _macros(value: Any) -> Iterator[str]:
    """Names of the macros that a value refers to."""
    name = _macro(value)
    if name is not None:
        yield name
    for each in inner(value):
        yield from _macros(each)


def _macro(value: Any) -> str | None:
    """The name of the macro that a value is; None for one that is none."""
    is_macro = isinstance(value, gin.config.ConfigurableReference) and value.selector == "gin.macro"
    return "/".join(value.scopes) if is_macro else None
