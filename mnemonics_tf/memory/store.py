"""What the memory holds: exemplars in the form in which they are kept, and their file.

Exemplars come in three forms: real images (arrays, or rows of files), slots that are worked on (floats), and slots as
they are kept. Which form is due where is decided here and in `codecs`, nowhere else.
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Iterable
from typing import IO

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pixels import to_uint8
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.memory.codecs import Codec, codec_of, decoded
from mnemonics_tf.memory.pixel_file import PixelFile, as_pixels
from mnemonics_tf.memory.selection import select_herding, select_random
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
        """Bytes of all slots, without labels."""
        return self.codec.num_bytes(self.slots.images)


def codec_for(memory: Memory) -> Codec:
    """The codec that the settings of the memory name."""
    return codec_of(memory.low_resolution, memory.store_floats)


def select(
    memory: Memory,
    data: LabelledImages,
    features: np.ndarray | None,
    num_exemplars: int,
    generator: np.random.Generator,
) -> LabelledImages:
    """The initial exemplars of the classes of `data` (line 10 of Algorithm 1), class after class.

    Args:
      memory: whether they are chosen by herding or at random, and how they are coded.
      data: images of some classes, D_i.
      features: embeddings of `data`, `[n, d]`; only herding needs them.
      num_exemplars: slots of each class; of a class with fewer images as many as they fill.
      generator: for random choices.

    Returns:
      Slots to be worked on: images as they are, or float32 mosaics of consecutive choices.

    Raises:
      ValueError: herding was asked for, and no features were given.
    """
    codec = codec_for(memory)
    positions = [np.zeros(0, np.int64)]
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        count = min(num_exemplars, len(members) // codec.images_per_slot) * codec.images_per_slot
        if count and memory.selection == "herding":
            if features is None:
                raise ValueError("Herding chooses by features, and none were given.")
            chosen = select_herding(features[members], count)
        else:
            chosen = select_random(len(members), count, generator)
        positions.append(members[chosen])
    chosen_images = data.take(np.concatenate(positions))
    if codec.images_per_slot == 1:
        return chosen_images
    slots = codec.encode(in_memory(chosen_images).array)
    return LabelledImages(slots, chosen_images.labels[:: codec.images_per_slot])


def as_kept(slots: LabelledImages, codec: Codec, file: PixelFile | None = None) -> LabelledImages:
    """Slots in the form in which they are kept.

    Args:
      slots: as `select` or the exemplar level left them.
      codec: how slots are kept in memory.
      file: where bare pixels go that must not be held in memory; None holds them.

    Returns:
      Slots that no longer depend on the files that images came from.
    """
    if file is not None:
        return as_pixels(slots, file)
    return dataclasses.replace(slots, images=codec.kept(in_memory(slots).array))


def shrink(memory: Memory, slots: LabelledImages, num_classes: int, generator: np.random.Generator) -> LabelledImages:
    """Cuts every class down to the budget for `num_classes` (line 17 of Algorithm 1; supplement A).

    Args:
      memory: how many stay, and which of them go.
      slots: of any classes.
      num_classes: classes that are known by now, which share a total budget.
      generator: for random choices.
    """
    limit = memory.count(num_classes)
    positions = [np.zeros(0, np.int64)]
    for label in np.unique(slots.labels):
        members = np.flatnonzero(slots.labels == label)
        if memory.discard == "herding":
            # They stand in the order in which herding chose them.
            members = members[:limit]
        elif len(members) > limit:
            members = np.sort(members[select_random(len(members), limit, generator)])
        positions.append(members)
    return slots.take(np.concatenate(positions))


def save_exemplars(path: str, exemplars: LabelledImages, class_order: np.ndarray) -> None:
    """Writes an `.npz` that needs no pickle, and no compression, so that single images can be read from it.

    `images` uint8 `[n, H, W, C]` and `labels` int64 `[n]` (the data set's own class ids). For exemplars kept as floats
    `float_images` float32 on the scale 0..255. For learned labels `soft_labels` float32 `[n, k]`, whose columns are the
    class ids `soft_label_classes` `[k]`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            _write_images(file, exemplars.images)
        arrays = {"labels": class_order[exemplars.labels].astype(np.int64)}
        if exemplars.images.dtype != np.uint8:
            arrays["float_images"] = exemplars.array
        if exemplars.soft_labels is not None:
            arrays["soft_labels"] = exemplars.soft_labels
            arrays["soft_label_classes"] = class_order[: exemplars.soft_labels.shape[1]].astype(np.int64)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_images(file: IO[bytes], images: Images) -> None:
    """An array of uint8, a few images at a time."""
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(images.shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for row in range(len(images)):
        file.write(images.content(row) if isinstance(images, StoredImages) else to_uint8(images[row]).tobytes())


def load_exemplars(path: str, class_order: np.ndarray, streamed: bool = False) -> LabelledImages:
    """Reads what `save_exemplars` wrote; labels become class indices again.

    Args:
      path: of the file.
      class_order: class ids by index.
      streamed: leave the images in the file.
    """
    with np.load(os.fspath(path), allow_pickle=False) as arrays:
        labels = _indices(class_order, arrays["labels"])
        # Columns are in the order of class indices, as they were in memory.
        soft_labels = arrays.get("soft_labels")
        if not streamed:
            images = arrays["float_images"] if "float_images" in arrays else arrays["images"]
            return LabelledImages(images, labels, soft_labels)
    return LabelledImages(_images_in(path), labels, soft_labels)


def _indices(class_order: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The class index of each id. Ids may be any numbers: no table is made of them."""
    sorter = np.argsort(class_order)
    places = np.searchsorted(class_order, ids, sorter=sorter)
    if not np.array_equal(class_order[sorter[np.minimum(places, len(class_order) - 1)]], ids):
        raise ValueError("The exemplars are of classes that are not known.")
    return sorter[places].astype(np.int64)


def _images_in(path: str) -> StoredImages:
    """The rows of `images` in an `.npz`."""
    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, _ = np.lib.format.read_array_header_1_0(member)
        header = member.tell()
        start = archive.getinfo("images.npy").header_offset
    with open(path, "rb") as file:
        # A member's name and further fields stand between its header of 30 bytes and its content.
        file.seek(start + 26)
        name, further = (int.from_bytes(file.read(2), "little") for _ in range(2))
    count, height, width, channels = shape
    return StoredImages.of_pixels(path, start + 30 + name + further + header, count, (height, width, channels))
