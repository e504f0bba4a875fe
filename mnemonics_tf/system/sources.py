"""Which of the package's own modules a module is made of, by its imports, and what is in them, in a few characters."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable

import mnemonics_tf
from mnemonics_tf.system import complete, gin_imports

_PACKAGE = mnemonics_tf.__name__
_ROOT = os.path.dirname(os.path.abspath(mnemonics_tf.__file__))


def checksum(modules: Iterable[str]) -> str:
    """Of the sources of modules of this package and of all that they import of it, directly or not."""
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        digest.update(f"{name}\n".encode())
        digest.update(_source(name))
    return digest.hexdigest()


@functools.cache
def checksum_of_all() -> str:
    """Of the sources of all modules of this package."""
    digest = hashlib.sha256()
    for folder, subfolders, names in os.walk(_ROOT):
        subfolders.sort()
        for name in sorted(name for name in names if name.endswith(".py")):
            path = os.path.join(folder, name)
            digest.update(f"{os.path.relpath(path, _ROOT)}\n".encode())
            with open(path, "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


def checksum_with(own: str) -> str:
    """Of the sources of this package, and of modules outside of it that a configuration imports: see `imported`."""
    return hashlib.sha256(f"{checksum_of_all()}{own}".encode()).hexdigest() if own else checksum_of_all()


def imported(configuration: str) -> str:
    """Checksums of the modules outside of this package that a resolved configuration imports; empty without any.

    Args:
      configuration: gin text, whose modules are imported already.
    """
    found = []
    for name in re.findall(r"^(?:import|from) ([\w.]+)", configuration, re.MULTILINE):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None and not gin_imports.Trusted().names(name):
            found.append(f"\n{name} {complete.checksum_or_none(path)}")
    return "".join(sorted(found))


def closure(modules: Iterable[str]) -> set[str]:
    """Modules of this package and all that they import of it, directly or not, wherever in their text they do so."""
    found: set[str] = set()
    pending = set(modules)
    while pending:
        name = pending.pop()
        found.add(name)
        pending |= set(_imports(name)) - found
    return found


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    names = set()
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # Either may be a module: `from package import module`, `from module import name`.
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    # The package itself holds its version alone.
    return tuple(sorted(name for name in names if name.startswith(f"{_PACKAGE}.") and _path(name)))


@functools.cache
def _source(module: str) -> bytes:
    path = _path(module)
    if path is None:
        raise ValueError(f"{module}: there is no such module in {_ROOT}.")
    with open(path, "rb") as file:
        return file.read()


def _path(module: str) -> str | None:
    place = os.path.join(_ROOT, *module.split(".")[1:])
    candidates = (f"{place}.py", os.path.join(place, "__init__.py"))
    return next((path for path in candidates if os.path.isfile(path)), None)
