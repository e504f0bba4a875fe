"""Which images a learner has seen, by their content, and those that it keeps to measure by.

What becomes of an image is settled when it first comes, by its checksum alone: so it does not matter in which order
images come or what comes later, and an image never changes between learning and measuring.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Collection
from typing import Any

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.system import archives, complete

DIGEST_BYTES = 16  # of a SHA-256: two different images with the same ones will not be met
MOST_KEPT = 50  # images of a class that are kept to measure by
_FILE = "seen.npz"


@dataclasses.dataclass(frozen=True)
class SeenImages:
    """Checksums of the images that came from folders, and some of those that were held out.

    Attributes:
      digests: a checksum of the content of each image's file, `[n, 16]` uint8.
      labels: class index of each, `[n]` int64.
      is_held_out: which of them were never trained on, `[n]` bool.
      kept: rows of the held-out images that are kept, `[m]` int64: of each class those with the lowest checksums.
      pixels: those images, `[m, H, W, C]` uint8; None before the first.
    """

    digests: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, DIGEST_BYTES), np.uint8))
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    is_held_out: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    kept: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def row_of(self) -> dict[bytes, int]:
        """The row of each checksum."""
        return {digest.tobytes(): row for row, digest in enumerate(self.digests)}

    @property
    def held_out(self) -> LabelledImages | None:
        """The images that are kept to measure by, with class indices; None if there are none."""
        if self.pixels is None or not len(self.kept):
            return None
        return LabelledImages(self.pixels, self.labels[self.kept])

    def joined(self, digests: np.ndarray, labels: np.ndarray, held_out: Images | None = None) -> SeenImages:
        """These images and further ones.

        Args:
          digests: checksums of the further ones, `[k, 16]` uint8.
          labels: their class indices, `[k]`.
          held_out: the images themselves, `[k, H, W, C]` uint8, if they are to be measured by; None if they are learned
            from. Of those in files, no others are read than will be kept.
        """
        start, count = len(self), len(labels)
        grown = dataclasses.replace(
            self,
            digests=np.concatenate([self.digests, digests]),
            labels=np.concatenate([self.labels, labels.astype(np.int64)]),
            is_held_out=np.concatenate([self.is_held_out, np.full(count, held_out is not None)]),
        )
        if held_out is None or not count:
            return grown
        return grown._keeping(np.concatenate([self.kept, np.arange(start, start + count)]), held_out)

    def without(self, classes: Collection[int], num_classes: int) -> SeenImages:
        """The images of other classes than some indices, whose own indices close up; `num_classes` were known."""
        stays = ~np.isin(np.arange(num_classes), list(classes))
        rows = stays[self.labels]
        position = np.cumsum(rows) - 1  # of each row among those that stay
        kept = rows[self.kept]
        return SeenImages(
            self.digests[rows],
            (np.cumsum(stays) - 1)[self.labels[rows]],
            self.is_held_out[rows],
            position[self.kept[kept]],
            None if self.pixels is None else self.pixels[kept],
        )

    def _keeping(self, rows: np.ndarray, new: Images) -> SeenImages:
        """Keeps the images of some rows, those that are kept already and then `new` ones; of a class with too many
        those of the lowest checksums."""
        labels, digests = self.labels[rows].tolist(), self.digests[rows]
        order, place = [], dict.fromkeys(labels, 0)
        for each in sorted(range(len(rows)), key=lambda each: (labels[each], digests[each].tobytes())):
            place[labels[each]] += 1
            if place[labels[each]] <= MOST_KEPT:
                order.append(each)
        chosen, count = np.array(order), len(self.kept)
        is_new = chosen >= count
        pixels = np.empty((len(chosen), *new.shape[1:]), np.uint8)
        if self.pixels is not None:
            pixels[~is_new] = self.pixels[chosen[~is_new]]
        added = LabelledImages(new[chosen[is_new] - count], self.labels[rows[chosen[is_new]]])
        pixels[is_new] = in_memory(added).array
        return dataclasses.replace(self, kept=rows[chosen], pixels=pixels)


def digest_of(content: bytes) -> bytes:
    """The checksum of an image's file, 16 bytes."""
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


def digest_of_file(path: str) -> bytes:
    """The checksum of a file, which is not held in memory. Raises OSError or UnreadableError if it cannot be read."""
    return bytes.fromhex(complete.checksum(path))[:DIGEST_BYTES]


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether an image is held out: so is about a share of all images, by their checksums and nothing else."""
    return int.from_bytes(digest[:8]) < share * 2**64


def save_seen(folder: str, seen: SeenImages, class_order: np.ndarray) -> None:
    """Writes `seen.npz`, with class ids, unless nothing was seen; `class_order` has the id of each class index."""
    if len(seen):
        arrays = {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}
        arrays["labels"] = class_order[seen.labels]
        arrays["pixels"] = np.zeros((0, 0, 0, 0), np.uint8) if seen.pixels is None else seen.pixels
        np.savez(os.path.join(folder, _FILE), allow_pickle=False, **arrays)


def load_seen(folder: str, class_order: np.ndarray) -> SeenImages:
    """Reads what `save_seen` has written; nothing was seen where there is no such file.

    Raises:
      OSError, ValueError, KeyError: it is not what `save_seen` writes.
    """
    path = os.path.join(folder, _FILE)
    if not os.path.isfile(path):
        return SeenImages()
    with archives.reading(path) as arrays:
        found: dict[str, Any] = {field.name: arrays[field.name] for field in dataclasses.fields(SeenImages)}
    index = {class_id: position for position, class_id in enumerate(class_order.tolist())}
    found["labels"] = np.array([index[class_id] for class_id in found["labels"].tolist()], np.int64)
    return SeenImages(**{**found, "pixels": found["pixels"] if len(found["pixels"]) else None})
