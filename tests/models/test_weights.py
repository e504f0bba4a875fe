"""Weights in files: what Keras reads again, and a full disk that ends no process."""

from __future__ import annotations

import os
import resource
import signal

import keras
import numpy as np
import pytest

from mnemonics_tf.models.weights import save_weights


def _model() -> keras.Model:
    return keras.Sequential([keras.Input((30,)), keras.layers.Dense(200)])


def test_saved_weights_are_read_by_keras(tmp_path):
    model, other = _model(), _model()
    path = str(tmp_path / "model.weights.h5")
    save_weights(model, path)
    other.load_weights(path)
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_file_that_may_not_grow_is_an_error_of_pythons(tmp_path):
    # As on a full disk, where HDF5 itself has ended processes.
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_weights(_model(), str(tmp_path / "model.weights.h5"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.path.getsize(tmp_path / "model.weights.h5") <= 5_000
