"""A job that goes as far as to where learning begins, and tells what it would learn from.

All that learning depends on is the learner's state, what an interrupted process has left of the phase, the settings
and the data. Settings and data are the job's own. So two jobs that begin to learn from the same end with the same, and
a trial that looks at the beginning judges as strictly as one that goes on to the end, in a fraction of its time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

SUFFIX = ".begins"  # of the file beside the run's folder in which it is told


class _LearningBegins(Exception):  # noqa: N818  # no error: the job has come as far as it is to
    """Ends a job before its first step."""


def until_it_learns(job: Callable[[str], None]) -> Callable[[str], None]:
    """The job without learning. It leaves a file beside its folder if there is anything to learn.

    Args:
      job: is given the folder of a run. In the process in which it is called nothing is learned any more.
    """

    def run(place: str) -> None:
        from mnemonics_tf.learner.workshop import Workshop

        def begin(learner: Any, _: object) -> None:
            with open(f"{place}{SUFFIX}", "w", encoding="utf-8") as file:
                json.dump(beginning_of(learner), file)
            raise _LearningBegins

        Workshop.advance = begin
        try:
            job(place)
        except _LearningBegins:
            return

    return run


def told(place: str) -> dict[str, Any] | None:
    """What a job would have learned from; None if it had nothing to learn. It is told once."""
    path = f"{place}{SUFFIX}"
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    os.remove(path)
    return content


def beginning_of(learner: Any) -> dict[str, Any]:
    """The phase that a learner begins with, and checksums: of its state, and of what each stage goes on from."""
    state = learner._state
    store = learner._journal.store(state.phase)
    names = sorted(os.listdir(store._folder)) if os.path.isdir(store._folder) else []
    stages = [name.removesuffix(".npz") for name in names if name.endswith(".npz")]
    loaded = {stage: store.load(stage) for stage in stages}
    return {
        "phase": state.phase,
        "state": checksum_of_state(state),
        "stages": {stage: None if arrays is None else checksum(_parts(arrays)) for stage, arrays in loaded.items()},
    }


def checksum_of_state(state: Any) -> str:
    """A checksum of all that a learner carries on."""
    parts = [repr((state.seed, state.phase, state.classes, state.pixel_range)).encode()]
    parts += [np.asarray(weight).tobytes() for weight in state.network.model.get_weights()] if state.network else []
    exemplars = state.exemplars.decoded() if len(state.exemplars) else None
    if exemplars is not None:
        soft = b"" if exemplars.soft_labels is None else np.asarray(exemplars.soft_labels).tobytes()
        parts += [exemplars.labels.tobytes(), exemplars.array.tobytes(), soft]
    means = {} if state.means is None else {"means": state.means}
    return checksum([*parts, *_parts(state.statistics), *_parts(means)])


def checksum(parts: Iterable[bytes]) -> str:
    """SHA-256 of parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    return [name.encode() + np.asarray(arrays[name]).tobytes() for name in sorted(arrays)]
