"""Where gin files are, what text they hold, and which files they include.

An included file is looked for beside the file that includes it, beside the file that the user has named, in the working
folder, and last among the package's own configurations.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gin import config_parser

import mnemonics_tf
from mnemonics_tf import checks
from mnemonics_tf.system import files

MOST_FILES = 100  # that a configuration consists of
MOST_NESTED = 20  # files that include one another
_MAX_BYTES = 2**20  # of a gin file
_SHIPPED = "configs"  # folder of the package's own configurations, and how users begin their paths


def find(path: str) -> str:
    """The path of a gin file that the user has named: as it is, or among the package's own configurations."""
    path = os.path.expanduser(path)
    return path if os.path.exists(path) else _shipped(path) or path


def find_include(name: str, path: str, parents: Sequence[str], working: str = "") -> str | None:
    """Where an included file is; None if it is nowhere.

    Args:
      name: what stands in the `include`.
      path: the file that includes it; empty for a binding of the command line.
      parents: the files that include that one, from the one that the user has named to the nearest.
      working: the folder in which the configuration is parsed; empty for the present one.
    """
    name = os.path.expanduser(name)
    folders = [*(os.path.dirname(each) for each in (path, *parents[:1])), working]
    candidates = [os.path.join(folder, name) for folder in folders]
    return next((found for found in candidates if os.path.isfile(found)), None) or _shipped(name)


def read(path: str) -> str:
    """The text of a gin file, as editors of all systems save it. Raises UnreadableError if it has none."""
    content = files.read_bytes(path, _MAX_BYTES)
    try:
        text = content.decode("utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        found = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "something else"
        raise files.UnreadableError(f"expected text in UTF-8, found {found}. Save it as UTF-8")
    return re.sub(r"\r\n?", "\n", text)


class GinFile(NamedTuple):
    """What a gin file says, up to the first line that gin cannot parse.

    Attributes:
      text: all of it.
      includes: files, as they stand there.
      modules: files of the modules that it imports, by name: those that lie beside it or the first file.
    """

    text: str
    includes: tuple[str, ...]
    modules: dict[str, str]


def walk(path: str, working: str = "") -> Iterator[GinFile]:
    """A gin file and then all that it includes, as far as they can be read; of too many the first.

    Args:
      path: the gin file to begin with.
      working: the folder in which it will be parsed; empty for the present one.
    """
    return itertools.islice(_walk(path, (), working), MOST_FILES)


def _walk(path: str, parents: tuple[str, ...], working: str) -> Iterator[GinFile]:
    try:
        text = read(path)
    except files.UnreadableError:
        return
    above = (*parents, path)
    file = _gin_file(text, (path, above[0]))
    yield file
    for name in file.includes:
        found = find_include(name, path, parents, working)
        # Two that include each other would never end.
        if (
            found is not None
            and len(above) <= MOST_NESTED
            and os.path.realpath(found) not in map(os.path.realpath, above)
        ):
            yield from _walk(found, above, working)


def _gin_file(text: str, paths: Sequence[str]) -> GinFile:
    includes: list[str] = []
    modules: dict[str, str] = {}
    # Errors are of many kinds; who parses the text in earnest will say what is wrong.
    with contextlib.suppress(Exception):
        for statement in config_parser.ConfigParser(text, _Names()):
            if isinstance(statement, config_parser.IncludeStatement):
                includes.append(statement.filename)
            elif isinstance(statement, config_parser.ImportStatement):
                file = _file_beside(statement.module, paths)
                modules |= {} if file is None else {statement.module: file}
    return GinFile(text, tuple(includes), modules)


def _file_beside(module: str, paths: Sequence[str]) -> str | None:
    """The file of a module that lies beside the first of some files beside which it does; None if it lies nowhere."""
    places = (os.path.join(os.path.dirname(os.path.abspath(path)), *module.split(".")) for path in paths)
    candidates = (each for place in places for each in (f"{place}.py", os.path.join(place, "__init__.py")))
    return next(filter(os.path.isfile, candidates), None)


class _Names(config_parser.ParserDelegate):
    """Takes references for their names, and looks nothing up."""

    def configurable_reference(self, scoped_selector: str, evaluate: bool) -> str:
        return scoped_selector

    def macro(self, name: str) -> str:
        return name


def nearest_file(path: str) -> str:
    """A sentence with the file whose name is most like that of `path`, in its folder; empty if there is none."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return ""
    return checks.nearest(os.path.basename(path), os.listdir(folder))


def make_importable(module: str, paths: Sequence[str]) -> str | None:
    """Lets Python find a module that lies beside one of some gin files, from now on; others are found as ever.

    Args:
      module: what stands in the `import`, such as `mine` or `mine.methods`.
      paths: of the file with the `import` and the one that the user has named; empty for the command line.

    Returns:
      The folder that it lies in; None if it lies beside none of them.
    """
    first = module.partition(".")[0]
    for folder in (os.path.dirname(os.path.abspath(path)) for path in paths if path):
        place = os.path.join(folder, first)
        if os.path.isfile(f"{place}.py") or os.path.isfile(os.path.join(place, "__init__.py")):
            if folder not in sys.path:
                sys.path.insert(0, folder)
            return folder
    return None


def lies_in(module: str, folder: str) -> bool:
    """Whether a module that is imported by now, or the package that it is in, came from a folder."""
    found = getattr(sys.modules.get(module.partition(".")[0]), "__file__", None) or ""
    # A package's file is that of its __init__.
    places = (os.path.dirname(found), os.path.dirname(os.path.dirname(found)))
    return os.path.realpath(folder) in map(os.path.realpath, places)


def _shipped(name: str) -> str | None:
    """The package's own configuration of that name, such as `configs/lucir_digits.gin`; None if there is none."""
    parts = os.path.normpath(name).split(os.sep)
    if os.path.isabs(name) or parts[0] == os.pardir:
        return None
    inside = os.path.join(*(parts[1:] if parts[0] == _SHIPPED else parts), "")[:-1]
    package = os.path.dirname(os.path.abspath(mnemonics_tf.__file__))
    # Within an installed package, or beside it where it is developed.
    for folder in (package, os.path.dirname(package)):
        shipped = os.path.join(folder, _SHIPPED)
        if os.path.isfile(os.path.join(shipped, "base_method.gin")):
            path = os.path.join(shipped, inside)
            return path if os.path.isfile(path) else None
    return None
