"""Base methods, one file each: the losses by which a network learns new classes beside exemplars of the old ones."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from mnemonics_tf import checks
from mnemonics_tf.methods.base import Method


def defined_in(modules: Sequence[str]) -> type[Method] | None:
    """The last method that modules outside of this package define, which are imported; None if they define none.

    Raises:
      UsageError: a module cannot be imported.
    """
    found = None
    for name in modules:
        try:
            members = vars(importlib.import_module(name)).values()
        except ImportError as error:
            raise checks.UsageError(f"The module {name!r} cannot be imported: {error}.") from error
        own = [each for each in members if isinstance(each, type) and issubclass(each, Method)]
        found = next((each for each in reversed(own) if each.__module__ == name and "name" in vars(each)), found)
    return found


def check_own_name(method: type[Method]) -> None:
    """Raises UsageError for a method without a name, or with that of another one that is in this package."""
    name = getattr(method, "name", None)
    if not isinstance(name, str) or not name:
        raise checks.UsageError(
            f"{method.__name__} has no name: set the class attribute `name` to the one it is called by."
        )
    if available().get(name, method) is not method:
        raise checks.UsageError(
            f"{method.__name__} is called {name!r}, as a method of this package is, which would be used in its place. "
            "Set the class attribute `name` to another one."
        )


def available() -> dict[str, type[Method]]:
    """The methods of this package by name: every subclass of `Method` in its files that has one."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found: dict[str, type[Method]] = {}
    pending = [Method]
    while pending:
        method = pending.pop()
        pending.extend(method.__subclasses__())
        if "name" in vars(method) and method.__module__.startswith(f"{__name__}."):
            found[method.name] = method
    return dict(sorted(found.items()))
