"""Budgets of bytes: what a memory takes, how many of the chosen images fit, and whether any do.

All arrays of `exemplars.npz` count: images or codes with their lengths, labels, soft labels, and what all classes
share. The bytes by which NumPy and ZIP frame them do not. Of exemplars that are kept as floats the floats count, not
the rounded images that are filed beside them for other programs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
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
from mnemonics_tf.memory.formats import Format
from mnemonics_tf.memory.pixel_file import PixelFile
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


def fitting(memory: Memory, slots: LabelledImages, codec: Codec, names: Sequence[str]) -> LabelledImages:
    """Cuts every class down to its bytes: the least important exemplars go, which stand last, and what is too large.

    Args:
      memory: a budget of bytes.
      slots: as they are kept, of any classes.
      codec: how they are kept.
      names: of all classes that are known by now, by index.

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
        positions.append(members[fit])
    return slots.take(np.concatenate(positions))


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
        members = np.flatnonzero(data.labels == label)[:_LOOKED_AT]
        if isinstance(codec, Coded):
            form = codec.format(data.images.shape[1:])
            own = [len(code) + besides for code in _codes_of_readable(data.images[members], form)]
        elif isinstance(codec, Source):
            own = [int(size) + besides for size in codec.num_bytes(data.images[members])]
        else:
            own = [_bytes_of_pixels(memory, data) + besides]
        if own and min(own) > share:
            raise _too_small(memory, names[label], min(own), share, soft_labels)
        sizes += own
    return max(int(share // np.mean(sizes)), 1) if sizes else 1


def _codes_of_readable(images: Images, form: Format) -> list[bytes]:
    """Codes of images without those that cannot be read, which are left out when their phase arrives."""
    codes = []
    for row in range(len(images)):
        with contextlib.suppress(OSError, UnreadableImageError, tf.errors.OpError):
            codes += encoded(images[row : row + 1], form)
    return codes


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
