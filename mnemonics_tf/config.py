"""Configuration by gin: strict parsing, helpful errors, and the resolved configuration as text."""

from __future__ import annotations

import inspect
import os
import re
import tokenize
from collections.abc import Callable, Sequence
from typing import Any

import gin

from mnemonics_tf import checks, methods
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.folder import folder
from mnemonics_tf.data.sources import digits, tfds_source
from mnemonics_tf.evaluation.probe import Probe
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run.configuration import Configuration, ExperimentSettings
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.training.balanced_finetune import BalancedFinetune
from mnemonics_tf.training.model_level import ModelLevel

# Every name that a configuration can bind, with what it configures. Methods are found by themselves.
CONFIGURABLES: dict[str, Callable[..., Any]] = {
    "BalancedFinetune": BalancedFinetune,
    "Devices": Devices,
    "Experiment": ExperimentSettings,
    "ExemplarLevel": ExemplarLevel,
    "ExemplarMemory": Memory,
    "ModelLevel": ModelLevel,
    "Probe": Probe,
    "Protocol": Protocol,
    "ResNet": ResNet,
    "digits": digits,
    "folder": folder,
    "tfds": tfds_source,
    **methods.available(),
}


_PARSE_ERRORS = (
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    SyntaxError,
    RuntimeError,
    tokenize.TokenError,
)


def parse(gin_files: Sequence[str], bindings: Sequence[str]) -> None:
    """Reads configuration files and then single bindings, in which later ones win. Forgets what was bound before.

    An `include` is looked for beside the file that was given, and then from the working directory.

    Args:
      gin_files: paths.
      bindings: such as `Experiment.seed = 2`.

    Raises:
      UsageError: no such file, a syntax error, or an unknown name (the nearest one is named).
    """
    gin.clear_config()
    for path in gin_files:
        if not os.path.isfile(path):
            raise checks.UsageError(f"--gin_file = {path}: there is no such file.{_nearest_file(path)}")
    source = "the bindings"
    try:
        for source in gin_files:
            # Where gin looks for includes. It has no public way to put a folder first, or to forget one.
            gin.config._LOCATION_PREFIXES[:] = [os.path.dirname(os.path.abspath(source)), ""]
            gin.parse_config_file(os.path.abspath(source))
        source = "the bindings"
        gin.parse_config(list(bindings))
    except _PARSE_ERRORS as error:
        raise checks.UsageError(_explain(error, source)) from error
    _check_names()


def _check_names() -> None:
    """Refuses what gin accepts and nothing would read: scoped bindings, and macros that no binding uses."""
    macros = set()
    for scope, selector in gin.config._CONFIG:
        name = selector.rpartition(".")[2]
        if name == "macro":
            macros.add(scope)
        elif scope:
            raise checks.UsageError(f"Binding of '{scope}/{name}': scopes are not used here. Bind {name!r} itself.")
    used = set(re.findall(r"%([\w./]+)", gin.config_str()))
    for name in sorted(macros - used):
        owners = [owner for owner, made in CONFIGURABLES.items() if name in inspect.signature(made).parameters]
        hint = f" Did you mean '{owners[0]}.{name}'?" if owners else checks.nearest(name, CONFIGURABLES)
        raise checks.UsageError(f"Unknown name {name!r}: a binding is written 'Owner.parameter = value'.{hint}")
    for name in sorted(used - macros):
        raise checks.UsageError(f"Unknown macro '%{name}': nothing defines it.{checks.nearest(name, macros)}")


def resolved() -> Configuration:
    """All that is bound, as settings.

    Raises:
      UsageError: a value cannot be what it is bound to.
    """
    experiment = ExperimentSettings()
    settings = Settings(
        method=experiment.build_method(),
        network=ResNet(),
        memory=Memory(),
        model_level=ModelLevel(),
        exemplar_level=ExemplarLevel(),
        finetuning=BalancedFinetune(),
        probe=Probe(),
        head=experiment.head,
        classifier=experiment.classifier,
        seed=experiment.seed,
        deterministic=experiment.deterministic,
    )
    return Configuration(settings, Protocol(), Devices(), experiment.load_dataset, gin.operative_config_str)


def _explain(error: Exception, source: str) -> str:
    text = str(error)
    where = re.search(r"In (?:file|bindings string)[^\n]*", text)
    place = f" ({where.group(0)[0].lower()}{where.group(0)[1:].strip()})" if where else f" (in {source})"
    first = text.strip().splitlines()[0].rstrip(".")
    unknown = re.search(r"No configurable matching (?:reference )?'@?([\w./]+)", text)
    if unknown:
        return f"Unknown name {unknown.group(1)!r}{place}.{checks.nearest(unknown.group(1), CONFIGURABLES)}"
    parameter = re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", text)
    if parameter and parameter.group(1).rpartition(".")[2] in CONFIGURABLES:
        owner = parameter.group(1).rpartition(".")[2]
        known = inspect.signature(CONFIGURABLES[owner]).parameters
        suggestion = checks.nearest(parameter.group(2), known)
        return f"{owner} has no parameter {parameter.group(2)!r}{place}.{suggestion} It has: {', '.join(known)}."
    return f"The configuration cannot be read: {first}{place}."


def _nearest_file(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return ""
    return checks.nearest(os.path.basename(path), os.listdir(folder))
