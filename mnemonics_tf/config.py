"""What can be configured by gin, under which names, and the resolved configuration as text.

The classes and functions know nothing of gin: called in Python, they take what they are given. `build` makes them with
what a configuration binds.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import gin

from mnemonics_tf import checks, methods
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.folder import Folder
from mnemonics_tf.data.sources import TFDS, Digits
from mnemonics_tf.data.types import Dataset
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.objective_settings import Matching, NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run.configuration import Configuration, ExperimentSettings
from mnemonics_tf.system import files, gin_files, gin_imports
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_SOURCES = {"digits": Digits, "folder": Folder, "tfds": TFDS}

# Every name that a configuration can bind, with what it configures. Methods are found by themselves.
CONFIGURABLES: dict[str, Callable[..., Any]] = {
    "BalancedFinetune": BalancedFinetune,
    "Devices": Devices,
    "Experiment": ExperimentSettings,
    "ExemplarLevel": ExemplarLevel,
    "ExemplarMemory": Memory,
    "Matching": Matching,
    "ModelLevel": ModelLevel,
    "NextPhase": NextPhase,
    "Probe": Probe,
    "Protocol": Protocol,
    "Rehearsal": Rehearsal,
    "ResNet": ResNet,
    **_SOURCES,
    **methods.available(),
}

gin_files.register(CONFIGURABLES)

_BESIDE = gin_imports.Trusted()


def parse(paths: Sequence[str], bindings: Sequence[str], trusted: gin_imports.Trusted = _BESIDE) -> None:
    """Reads configuration files and then single bindings, in which later ones win. Forgets what was bound before.

    Args:
      paths: gin files; `configs/lucir_digits.gin` and the like are found from any folder. See `gin_files` for includes.
      bindings: such as `Experiment.seed = 2`.
      trusted: the modules that the files may import. By default such as lie beside them.

    Raises:
      UsageError: no such file, a syntax error, or an unknown name (the nearest one is named).
    """
    gin_files.parse(paths, bindings, CONFIGURABLES, _own_of, trusted)


def build(name: str) -> Any:
    """What the entry of that name in `CONFIGURABLES` makes with what is bound to its parameters.

    Raises:
      UsageError: a value is not one that it can have.
    """
    return gin_files.build(name)


def resolved() -> Configuration:
    """All that is bound, as settings.

    Raises:
      UsageError: a value is not one that it can have.
    """
    experiment: ExperimentSettings = build("Experiment")
    with _explaining("network", experiment.network):
        network = experiment.build_network()
    with _explaining("dataset", experiment.dataset):
        source = experiment.build_source()
        parts = ("horizontal_flip", "known_shape")  # either may be a property, which can fail
        missing = [each for each in parts if source is not None and not hasattr(source, each)]
    with _explaining("method", experiment.method):
        method = experiment.build_method()
    if missing:
        raise checks.UsageError(
            f"Experiment.dataset = @{type(source).__name__} has no {' and no '.join(missing)}: expected a function "
            "that returns a Dataset, or a class with horizontal_flip, known_shape and load()."
        )

    def load_dataset() -> Dataset:
        with _explaining("dataset", experiment.dataset):
            return experiment.load_dataset()

    settings = Settings(
        method=method,
        network=network or build("ResNet"),
        memory=build("ExemplarMemory"),
        model_level=build("ModelLevel"),
        rehearsal=build("Rehearsal"),
        exemplar_level=build("ExemplarLevel"),
        next_phase=build("NextPhase"),
        matching=build("Matching"),
        finetuning=build("BalancedFinetune"),
        probe=build("Probe"),
        head=experiment.head,
        classifier=experiment.classifier,
        seed=experiment.seed,
        deterministic=experiment.deterministic,
    )
    return Configuration(
        settings,
        build("Protocol"),
        build("Devices"),
        source,
        load_dataset,
        text,
        experiment.snapshot_seconds,
    )


def check_read(bindings: Sequence[str]) -> None:
    """Makes sure that single bindings are read: that of a data source, and that of the budget a class.

    What files bind may be made for several of them.

    Args:
      bindings: as `parse` got them.

    Raises:
      UsageError: one binds a source that `Experiment.dataset` does not name, or a budget where another one decides.
    """
    chosen = getattr(gin.query_parameter("Experiment.dataset"), "selector", "")
    for binding in bindings:
        name = binding.partition(".")[0].strip()
        if name in _SOURCES and name != chosen.rpartition(".")[2]:
            raise checks.UsageError(
                f"--gin_param={binding}: nothing reads it, as Experiment.dataset = @{chosen}. Set Experiment.dataset = "
                f"@{name}, or leave it out."
            )
    by_name = {binding.partition("=")[0].strip(): binding for binding in bindings}
    if "ExemplarMemory.per_class" in by_name:
        _check_per_class(by_name)


def _check_per_class(bindings: Mapping[str, str]) -> None:
    """Raises UsageError for a single binding of the budget a class where a file has set another one, which decides."""
    binding = bindings["ExemplarMemory.per_class"]
    for other in ("total", "bytes_per_class", "total_bytes"):
        name = f"ExemplarMemory.{other}"
        if name in bindings:
            continue
        try:
            value = gin.query_parameter(name)
        except ValueError:  # not bound
            continue
        if value is not None:
            raise checks.UsageError(
                f"--gin_param={binding}: nothing reads it, as {name} = {value}. Set {name} = None as well, or leave it "
                "out."
            )


@contextlib.contextmanager
def _explaining(name: str, made_by: Any) -> Iterator[None]:
    """Turns what a function or class of the user's own raises inside into a UsageError of one line, with the place."""
    try:
        yield
    except Exception as error:
        own = inspect.unwrap(made_by)
        package = __name__.partition(".")[0]
        is_ours = getattr(own, "__module__", package).partition(".")[0] == package
        if is_ours or isinstance(error, checks.UsageError) or files.why_unwritable(error) is not None:
            raise
        # gin adds lines to an exception's text.
        problem = str(error).strip().partition("\n")[0].rstrip(".") or "no reason is given"
        place = inspect.getsourcefile(own)
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == place]
        line = lines[-1] if lines else inspect.getsourcelines(own)[1]
        raise checks.UsageError(
            f"Experiment.{name} = @{own.__name__} failed: {problem} "
            f"({type(error).__name__}, file {place}, line {line}). --verbosity=0 shows the whole traceback."
        ) from error


def text() -> str:
    """Every value that was used so far, defaults included, as gin text. gin notes what is built, data sources too."""
    return gin.operative_config_str()


def _own_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """What a module outside the package that a configuration has imported offers, by name.

    These are its methods and, of what is written in it, functions (networks, sources of data) and classes with `load`
    (sources of data).

    Raises:
      UsageError: something in it has a name of this package's, and would be taken for that.
    """
    found: dict[str, Callable[..., Any]] = {}
    if module.__name__.partition(".")[0] == __name__.partition(".")[0]:
        return found  # what a configuration can use of this package is listed above
    for name, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, methods.Method):
            if "name" in vars(value):
                found[value.name] = value
            elif value.__module__ == module.__name__ and hasattr(value, "name") and not name.startswith("_"):
                methods.check_own_name(value)
        elif getattr(value, "__module__", None) != module.__name__ or name.startswith("_"):
            continue
        elif inspect.isfunction(value) or (isinstance(value, type) and hasattr(value, "load")):
            found[name] = value
    for name, value in found.items():
        if name in CONFIGURABLES and value.__module__ == module.__name__:
            raise checks.UsageError(
                f"{module.__name__}.{value.__name__} is called {name!r}, as something of this package is, which would "
                "be used in its place. Give it another name."
            )
    return {name: value for name, value in found.items() if name not in CONFIGURABLES}
