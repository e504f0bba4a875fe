"""TensorFlow and Keras, imported when they are first used.

They take seconds to import. Settings are checked against one another without them, so that a mistake is told at once:
modules that a configuration needs take them from here.
"""

import sys

from etils import epy

with epy.lazy_imports():
    import keras
    import tensorflow as tf

__all__ = ["import_quickly", "keras", "tf"]

# What Keras imports wherever it is installed, for its wrappers and galleries, and what takes a quarter of the time.
_LEFT_OUT = ("sklearn", "matplotlib")


def import_quickly() -> None:
    """Imports TensorFlow and Keras without scikit-learn and Matplotlib, which can be imported as ever afterwards.

    Keras's own wrappers of scikit-learn and its galleries do not work in such a process, so it is for commands alone.
    """
    absent = [name for name in _LEFT_OUT if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, and Keras does without
    try:
        import keras as _keras
        import tensorflow as _tf

        del _keras, _tf
    finally:
        for name in absent:
            del sys.modules[name]
