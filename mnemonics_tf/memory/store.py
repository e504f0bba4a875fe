"""What the memory holds: exemplars in the form in which they are kept.

Exemplars come in three forms: real images (arrays, or rows of files), slots that are worked on (floats), and slots as
they are kept. Which form is due where is decided here and in `codecs`, nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import Codec, Coded, Source, codec_of, decoded
from mnemonics_tf.memory.pixel_file import PixelFile, as_codes, as_pixels
from mnemonics_tf.memory.selection import (
    real_slots,
    select_boundary,
    select_herding,
    select_mixed,
    select_random,
)
from mnemonics_tf.memory.settings import Memory


@dataclasses.dataclass(frozen=True)
class ExemplarStore:
    """Exemplars of all classes so far, in the form in which they are kept.

    Attributes:
      slots: `[n, H, W, C]` with class indices, class after class.
      codec: makes images of slots.
    """

    slots: LabelledImages
    codec: Codec

    def __len__(self) -> int:
        return len(self.slots)

    @classmethod
    def empty(cls, image_shape: tuple[int, int, int], codec: Codec) -> ExemplarStore:
        """A memory that holds nothing yet."""
        return cls(LabelledImages(np.zeros((0, *image_shape), np.uint8), np.zeros(0, np.int64)), codec)

    def decoded(self) -> LabelledImages:
        """What networks are trained on: every image of every slot, with the label of its slot."""
        # Pictures are decoded once; they are asked for several times in a phase.
        return self._pictures if isinstance(self.codec, Coded) else decoded(self.slots, self.codec)

    @functools.cached_property
    def _pictures(self) -> LabelledImages:
        return decoded(self.slots, self.codec)

    @property
    def num_images(self) -> int:
        """How many images `decoded` would give."""
        return len(self) * self.codec.images_per_slot

    def of_classes(self, classes: Iterable[int]) -> ExemplarStore:
        """The exemplars of some classes, in their present order."""
        return dataclasses.replace(self, slots=self.slots.of_classes(classes))

    def counts(self, num_classes: int) -> np.ndarray:
        """Number of slots of each class, `[num_classes]`."""
        return np.bincount(self.slots.labels, minlength=num_classes)

    @property
    def num_bytes(self) -> int:
        """Bytes of the images of all slots, without labels; `memory.budget.size_of` has all that is kept."""
        return int(self.codec.num_bytes(self.slots.images).sum())


def codec_for(memory: Memory) -> Codec:
    """The codec that the settings of the memory name."""
    return codec_of(memory.low_resolution, memory.store_floats, memory.codec, memory.quality)


def select(
    memory: Memory,
    data: LabelledImages,
    features: np.ndarray | None,
    num_exemplars: int,
    generator: np.random.Generator,
    margins: np.ndarray | None = None,
) -> LabelledImages:
    """The initial exemplars of the classes of `data` (line 10 of Algorithm 1), class after class.

    Args:
      memory: how they are chosen and coded.
      data: images of some classes, D_i.
      features: embeddings of `data`, `[n, d]`; herding and `mixed` need them.
      num_exemplars: slots of each class; of a class with fewer images as many as they fill.
      generator: for random choices.
      margins: see `selection.margins_of`, `[n]`; `boundary` and `mixed` need them.

    Returns:
      Slots to be worked on: images as they are, or float32 mosaics of consecutive choices.

    Raises:
      ValueError: features or margins were needed and not given.
    """
    codec = codec_for(memory)
    positions = [np.zeros(0, np.int64)]
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        count = min(num_exemplars, len(members) // codec.images_per_slot) * codec.images_per_slot
        positions.append(in_order(memory, members, features, generator, margins)(count))
    chosen_images = data.take(np.concatenate(positions))
    if codec.images_per_slot == 1:
        return chosen_images
    slots = codec.encode(in_memory(chosen_images).array)
    return LabelledImages(slots, chosen_images.labels[:: codec.images_per_slot])


def in_order(
    memory: Memory,
    members: np.ndarray,
    features: np.ndarray | None,
    generator: np.random.Generator,
    margins: np.ndarray | None = None,
) -> Callable[[int], np.ndarray]:
    """A function of a number that returns so many images of a class, most important first; more go on from fewer.

    Args:
      memory: how they are chosen.
      members: positions of the images of the class.
      features: embeddings of all images; herding and `mixed` need them.
      generator: for random choices.
      margins: of all images; `boundary` and `mixed` need them.

    Raises:
      ValueError: features or margins are needed and were not given (when the function is called).
    """
    if memory.selection == "random":
        drawn = members[select_random(len(members), len(members), generator)]
        return lambda count: drawn[:count]

    def chosen(count: int) -> np.ndarray:
        if not count:
            return members[:0]
        if memory.selection == "boundary":
            return members[select_boundary(_given(margins, "margins")[members], count)]
        embedded = _given(features, "features")[members]
        if memory.selection == "herding":
            return members[select_herding(embedded, count)]
        return members[select_mixed(embedded, _given(margins, "margins")[members], count)]

    return chosen


def _given(values: np.ndarray | None, name: str) -> np.ndarray:
    if values is None:
        raise ValueError(f"This choice goes by {name}, and none were given.")
    return values


def as_kept(slots: LabelledImages, codec: Codec, file: PixelFile | None = None) -> LabelledImages:
    """Slots in the form in which they are kept.

    Args:
      slots: as `select` or the exemplar level left them.
      codec: how slots are kept in memory.
      file: where pixels, or codes, go that must not be held in memory; None holds them.

    Returns:
      Slots that no longer depend on the files that images came from. Only those that are kept as files, of a streamed
      data set, stay where they are until the phase is written.
    """
    if isinstance(codec, Source):
        return slots if file is not None else dataclasses.replace(slots, images=codec.kept(slots.images))
    if isinstance(codec, Coded):
        if file is not None:
            return as_codes(slots, file, codec.format(slots.images.shape[1:]))
        return dataclasses.replace(slots, images=codec.kept(slots.images))
    if file is not None:
        return as_pixels(slots, file)
    return dataclasses.replace(slots, images=codec.kept(in_memory(slots).array))


def with_unchanged(
    before: LabelledImages, after: LabelledImages, unchanged: np.ndarray, codec: Codec, file: PixelFile | None = None
) -> LabelledImages:
    """Optimised slots as they are kept, of which some have the images that they had: no code of these is made again.

    Args:
      before: slots as they were kept, or images that have not been kept yet.
      after: the same slots in the same order, optimised.
      unchanged: which of them nothing has moved, `[n]` bool.
      codec: how slots are kept.
      file: where pixels, or codes, go that must not be held in memory; None holds them.
    """
    same = as_kept(dataclasses.replace(after.take(unchanged), images=before.images[unchanged]), codec, file)
    if unchanged.all():
        return same
    joined = as_kept(after.take(~unchanged), codec, file).join(same)
    return joined.take(np.argsort(np.concatenate([np.flatnonzero(~unchanged), np.flatnonzero(unchanged)])))


def joined(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """Slots of both. Where one of the two has soft labels, the labels of the other become such, of a single class."""
    soft = [each.soft_labels for each in (first, second) if each.soft_labels is not None]
    if len(soft) == 1:
        width = max(soft[0].shape[1], 1 + max(int(each.labels.max(initial=-1)) for each in (first, second)))
        first, second = (
            dataclasses.replace(each, soft_labels=np.eye(width, dtype=np.float32)[each.labels])
            if each.soft_labels is None
            else each
            for each in (first, second)
        )
    return first.join(second)


def shrink(
    memory: Memory, slots: LabelledImages, num_classes: int, generator: np.random.Generator, real_share: float = 0.0
) -> LabelledImages:
    """Cuts every class down to the budget for `num_classes` (line 17 of Algorithm 1; supplement A).

    Args:
      memory: how many stay, and which of them go.
      slots: of any classes.
      num_classes: classes that are known by now, which share a total budget.
      generator: for random choices.
      real_share: share of each class's exemplars that are real images, see `real_slots`; it stays what it is. 0 by
        default, where nothing tells exemplars apart.
    """
    limit = memory.count(num_classes)
    positions = [np.zeros(0, np.int64)]
    for label in np.unique(slots.labels):
        members = np.flatnonzero(slots.labels == label)
        if memory.discard == "herding":
            # They stand in the order in which they were chosen.
            members = members[:limit]
        elif len(members) > limit:
            members = _drawn(members, limit, generator, real_share)
        positions.append(members)
    return slots.take(np.concatenate(positions))


def _drawn(members: np.ndarray, limit: int, generator: np.random.Generator, real_share: float) -> np.ndarray:
    """So many of the exemplars of a class, at random; real images stand again where `real_slots` looks for them."""
    if not real_share:
        return np.sort(members[select_random(len(members), limit, generator)])
    is_real, will_be = (real_slots(np.zeros(count, np.int64), real_share) for count in (len(members), limit))
    drawn = np.empty(limit, members.dtype)
    for kind, places in ((members[is_real], will_be), (members[~is_real], ~will_be)):
        drawn[places] = np.sort(kind[select_random(len(kind), int(places.sum()), generator)])
    return drawn
