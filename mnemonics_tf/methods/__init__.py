"""Base methods, one file each: the losses by which a network learns new classes beside exemplars of the old ones."""

from __future__ import annotations

import importlib
import pkgutil

from mnemonics_tf.methods.base import Method


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
