"""Randomness: a draw is a function of the seed and of what it is for, so that a repeated step repeats its draws."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Iterator

import numpy as np

from mnemonics_tf.system.lazy import keras, tf


def make_deterministic() -> None:
    """Makes TensorFlow's operations give the same bits in every run of this process's machine, for good."""
    tf.config.experimental.enable_op_determinism()


def seed_initial_weights(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, from which Keras draws initial weights."""
    keras.utils.set_random_seed(seed)


@contextlib.contextmanager
def keeping_global_generators() -> Iterator[None]:
    """Gives Python's and NumPy's global generators back as they were: they are the user's, not a learner's."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def stage_seed(seed: int, *names: str | int) -> int:
    """A seed of its own for each stage, the same in every process: `stage_seed(run_seed, phase, "herding")`."""
    return zlib.crc32(":".join(map(str, (seed, *names))).encode()) & 0x7FFFFFFF


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator seeded by `stage_seed`."""
    return np.random.default_rng(stage_seed(seed, *names))
