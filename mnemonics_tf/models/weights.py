"""Writing a model's weights to a file."""

from __future__ import annotations

import io

import keras


class _Buffer(io.BytesIO):
    """A file in memory, under a name that Keras takes for one of weights."""

    def __str__(self) -> str:
        return "model.weights.h5"


def save_weights(model: keras.Model, path: str) -> None:
    """Writes all weights of a model to a file in Keras's HDF5 form, which `model.load_weights` reads.

    HDF5 can end the process if the disk fills up while it writes, so it writes to memory, and Python to the disk.

    Args:
      model: a built model.
      path: the file; Keras wants a name that ends in `.weights.h5` when it reads it.

    Raises:
      OSError: the disk is full, or cannot be written to for another reason.
    """
    buffer = _Buffer()
    model.save_weights(buffer)
    with open(path, "wb") as file:
        file.write(buffer.getbuffer())
