"""Files of weights that a Keras model starts from."""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any

import h5py
import keras

from mnemonics_tf import checks
from mnemonics_tf.models.architecture import one_line


def loaded(model: keras.Model, path: str) -> keras.Model:
    """The model with weights from a file. Raises UsageError if they do not fit."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise checks.UsageError(f"Backbone.weights = {path!r}: there is no such file.")
    try:
        model.load_weights(path)
    except Exception as error:  # HDF5 and Keras have many kinds
        raise _misfit(path, model, one_line(error)) from error
    # Keras leaves out what it has no layer for, without a word: the network would be another than the user means.
    count = _num_arrays(path)
    if count > len(model.variables):
        raise _misfit(path, model, f"the file has {count} arrays, and the model {len(model.variables)}")
    return model


def _misfit(path: str, model: keras.Model, reason: str) -> checks.UsageError:
    return checks.UsageError(
        f"Backbone.weights = {path!r} do not fit the model {model.name!r} ({reason}). Expected a file that "
        "save_weights of the same model has written."
    )


def _num_arrays(path: str) -> int:
    """How many arrays of layers a file of weights has; 0 for the older format, which Keras compares itself."""
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "/vars/" in f"/{name}":
            names.append(name)

    source: Any = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(source) as file:
        file.visititems(note)
    return sum(not name.startswith(("optimizer", "metrics", "compile_metrics")) for name in names)
