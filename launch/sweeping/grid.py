"""The grid of a sweep: what its gin file can bind, and the runs that a grid makes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.system import gin_files, gin_paths
from mnemonics_tf.system.gin_imports import Trusted

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The modules that gin files of a grid may import: no flag names further ones.
OF_GRIDS = Trusted(advice="put its file beside the gin file")

# What bindings may not set, and why.
_REFUSED = {
    "Protocol.num_phases": "set Grid.num_phases, which overrides it.",
    "Experiment.seed": "set Grid.seeds, which overrides it.",
    "Protocol.sizes": "it would overrule Grid.num_phases, and every N would be the same run. Leave it out.",
    "Protocol.classes": "it would overrule Grid.num_phases, and every N would be the same run. Leave it out.",
}


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One experiment of a grid, before it is run.

    Attributes:
      name: what the run's folder is called.
      num_phases: N, the phases after the first.
      arguments: --gin_file and --gin_param flags for `mnemonics_tf.main`, later ones overriding earlier ones.
    """

    name: str
    num_phases: int
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Methods x exemplars x N x seeds. Paths are relative to the grid's own folder, else to the project's root.

    Attributes:
      configs: gin files of every run, given after the method's.
      methods: names of configs/methods/<name>.gin, or paths of gin files of one's own.
      exemplars: from a name, which the run's folder gets, to gin files (what ends in .gin) and bindings of its own.
      num_phases: values of N.
      seeds: seeds of the training.
      bindings: gin bindings of every run, which those of the exemplars override.
    """

    configs: Sequence[str] = ()
    methods: Sequence[str] = ()
    exemplars: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    num_phases: Sequence[int] = ()
    seeds: Sequence[int] = ()
    bindings: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("configs", "methods", "num_phases", "seeds"):
            _check_list(f"Grid.{name}", getattr(self, name))
            if not getattr(self, name):
                raise checks.UsageError(f"Grid.{name} is empty: expected at least one.")
        for name in ("methods", "num_phases", "seeds"):
            _check_no_duplicates(f"Grid.{name}", getattr(self, name))
        known = sorted(path.stem for path in (ROOT / "configs/methods").glob("*.gin"))
        for method in self.methods:
            if not isinstance(method, str) or not _is_file(method):
                checks.check_choice("Grid.methods", method, known)
        for number in self.num_phases:
            checks.check_positive_integer(**{"Grid.num_phases": number})
        for seed in self.seeds:
            checks.check_non_negative_integer(**{"Grid.seeds": seed})
        _check_list("Grid.bindings", self.bindings)
        for binding in self.bindings:
            _check_binding("Grid.bindings", binding)
        _check_exemplars(self.exemplars)
        _check_no_duplicates("Grid.methods, by the names of their files,", [_name_of(each) for each in self.methods])

    def located(self, folder: str) -> Grid:
        """The same grid with whole paths of those files that are found beside its own.

        Args:
          folder: that of the grid's file.

        Raises:
          UsageError: a file is neither there nor in the project's root.
        """
        return dataclasses.replace(
            self,
            methods=[_located("Grid.methods", each, folder) if _is_file(each) else each for each in self.methods],
            configs=[_located("Grid.configs", each, folder) for each in self.configs],
            exemplars={
                name: [
                    _located(f"Grid.exemplars[{name!r}]", each, folder) if _is_file(each) else each for each in entries
                ]
                for name, entries in self.exemplars.items()
            },
        )

    def runs(self) -> list[PlannedRun]:
        """All runs, seed after seed, so that those of a sweep that was stopped can be compared."""
        return [
            self._run(seed, method, exemplars, number)
            for seed, method, exemplars, number in itertools.product(
                self.seeds, self.methods, self.exemplars, self.num_phases
            )
        ]

    def _run(self, seed: int, method: str, exemplars: str, num_phases: int) -> PlannedRun:
        variant = self.exemplars[exemplars]
        files = [
            method if _is_file(method) else f"configs/methods/{method}.gin",
            *self.configs,
            *(entry for entry in variant if _is_file(entry)),
        ]
        bindings = [
            *self.bindings,
            *(entry for entry in variant if not _is_file(entry)),
            f"Protocol.num_phases = {num_phases}",
            f"Experiment.seed = {seed}",
        ]
        return PlannedRun(
            f"{_name_of(method)}-{exemplars}-n{num_phases}-seed{seed}",
            num_phases,
            (*(f"--gin_file={path}" for path in files), *(f"--gin_param={binding}" for binding in bindings)),
        )


def file_of(argv: Sequence[str], given: str | None, example: str) -> str:
    """The path of the grid's file that a command line gives, with `~` expanded.

    Args:
      argv: the command line without its flags.
      given: the flag --grid.
      example: a grid that comes with the project.

    Raises:
      UsageError: there is no flag, or something that is none.
    """
    if len(argv) > 1:
        raise checks.UsageError(f"Unexpected argument {argv[1]!r}: everything is a flag; see --help.")
    if given is None:
        raise checks.UsageError(f"No --grid was given. Try --grid={example}.")
    return os.path.expanduser(given)


def read_grid(path: str) -> Grid:
    """Reads a grid's gin file. See `gin_paths` for where an `include` is looked for.

    Raises:
      UsageError: no such file, a syntax error, something that is not the grid's, or a value it cannot have.
    """
    if not os.path.isfile(path):
        raise checks.UsageError(f"--grid = {path}: {_why_no_file(path)}")
    known = {"Grid": Grid}
    gin_files.register(known)
    try:
        gin_files.parse([path], [], known, trusted=OF_GRIDS)
        return gin_files.build("Grid").located(os.path.dirname(path))
    except checks.UsageError as error:
        # gin adds to an exception's text where it was raised.
        raise checks.UsageError(f"--grid = {path}: {str(error).partition(chr(10))[0]}") from error
    finally:
        gin_files.forget()


def _name_of(method: str) -> str:
    """What the folders of a method's runs begin with."""
    return pathlib.PurePath(method).stem if _is_file(method) else method


def _is_file(entry: str) -> bool:
    return entry.endswith(".gin")


def _check_list(name: str, value: Any) -> None:
    # ("lucir") is a text, whose letters would be taken for methods.
    if not isinstance(value, tuple | list):
        raise checks.UsageError(f"{name} = {value!r}: expected a tuple, such as ({value!r},).")


def _check_no_duplicates(name: str, values: Sequence[Any]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise checks.UsageError(f"{name} has {value!r} twice: both would be the same run. Leave one out.")


def _check_exemplars(exemplars: Any) -> None:
    if not isinstance(exemplars, dict) or not exemplars:
        raise checks.UsageError(
            f"Grid.exemplars = {exemplars!r}: expected at least one name with its files and bindings, such as "
            "{'ours': ()}."
        )
    for name, entries in exemplars.items():
        # Without hyphens, folder names of different runs are different.
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise checks.UsageError(
                f"Grid.exemplars has the name {name!r}: expected letters, digits, '_' and '.', for a folder's name."
            )
        owner = f"Grid.exemplars[{name!r}]"
        _check_list(owner, entries)
        for entry in entries:
            if not isinstance(entry, str) or not _is_file(entry):
                _check_binding(owner, entry)


def _located(name: str, path: Any, folder: str) -> str:
    """Where a gin file is: a whole path if it lies beside the grid's file, else as given, seen from the project."""
    if not isinstance(path, str):
        raise checks.UsageError(f"{name} has {path!r}: expected the path of a gin file.")
    beside = os.path.abspath(os.path.join(folder, path))
    in_root = (ROOT / path).is_file()
    if os.path.isfile(beside) and not (in_root and os.path.samefile(beside, ROOT / path)):
        return beside
    if in_root:
        return path
    where = "" if os.path.isabs(path) else f" in {os.path.abspath(folder)}, nor in {ROOT}"
    raise checks.UsageError(f"{name} has {path!r}: {_why_no_file(str(ROOT / path), where)}")


def _why_no_file(path: str, where: str = "") -> str:
    """Why there is no gin file at a path, as sentences; `where` says in which folder it was looked for."""
    if os.path.isdir(path):
        return "that is a folder. Give a gin file."
    if os.path.lexists(path):
        return "that is no file, but a pipe, a device, or a link to nothing. Give a gin file."
    return f"there is no such file{where}.{gin_paths.nearest_file(path)}"


def _check_binding(name: str, binding: Any) -> None:
    # An import would run any module, as what stands on a command line may, and a stranger may have written the grid.
    if not isinstance(binding, str) or "\n" in binding or not re.match(r"\s*[\w./]+\s*=", binding):
        raise checks.UsageError(f"{name} has {binding!r}: expected a binding, such as 'ExemplarMemory.total = 2000'.")
    # gin also takes a name with the module in front.
    bound = ".".join(binding.partition("=")[0].strip().split(".")[-2:])
    if bound in _REFUSED:
        raise checks.UsageError(f"{name} has {binding!r}: {_REFUSED[bound]}")
