"""The data of a run, found again by its resolved configuration; nothing is downloaded, and no code of it is run."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.data.types import Dataset
from mnemonics_tf.report.page.blocks import MissingError
from mnemonics_tf.report.page.record import Record
from mnemonics_tf.report.runs import read_settings
from mnemonics_tf.system import screen


def dataset_of(record: Record) -> Dataset:
    """The data that a run was made on.

    Raises:
      MissingError: they are not on this machine, are others now, or come from a function of the user's own.
    """
    settings = read_settings(record.run.config)  # with those that say where the data lie, which tell no runs apart
    source = settings.get("Experiment.dataset", "").removeprefix("@").rpartition(".")[2]
    bound = {name.partition(".")[2]: text for name, text in settings.items() if name.startswith(f"{source}.")}
    data = _load(source, tuple(sorted(bound.items())))
    names = [data.class_names[class_id] for class_id in record.results.class_order if class_id < len(data.class_names)]
    expected = list(record.class_names)
    if [screen.shown(name) for name in names] != expected and not expected[0].startswith("class "):
        raise MissingError("The data on this machine have other classes than those of the run.")
    return data


@functools.lru_cache(maxsize=1)  # runs of a set are made on the same data
def _load(source: str, bound: tuple[tuple[str, str], ...]) -> Dataset:
    found = _sources().get(source)
    if found is None:
        raise MissingError(f"The run's data come from {source or 'a source'!r}, which a report does not load.")
    try:
        return found({name: ast.literal_eval(text) for name, text in bound})
    except MissingError:
        raise
    except (checks.UsageError, OSError, ValueError, TypeError, SyntaxError) as error:
        reason = screen.shown(str(error).partition("\n")[0])
        raise MissingError(f"The run's data are not on this machine: {reason}") from error


def _sources() -> Mapping[str, Callable[[dict[str, Any]], Dataset]]:
    from mnemonics_tf.data.folder import Folder
    from mnemonics_tf.data.sources import TFDS, Digits

    def prepared(settings: dict[str, Any]) -> Dataset:
        source = TFDS(**settings)
        import tensorflow_datasets as tfds

        from mnemonics_tf.data import tfds_loading

        folder = None if source.data_dir is None else os.path.expanduser(source.data_dir)
        try:
            builder = tfds.builder(str(source.name), data_dir=folder)
        except Exception as error:  # TFDS raises all kinds of them
            why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            raise MissingError(f"TensorFlow Datasets cannot open {source.name!r} here ({why}).") from error
        if not os.path.isdir(builder.data_dir):
            raise MissingError(
                f"The data set {source.name!r} is not at {builder.data_dir}. Set TFDS_DATA_DIR to its folder."
            )
        return tfds_loading.load(source, may_sort=False)

    return {
        "digits": lambda settings: Digits(**settings).load(),
        "folder": lambda settings: Folder(**settings).load(),
        "tfds": prepared,
    }
