"""Statistics that a method keeps of the images it has seen, in the place of exemplars: arrays by name; their file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from mnemonics_tf.system import archives

# What the arrays are is known to the method that keeps them. Those of methods that keep none are an empty mapping.
Statistics: TypeAlias = Mapping[str, np.ndarray]

FILE = "statistics.npz"


def num_bytes(statistics: Statistics) -> int:
    """Bytes of all arrays, without their names."""
    return sum(array.nbytes for array in statistics.values())


def save_statistics(folder: str, statistics: Statistics) -> None:
    """Writes an `.npz` that needs no pickle to a folder, or nothing for methods that keep no statistics."""
    if statistics:
        with open(os.path.join(folder, FILE), "wb") as file:
            np.savez(file, allow_pickle=False, **dict(statistics))


def load_statistics(folder: str) -> Statistics:
    """Reads what `save_statistics` wrote.

    Raises:
      ValueError: the file is damaged.
    """
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
        return {}
    try:
        with archives.reading(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{FILE}: {error}") from error
