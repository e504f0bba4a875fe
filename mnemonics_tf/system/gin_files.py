"""The one reader of gin files: strict, and with errors that say which binding, where, and what is expected.

What gin itself would let pass is refused: names that nothing reads, scopes, calls, circles. An `import` runs code, and
every function of the module can be called then. So a gin file imports modules of this package, such as lie beside it,
and those that the user has named, and no others; a binding of the command line may import any.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
from gin import config_parser

from mnemonics_tf import checks
from mnemonics_tf.system import files, gin_macros, gin_paths, gin_slips
from mnemonics_tf.system.gin_imports import Trusted

_MAX_DEPTH = 20  # of brackets in a value
_TOO_DEEP = "brackets are nested too deeply"
_CALLABLE = Callable[..., Any]
_BESIDE = Trusted()


@dataclasses.dataclass(frozen=True)
class _Source:
    """A text that is parsed, and where it comes from.

    Attributes:
      text: all lines, which end in a line feed.
      path: the file that holds it; empty for bindings of the command line.
      parents: the files that include this one, from the one that the user has named to the nearest.
    """

    text: str
    path: str = ""
    parents: tuple[str, ...] = ()

    def place(self, number: int) -> str:
        """Where a line is, in words for the end of an error."""
        if self.path:
            return f"(file {self.path}, line {number})"
        lines = self.text.split("\n")
        line = lines[min(number, len(lines)) - 1].strip()  # Python calls the end of a text a line, too
        return f"(in the binding {line if len(line) <= 80 else line[:77] + '...'})"


# What is registered under a name, by name with module: two modules may have a function of the same name.
_registered: dict[str, dict[str, _CALLABLE]] = {}


def register(configurables: Mapping[str, _CALLABLE]) -> None:
    """Makes classes and functions known to gin under their names; they themselves stay as they are.

    One that is registered already, by a decorator of gin's, is left as it is.
    """
    for name, made in configurables.items():
        _registered.setdefault(name, {})[f"{made.__module__}.{name}"] = made
        try:
            gin.get_configurable(made)
        except ValueError:
            gin.external_configurable(made, name)


def build(name: str) -> Any:
    """What the configurable of that name makes with what is bound to its parameters.

    Raises:
      UsageError: a value is not one that it can have.
    """
    return gin.get_configurable(name)()


def forget() -> None:
    """Forgets all that is bound."""
    gin.clear_config()


def parse(
    paths: Sequence[str],
    bindings: Sequence[str],
    known: Mapping[str, _CALLABLE],
    imported: Callable[[Any], Mapping[str, _CALLABLE]] | None = None,
    trusted: Trusted = _BESIDE,
) -> None:
    """Reads gin files and then single bindings, in which later ones win. Forgets what was bound before.

    Args:
      paths: gin files, as the user has named them.
      bindings: such as `Experiment.seed = 2`.
      known: all that can be bound or referred to, by name.
      imported: gets each module that a file imports; returns what can be bound and referred to then, too.
      trusted: the modules that may be imported. By default those beside the gin files, and none by name.

    Raises:
      UsageError: something cannot be read, or nothing would read it. At most three lines.
    """
    gin.clear_config()
    reader = _Reader(dict(known), imported, trusted)
    for path in paths:
        reader.read_file(path, gin_paths.find(path), ())
    text = "\n".join(bindings)
    if not text.isascii() and text.encode(errors="replace").decode() != text:
        raise checks.UsageError(f"--gin_param: expected text in UTF-8, found {_as_bytes(text)!r:.100}.")
    reader.read(_Source(text))
    reader.check_all()


class _References(gin.config.ParserDelegate):
    """Refuses references that cannot be meant."""

    def __init__(self, known: Mapping[str, _CALLABLE]):
        super().__init__()
        self._known = known

    def configurable_reference(self, scoped_selector: str, evaluate: bool) -> Any:
        *scopes, selector = scoped_selector.split("/")
        if scopes:
            raise _refused(f"'@{scoped_selector}': scopes are not used here. Expected '@{selector}'")
        name = selector.rpartition(".")[2]
        _matches(selector)
        if name not in self._known and (name in _registered or not _is_registered(selector)):
            raise _refused(f"Unknown name {selector!r}", checks.nearest(selector, self._known))
        if name not in self._known and selector.removeprefix("gin.") in ("macro", "constant", "singleton"):
            raise _refused(f"'@{selector}' is gin's own and not used here: expected a name of this package's")
        if evaluate and name in self._known:
            raise _refused(f"'@{scoped_selector}()' is a call: expected a reference, @{selector}, without parentheses")
        return super().configurable_reference(scoped_selector, evaluate)


class _RefusedError(Exception):
    """What is wrong, and how to mend it: the place comes between them."""

    def __init__(self, problem: str, mend: str = ""):
        super().__init__(problem)
        self.problem, self.mend = problem, mend


def _refused(problem: str, mend: str = "") -> _RefusedError:
    return _RefusedError(problem, mend)


class _Reader:
    """Parses text after text, and remembers what is bound.

    Args:
      known: what can be bound; grows with what files import.
      imported: tells by what.
      trusted: the modules that may be imported.
    """

    def __init__(
        self,
        known: dict[str, _CALLABLE],
        imported: Callable[[Any], Mapping[str, _CALLABLE]] | None,
        trusted: Trusted,
    ):
        self._known = known
        self._imported, self._trusted = imported, trusted
        self._num_files = 0
        self._bound: dict[gin_macros.Key, gin_macros.Bound] = {}

    def read_file(self, named: str, path: str, parents: tuple[str, ...]) -> None:
        """Parses a file and all that it includes.

        Args:
          named: what the user calls it.
          path: where it is.
          parents: the files that include it.
        """
        if not os.path.exists(path):
            raise checks.UsageError(f"--gin_file = {named}: there is no such file.{gin_paths.nearest_file(path)}")
        if os.path.isdir(path):
            raise checks.UsageError(f"--gin_file = {named}: there is no such file. It is a folder.")
        self._num_files += 1
        if len(parents) > gin_paths.MOST_NESTED or self._num_files > gin_paths.MOST_FILES:
            what = "nested too deeply" if len(parents) > gin_paths.MOST_NESTED else f"more than {gin_paths.MOST_FILES}"
            raise checks.UsageError(f"{path}: the files that are included are {what}. Write what they say in fewer.")
        try:
            text = gin_paths.read(path)
        except files.UnreadableError as error:
            raise checks.UsageError(f"{path} cannot be read: {error}.") from error
        self.read(_Source(text, path, parents))

    def read(self, source: _Source) -> None:
        """Parses a text and binds what it says."""
        try:
            parser = config_parser.ConfigParser(source.text, _References(self._known))
            for statement in parser:
                self._apply(statement, source)
        except checks.UsageError:
            raise
        except _RefusedError as error:
            told = re.search(r"line (\d+)", str(error).removeprefix(error.problem))  # gin adds it to the text
            raise _usage(error, source.place(int(told.group(1)) if told else 1)) from error
        except RecursionError as error:
            opening = [len(re.findall(r"[(\[{]", line)) for line in source.text.split("\n")]
            place = source.place(opening.index(max(opening)) + 1)
            raise checks.UsageError(f"The configuration cannot be read: {_TOO_DEEP} {place}.") from error
        except Exception as error:
            problem, number = gin_slips.explain(error, source.text, self._known)
            raise checks.UsageError(f"The configuration cannot be read: {problem} {source.place(number)}.") from error

    def check_all(self) -> None:
        """Refuses what gin accepts and nothing would read, or nothing could. See `gin_macros.check`."""
        gin_macros.check(self._bound, {name: _parameters(made) for name, made in self._known.items()})

    def _apply(self, statement: Any, source: _Source) -> None:
        place = source.place(statement.location.line_num)
        try:
            if isinstance(statement, config_parser.BindingStatement):
                self._bind(statement, place)
            elif isinstance(statement, config_parser.IncludeStatement):
                self._include(statement.filename, source)
            elif isinstance(statement, config_parser.ImportStatement):
                self._import(statement, source)
            else:
                self._check_owner(statement.scope, statement.selector, "")
        except _RefusedError as error:
            raise _usage(error, place) from error

    def _bind(self, statement: Any, place: str) -> None:
        scope, selector, parameter = statement.scope, statement.selector, statement.arg_name
        name = selector.rpartition(".")[2]
        _check_value(f"{name}.{parameter}" if parameter else name, statement.value)
        if parameter:
            self._check_owner(scope, selector, parameter)
            gin.bind_parameter((scope, selector, parameter), statement.value)
            name = next(iter(_matches(selector)), name)
        else:
            name = f"{scope}/{selector}" if scope else selector
            gin.bind_parameter((name, "gin.macro", "value"), statement.value)
        self._bound[name, parameter] = gin_macros.Bound(statement.value, place)

    def _check_owner(self, scope: str, selector: str, parameter: str) -> None:
        name = selector.rpartition(".")[2]
        if scope:
            raise _refused(f"Binding of '{scope}/{name}': scopes are not used here. Bind {name!r} itself")
        if name not in self._known:
            if name in _registered or not _is_registered(selector) or selector.startswith("gin."):
                raise _refused(f"Unknown name {selector!r}", checks.nearest(selector, self._known))
            return
        matches = _matches(selector)
        if not _is_registered(selector):
            raise _refused(f"Unknown name {selector!r}", f" Expected {name!r} alone.")
        parameters = _parameters(next(iter(matches.values()), self._known[name]))
        if parameter and parameter not in parameters:
            raise _refused(
                f"{name} has no parameter {parameter!r}",
                f"{checks.nearest(parameter, parameters)} It has: {', '.join(parameters)}.",
            )

    def _include(self, name: str, source: _Source) -> None:
        above = (*source.parents, source.path)
        found = gin_paths.find_include(name, source.path, source.parents)
        if found is None:
            wanted = os.path.expanduser(name)
            beside = os.path.join(os.path.dirname(source.path), wanted)
            folder = next((each for each in (beside, wanted) if os.path.isdir(each)), None)
            problem = "that is a folder" if folder else "there is no such file"
            raise _refused(f"include {name!r}: {problem}", "" if folder else gin_paths.nearest_file(beside))
        reals = [os.path.realpath(each) for each in above if each]
        if os.path.realpath(found) in reals:
            circle = [*above[reals.index(os.path.realpath(found)) :], found]
            raise _refused(f"include {name!r}: files include one another: {' -> '.join(map(os.path.basename, circle))}")
        self.read_file(name, found, above if source.path else ())

    def _import(self, statement: Any, source: _Source) -> None:
        if statement.module.partition(".")[0] == "__gin__":
            raise _refused(f"'{statement.format()}': it would let a configuration call any function, and is refused")
        above = (source.path, *source.parents[:1]) if self._trusted.beside else ()
        folder = gin_paths.make_importable(statement.module, above)
        # What stands on the command line the user has written.
        named = not source.path or self._trusted.names(statement.module)
        if folder is None and self._trusted.named_by_user(statement.module):
            # `python -m` looks there by itself, and the command `mnemonics-tf` does not.
            gin_paths.make_importable(statement.module, [os.path.join(os.getcwd(), "any.gin")])
        if folder is None and not named:
            where = "beside the gin file" if self._trusted.beside else "among the modules that were named"
            raise _refused(
                f"'{statement.format()}': an import runs code, and this module does not lie {where}",
                f" If you trust the configuration to use it: {self._trusted.advice.format(statement.module)}.",
            )
        try:
            gin.parse_config(statement.format())
        except Exception as error:
            first = str(error).strip().partition("\n")[0].rstrip(".")
            missing = first == f"No module named '{statement.module}'"
            place = "beside the gin file" if self._trusted.beside else "in the folder in which you work"
            mend = f" Put {statement.module.replace('.', '/')}.py {place}, or install it." if missing else ""
            raise _refused(f"'{statement.format()}' failed: {first}", mend) from error
        if folder is not None and not named and not gin_paths.lies_in(statement.module, folder):
            raise _refused(f"'{statement.format()}': Python has another module of that name", " Call yours otherwise.")
        if self._imported is not None:
            found = self._imported(sys.modules[statement.module]) if statement.module in sys.modules else {}
            register(found)
            self._known.update(found)


def _usage(error: _RefusedError, place: str) -> checks.UsageError:
    return checks.UsageError(f"{error.problem} {place}.{error.mend}")


def _as_bytes(text: str) -> bytes:
    """A text that is no UTF-8, as it came from the command line, or with what cannot have come from there escaped."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")


def _matches(selector: str) -> dict[str, _CALLABLE]:
    """What was registered here and goes by a name, with or without its module: at most one. Refuses what may be two."""
    registered = _registered.get(selector.rpartition(".")[2], {})
    found = {full: made for full, made in registered.items() if f".{full}".endswith(f".{selector}")}
    if len(found) > 1:
        modules = " and ".join(full.rpartition(".")[0] for full in found)
        names = " or ".join(repr(full) for full in found)
        raise _refused(f"The name {selector!r} is ambiguous, as it is in {modules}", f" Write {names}.")
    return found


def _is_registered(selector: str) -> bool:
    try:
        gin.get_configurable(selector)
    except ValueError:
        return False
    return True


def _parameters(made: _CALLABLE) -> list[str]:
    return [name for name in inspect.signature(made).parameters if name != "self"]


def _check_value(name: str, value: Any, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise _refused(f"{name}: {_TOO_DEEP}")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise _refused(f"{name}: the number is too large")
    if isinstance(value, gin.config.ConfigurableReference) and value.scopes == ["gin.REQUIRED"]:
        raise _refused(f"{name} has no value yet: set it after this file, or by --gin_param")
    for each in gin_macros.inner(value):
        _check_value(name, each, depth + 1)
