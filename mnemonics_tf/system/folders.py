"""What a folder of this package's is, told by the file that makes it one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mnemonics_tf import __version__
from mnemonics_tf.system import complete, files

RUN_FILE = "config.gin"
LEARNER_FILE = "learner.json"
_MODEL_FILE = "saved_model.pb"
CHECKSUM = "checksum"  # an entry of JSON files: of all the others; earlier versions wrote none
LEARNER_LOCK = ".lock"  # in a learner's folder: keeps a second process out while one saves
LEARNING_LOCK = ".learning"  # in a learner's folder: keeps two commands apart
STATES = "states"  # of a learner, in its folder
PROGRESS = ".progress-"  # in names of folders beside a learner's state: what an interrupted learn has come to


def is_run(folder: str) -> bool:
    """Whether a run of the command line has begun there."""
    return os.path.isfile(os.path.join(folder, RUN_FILE))


def is_learner(folder: str) -> bool:
    """Whether a learner is saved there."""
    return os.path.isfile(os.path.join(folder, LEARNER_FILE))


def beside_a_learner(folder: str) -> set[str]:
    """Names in a folder without a learner, but for those that one has there which was killed before it was saved."""
    own = {LEARNER_LOCK, LEARNING_LOCK, STATES, f"{LEARNER_FILE}{files.PARTIAL}"}
    return set(os.listdir(folder)) - own


def state_of_learner(folder: str) -> str:
    """What tells what a saved learner exports from all else: its state, by checksums, and this package's release.

    Raises:
      UnreadableError: the learner is damaged.
    """
    try:
        state = os.path.normpath(files.read_json(os.path.join(folder, LEARNER_FILE))["state"])
        return complete.checksum_of([complete.checksum(os.path.join(folder, state, complete.MARK)), __version__])
    except (OSError, KeyError, TypeError) as error:
        raise files.UnreadableError(f"{type(error).__name__}: {error}") from error


def is_model(folder: str) -> bool:
    """Whether it is an exported model, a SavedModel."""
    return os.path.isfile(os.path.join(folder, _MODEL_FILE))


def read_checked(path: str) -> Any:
    """What a JSON file holds, without its checksum. Raises UnreadableError if it is damaged."""
    return without_checksum(files.read_json(path))


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON is to hold, and last a checksum of it, which `read_checked` looks at."""
    return {**content, CHECKSUM: complete.checksum_of(content)}


def without_checksum(content: Any) -> Any:
    """What JSON holds besides a checksum of itself, if it has one. Raises UnreadableError if that is another."""
    if not isinstance(content, dict) or CHECKSUM not in content:
        return content
    noted = content.pop(CHECKSUM)
    try:
        is_same = noted == complete.checksum_of(content)
    except RecursionError as error:
        raise files.UnreadableError("its JSON is nested too deeply") from error
    if not is_same:
        raise files.UnreadableError("its checksum is another")
    return content
