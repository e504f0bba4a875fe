"""What an interrupted learn has come to, in the learner's folder: the same call goes on there, in the middle of a step.

It counts for the very same attempt alone: the same learner, with the same settings, learning the same images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator

import numpy as np

from mnemonics_tf.data.identity import class_marks
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Arrival, LabelledImages
from mnemonics_tf.learner import saving
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.system.snapshot_files import PhaseSnapshots
from mnemonics_tf.system.tracking import notice

_MARK = 16  # characters of a name that tell attempts apart


def place_of(
    folder: str | os.PathLike,
    content: saving.Content,
    arrival: Arrival,
    seconds: Callable[[], dict[str, float]],
    writes: bool = True,
    finished: Collection[str] = (),
) -> PhaseSnapshots:
    """Where an attempt to learn puts down what its steps have come to, and finds what an earlier process has.

    Args:
      folder: in which the learner is, or will be, saved.
      content: the learner before it learns.
      arrival: what it learns.
      seconds: tells how long each step has taken so far.
      writes: whether this process does; of several workers the first one. True by default.
      finished: folders of attempts that were not interrupted, and stay until the learner is saved. None by default.

    Raises:
      UsageError: the folder holds something else than a learner.
    """
    folder = os.path.abspath(os.path.expanduser(os.fspath(folder)))
    saving.check_free(folder)
    identity = _identity(content, arrival)
    place = saving.progress_folder(folder, identity[:_MARK])
    if writes:
        _tell_of_others(place, finished)
    return PhaseSnapshots(place, writes, lambda: identity, seconds)


def _tell_of_others(place: str, finished: Collection[str]) -> None:
    """Says so if another attempt was interrupted, but not this one: one that was meant to go on would begin anew."""
    parent, name = os.path.split(place)
    beside = os.listdir(parent) if os.path.isdir(parent) else []
    left = {name, *map(os.path.basename, finished)}
    others = [each for each in sorted(beside) if each.startswith(name[:-_MARK]) and each not in left]
    if others and name not in beside:
        notice(
            "An attempt with other images or settings was interrupted, and this one begins anew; what that one has "
            f"come to stays in {os.path.join(parent, others[0])} until a learner is saved."
        )


def _identity(content: saving.Content, arrival: Arrival) -> str:
    """A checksum of all that the result of learning depends on."""
    network = content.settings.network
    card = {
        **saving.card_of(content, ""),
        "arriving": [list(arrival.class_ids), list(arrival.class_names)],
        # Weights to begin from, which a learner that was loaded has no more, decide nothing once there is a network.
        "pretrained": network.description() if isinstance(network, Backbone) and content.state.network is None else [],
    }
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    parts = [*_of_state(content.state), *_of_images(arrival.train), *_of_images(arrival.test)]
    for part in [*parts, *_of_images(arrival.old_train)]:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _of_state(state: LearnerState) -> Iterator[bytes]:
    arrays = dict(state.statistics)
    if state.network is not None:
        arrays |= {f"weight{index}": each for index, each in enumerate(state.network.model.get_weights())}
    for name, array in arrays.items():
        yield name.encode()
        yield np.asarray(array).tobytes()
    slots = state.exemplars.slots
    if slots is not None and isinstance(slots.images, StoredImages):
        # Where the codes lie says nothing: joined phase by phase in memory, they are one piece once they are loaded.
        yield from _labelled(slots, slots.images.checksum())
    else:
        yield from _of_images(slots)


def _of_images(images: LabelledImages | None) -> Iterator[bytes]:
    """What tells images apart: their pixels, or the names and sizes of their files."""
    if images is None or not len(images):
        yield b""
        return
    yield from _labelled(images, "\n".join(class_marks(images, int(images.labels.max()) + 1)))


def _labelled(images: LabelledImages, content: str) -> Iterator[bytes]:
    yield images.labels.tobytes()
    yield content.encode()
    yield b"" if images.soft_labels is None else images.soft_labels.tobytes()
