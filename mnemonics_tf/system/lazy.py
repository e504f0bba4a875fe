"""TensorFlow and Keras, imported when they are first used.

They take seconds to import. Settings are checked against one another without them, so that a mistake is told at once:
modules that a configuration needs take them from here.
"""

from etils import epy

with epy.lazy_imports():
    import keras
    import tensorflow as tf

__all__ = ["keras", "tf"]
