"""What a folder of this package's is, told by the file that makes it one."""

from __future__ import annotations

import os

RUN_FILE = "config.gin"
LEARNER_FILE = "learner.json"
_MODEL_FILE = "saved_model.pb"
LEARNING_LOCK = ".learning"  # in a learner's folder: keeps two commands apart


def is_run(folder: str) -> bool:
    """Whether a run of the command line has begun there."""
    return os.path.isfile(os.path.join(folder, RUN_FILE))


def is_learner(folder: str) -> bool:
    """Whether a learner is saved there."""
    return os.path.isfile(os.path.join(folder, LEARNER_FILE))


def is_model(folder: str) -> bool:
    """Whether it is an exported model, a SavedModel."""
    return os.path.isfile(os.path.join(folder, _MODEL_FILE))
