"""What a process of this project's environment tells of itself."""

from __future__ import annotations

import os
import platform
import sys


def about() -> dict[str, str | int]:
    """Versions, and the number of threads; nothing of TensorFlow where the work has not imported it."""
    told: dict[str, str | int] = {"python": platform.python_version()}
    if "tensorflow" not in sys.modules:
        return told
    import keras
    import tensorflow as tf

    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1
    return {**told, "tensorflow": tf.__version__, "keras": keras.__version__, "threads": threads}
