"""Budgets of bytes: what a memory takes, how many of the chosen images fit, and whether any do.

All arrays of `exemplars.npz` count: images or codes with their lengths, labels, soft labels, and what all classes
share. The bytes by which NumPy and ZIP frame them do not. Of exemplars that are kept as floats the floats count, not
the rounded images that are filed beside them for other programs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data.headers import UnreadableImageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.memory import source_files
from mnemonics_tf.memory.codecs import Codec, Coded, Mosaic, Source
from mnemonics_tf.memory.coded import encoded, held
from mnemonics_tf.memory.exemplar_file import head_of
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.memory.selection import real_slots
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, codec_for, in_order, select

# Bytes: of a class id, of a code's length, of the class id of a soft label's column, of the factor of mosaics.
_LABEL, _LENGTH, _CLASS, _FACTOR = 8, 4, 8, 8
_PROBABILITY = 4  # bytes of a number of a soft label
_CODED_AT_ONCE = 64  # images of a class, the first time
_LOOKED_AT = 2  # images of each class, before anything is trained


@dataclasses.dataclass(frozen=True)
class Size:
    """Bytes of a memory.

    Attributes:
      by_class: of each class index, `[num_classes]` int64.
      shared: that belong to no class.
    """

    by_class: np.ndarray
    shared: int

    @property
    def total(self) -> int:
        """In all."""
        return int(self.by_class.sum()) + self.shared


def size_of(exemplars: ExemplarStore, num_classes: int) -> Size:
    """What a memory takes as it is kept."""
    slots = exemplars.slots
    each = _bytes_each(slots, exemplars.codec)
    by_class = np.bincount(slots.labels, weights=each, minlength=num_classes).astype(np.int64)
    return Size(by_class, _shared(slots, exemplars.codec) if len(slots) else 0)


def select_fitting(
    memory: Memory,
    data: LabelledImages,
    features: np.ndarray | None,
    names: Sequence[str],
    generator: np.random.Generator,
    file: PixelFile | None = None,
    margins: np.ndarray | None = None,
    soft_labels: int = 0,
) -> LabelledImages:
    """The initial exemplars of the classes of `data`, as many as fit in the bytes of a class; class after class.

    Where they are to be learned they stay images, as many as would fit if learning left their sizes alone; otherwise
    they are coded here, and nowhere again.

    Args:
      memory: a budget of bytes.
      data: images of some classes, D_i; rows that are codes already stay as they are.
      features: embeddings of `data`, `[n, d]`; herding and `mixed` need them.
      names: of all classes that are known by now, by index.
      generator: for random choices.
      file: where codes go that must not be held in memory.
      margins: see `selection.margins_of`, `[n]`; `boundary` and `mixed` need them.
      soft_labels: columns of the soft label that each exemplar will learn; 0, the default, for none.

    Raises:
      UsageError: no image of a class fits.
    """
    codec = codec_for(memory)
    besides = _besides(codec, soft_labels * _PROBABILITY)
    share = memory.share(len(names), _shared(data.take(np.zeros(0, int)), codec, soft_labels))
    if not isinstance(codec, (Coded, Source)):
        each = _bytes_of_pixels(memory, data) + besides
        if share < each:
            raise _too_small(memory, names[data.labels[0]], each, share, soft_labels)
        return select(memory, data, features, share // each, generator, margins)
    form = codec.format(data.images.shape[1:]) if isinstance(codec, Coded) else None
    positions, codes = [], list[bytes]()
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        first, own = in_order(memory, members, features, generator, margins), list[bytes]()
        sizes, fit, is_full = np.zeros(0, np.int64), np.zeros(0, np.int64), False
        while not is_full and len(sizes) < len(members):
            further = first(min(max(_CODED_AT_ONCE, 2 * len(sizes)), len(members)))[len(sizes) :]
            if form is not None:
                own += encoded(data.images[further], form)
                bare = np.array([len(code) for code in own[len(sizes) :]], np.int64)
            else:
                bare = codec.num_bytes(data.images[further])
            sizes = np.concatenate([sizes, bare + besides])
            fit, is_full = _that_fit(sizes, share)
        if not len(fit):
            raise _too_small(memory, names[label], int(sizes.min(initial=besides)), share, soft_labels)
        positions.append(first(len(sizes))[fit])
        codes += [own[place] for place in fit] if own else []
    chosen = data.take(np.concatenate(positions))
    if memory.learns or form is None:
        return chosen
    return dataclasses.replace(chosen, images=held(codes, form) if file is None else file.append_codes(codes, form))


def fitting(
    memory: Memory, slots: LabelledImages, codec: Codec, names: Sequence[str], real_share: float = 0.0
) -> LabelledImages:
    """Cuts every class down to its bytes: the least important exemplars go, which stand last, and what is too large.

    Args:
      memory: a budget of bytes.
      slots: as they are kept, of any classes.
      codec: how they are kept.
      names: of all classes that are known by now, by index.
      real_share: share of each class's exemplars that are real images, see `real_slots`; as far as there are such, they
        stand where it looks for them afterwards, too. 0 by default, where nothing tells exemplars apart.

    Raises:
      UsageError: no exemplar of a class fits.
    """
    share, each = memory.share(len(names), _shared(slots, codec)), _bytes_each(slots, codec)
    positions = [np.zeros(0, np.int64)]
    for label in np.unique(slots.labels):
        members = np.flatnonzero(slots.labels == label)
        fit, _ = _that_fit(each[members], share)
        if not len(fit):
            columns = 0 if slots.soft_labels is None else slots.soft_labels.shape[1]
            raise _too_small(memory, names[label], int(each[members].min()), share, columns)
        positions.append(members[_in_places(fit, real_share)])
    return slots.take(np.concatenate(positions))


def _in_places(kept: np.ndarray, real_share: float) -> np.ndarray:
    """Kept exemplars of a class by their places, so ordered that real images are again where `real_slots` has them.

    Where one in the middle is passed over, those behind it move up. Once there are none of a kind, the other kind takes
    its places, too.
    """
    if not real_share or kept[-1] == len(kept) - 1:
        return kept
    is_real = real_slots(np.zeros(kept[-1] + 1, np.int64), real_share)[kept]
    real, learned = kept[is_real].tolist(), kept[~is_real].tolist()
    order = list[int]()
    for wants_real in real_slots(np.zeros(len(kept), np.int64), real_share):
        first, second = (real, learned) if wants_real else (learned, real)
        order.append((first or second).pop(0))
    return np.array(order, np.int64)


def _that_fit(sizes: np.ndarray, share: int) -> tuple[np.ndarray, bool]:
    """Which exemplars of a class are kept, their places in order of importance, and whether no further one would be.

    One that does not fit is passed over where it is unlike the others: as long as what is left would hold two of their
    mean size. Else it ends the class, so that the small ones among the unimportant are not preferred.

    Args:
      sizes: bytes of each, the most important first, `[n]`.
      share: bytes of the class.
    """
    kept, left = list[int](), share
    for place, size in enumerate(sizes.tolist()):
        if size <= left:
            kept.append(place)
            left -= size
        elif kept and left < 2 * (share - left) / len(kept):
            return np.array(kept, np.int64), True
    return np.array(kept, np.int64), False


def check_first_images(
    memory: Memory, data: LabelledImages, names: Sequence[str], num_classes: int, soft_labels: int = 0
) -> int:
    """Checks a budget of bytes against a few images of each class, before anything is trained.

    Args:
      memory: a budget of bytes.
      data: images with positions in `names`; those below 0 are passed over.
      names: of classes.
      num_classes: that will share the memory in the end, as far as is known.
      soft_labels: columns of the soft label that each exemplar will have then; 0, the default, for none.

    Returns:
      How many exemplars it will leave of a class, about, at least 1: exactly for pixels, by the mean of the images for
      codes. 1 if no image can be read.

    Raises:
      UsageError: there is a class none of whose images fit.
    """
    codec, sizes = codec_for(memory), list[int]()
    besides = _besides(codec, soft_labels * _PROBABILITY)
    share = memory.share(num_classes, _shared(data.take(np.zeros(0, int)), codec, soft_labels))
    for label in np.unique(data.labels[data.labels >= 0]):
        if isinstance(codec, (Coded, Source)):
            members = np.flatnonzero(data.labels == label)
            own = [size + besides for size in _bytes_of_first(codec, data.images, members, share - besides)]
        else:
            own = [_bytes_of_pixels(memory, data) + besides]
        if own and min(own) > share:
            raise _too_small(memory, names[label], min(own), share, soft_labels)
        sizes += own
    return max(int(share // np.mean(sizes)), 1) if sizes else 1


def _bytes_of_first(codec: Coded | Source, images: Images, members: np.ndarray, limit: int) -> list[int]:
    """Bytes of the first images of a class that can be read: of so many that one is within the limit, if any is."""
    found, looked_at = list[int](), 0
    while looked_at < len(members) and min(found, default=limit + 1) > limit:
        further = members[looked_at : max(_LOOKED_AT, 2 * looked_at)]
        for row in further:
            # What cannot be read is left out when its phase arrives.
            with contextlib.suppress(OSError, UnreadableImageError, tf.errors.OpError):
                found.append(_bytes_once_kept(codec, images[row : row + 1]))
        looked_at += len(further)
    return found


def _bytes_once_kept(codec: Coded | Source, image: Images) -> int:
    """Bytes that one image will take. Raises OSError where it is no plain file: a pipe would be waited for."""
    if isinstance(image, StoredImages):
        file = image.files[image.file[0]]
        if isinstance(file, str) and not os.path.isfile(file):
            raise FileNotFoundError(file)
    if isinstance(codec, Source):
        return int(codec.num_bytes(image)[0])
    return len(encoded(image, codec.format(image.shape[1:]))[0])


def check_kept(
    memory: Memory, exemplars: ExemplarStore, names: Sequence[str], num_classes: int, soft_labels: int = 0
) -> None:
    """Checks that exemplars of each class will stay when further classes take their part of a total budget.

    Args:
      memory: a budget of bytes.
      exemplars: of known classes that bring no images now.
      names: of the known classes, by index.
      num_classes: that will share the memory then.
      soft_labels: columns of the soft label that each exemplar will have then; 0, the default, for none.

    Raises:
      UsageError: there is a class none of whose exemplars would fit.
    """
    slots, codec = exemplars.slots, exemplars.codec
    if not len(slots):
        return
    share = memory.share(num_classes, _shared(slots.take(np.zeros(0, int)), codec, soft_labels))
    each = codec.num_bytes(slots.images) + _besides(codec, soft_labels * _PROBABILITY)
    for label in np.unique(slots.labels):
        smallest = int(each[slots.labels == label].min())
        if smallest > share:
            raise checks.UsageError(
                f"{memory.binding} would leave {max(share, 0):,} bytes of a class once there are {num_classes}, but "
                f"the smallest exemplar that is kept of class {names[label]!r} takes {smallest:,}. Learn fewer "
                "classes, or begin a learner with a larger budget."
            )


def _too_small(memory: Memory, name: str, needed: int, share: int, soft_labels: int) -> checks.UsageError:
    label, lower = "its label", " or lower the quality" if memory.codec in ("webp", "jpeg") else ""
    if soft_labels:
        label, lower = f"a soft label of {soft_labels} classes", f"{lower}, or set ExemplarLevel.learn_labels = False"
    return checks.UsageError(
        f"{memory.binding} leaves {max(share, 0):,} bytes of a class, but an exemplar of class {name!r} takes "
        f"{needed:,} with {label}. Raise it{lower}."
    )


def _bytes_of_pixels(memory: Memory, data: LabelledImages) -> int:
    """Bytes of an image that is kept as pixels; chosen images stay bytes until they are learned or adjusted.

    Mosaics are means of pixels, and floats from the start.
    """
    becomes_float = memory.store_floats and (memory.learns or memory.adjust or memory.images_per_slot > 1)
    return math.prod(data.images.shape[1:]) * (4 if becomes_float else 1)


def _bytes_each(slots: LabelledImages, codec: Codec) -> np.ndarray:
    """Bytes of each exemplar with all that belongs to it, `[n]`."""
    soft = 0 if slots.soft_labels is None else slots.soft_labels.shape[1] * slots.soft_labels.itemsize
    return codec.num_bytes(slots.images) + _besides(codec, soft)


def _besides(codec: Codec, soft: int) -> int:
    """Bytes of an exemplar besides its image: its label, those of a soft label, and the length of a code."""
    return _LABEL + soft + (_LENGTH if isinstance(codec, (Coded, Source)) else 0)


def _shared(slots: LabelledImages, codec: Codec, soft_labels: int = 0) -> int:
    """Bytes of a memory that belong to no class; `soft_labels` columns are still to come."""
    shared = (soft_labels if slots.soft_labels is None else slots.soft_labels.shape[1]) * _CLASS
    if isinstance(codec, Mosaic):
        shared += _FACTOR
    if isinstance(codec, Coded):
        shared += sum(array.nbytes for array in head_of(codec.format(slots.images.shape[1:])).values())
    if isinstance(codec, Source) and isinstance(slots.images, StoredImages):
        shared += source_files.head_of(slots.images).nbytes
    return shared
