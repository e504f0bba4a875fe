"""The exemplar memory: its budget, and its file."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Sequence
from typing import IO

import gin
import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.class_order import index_of_id
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pixels import to_uint8
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.memory.codecs import Codec, codec_of, decoded
from mnemonics_tf.memory.selection import select_herding, select_random

SELECTIONS = ("herding", "random")
STRATEGIES = ("mnemonics", *SELECTIONS)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ExemplarMemory:
    """Which exemplars are kept and how many.

    Attributes:
      strategy: `mnemonics` starts from real images and learns them; `herding` and `random` keep real images.
      initial: what `mnemonics` starts from: `random` (as in the paper) or `herding`.
      per_class: exemplars of each class (the paper's main setting), 0 for none at all; ignored where `total` is set.
      total: budget for all classes together, dealt out evenly and rounded down (supplement A); None for no such limit.
      discard: which exemplars of old classes go when a total budget shrinks: a `random` choice (supplement A), or those
        that `herding` chose last.
      adjust: adjust the exemplars of old classes in every phase (Eq. 10), whatever the strategy.
      store_floats: keep learned exemplars as float32 rather than rounding them to uint8, at four times the space.
      low_resolution: f; each exemplar is a mosaic of f * f images of its class at 1/f of the resolution, which are
        upsampled for training. 1 for whole images.
    """

    strategy: str = "mnemonics"
    initial: str = "random"
    per_class: int = 20
    total: int | None = None
    discard: str = "random"
    adjust: bool = True
    store_floats: bool = False
    low_resolution: int = 1

    def __post_init__(self):
        checks.check_choice("ExemplarMemory.strategy", self.strategy, STRATEGIES)
        checks.check_choice("ExemplarMemory.initial", self.initial, SELECTIONS)
        checks.check_choice("ExemplarMemory.discard", self.discard, SELECTIONS)
        checks.check_non_negative_integer(**{"ExemplarMemory.per_class": self.per_class})
        checks.check_positive_integer(**{"ExemplarMemory.low_resolution": self.low_resolution})
        checks.check_bool(**{"ExemplarMemory.adjust": self.adjust, "ExemplarMemory.store_floats": self.store_floats})
        if self.total is not None:
            checks.check_positive_integer(**{"ExemplarMemory.total": self.total})
        elif self.discard == "herding":
            raise checks.UsageError(
                "ExemplarMemory.discard = 'herding': a budget a class discards nothing. Set ExemplarMemory.total, or "
                "leave it out."
            )
        if self.discard == "herding" and self.selection != "herding":
            raise checks.UsageError(
                "ExemplarMemory.discard = 'herding': exemplars that were chosen at random have no such order. Set "
                f"ExemplarMemory.{'initial' if self.strategy == 'mnemonics' else 'strategy'} = 'herding'."
            )
        if not self.keeps and (self.learns or self.adjust):
            raise checks.UsageError(
                "ExemplarMemory.per_class = 0: there is nothing to learn or adjust. Raise it, or set "
                "ExemplarMemory.strategy = 'herding' and ExemplarMemory.adjust = False."
            )

    @property
    def keeps(self) -> bool:
        """Whether any exemplars are kept."""
        return self.total is not None or self.per_class > 0

    @property
    def learns(self) -> bool:
        """Whether the exemplars of new classes are learned."""
        return self.strategy == "mnemonics"

    @property
    def selection(self) -> str:
        """How real images are chosen: `herding` or `random`."""
        return self.initial if self.learns else self.strategy

    @property
    def codec(self) -> Codec:
        """How exemplars are stored."""
        return codec_of(self.low_resolution, self.store_floats)

    @property
    def mode(self) -> str:
        """The kind of budget, as reported in results: `per_class_20`, `total_2000` or `none`."""
        if not self.keeps:
            return "none"
        return f"per_class_{self.per_class}" if self.total is None else f"total_{self.total}"

    def count(self, num_classes: int) -> int:
        """Exemplars of each class once `num_classes` are known."""
        return self.per_class if self.total is None else self.total // num_classes

    def check_fits(self, phase_sizes: Sequence[int], class_sizes: Sequence[int], num_parts: int) -> None:
        """Checks the budget against the data before anything is trained.

        A class is asked for as many images as it has exemplars in the phase where it arrives, which with a total budget
        are fewer in later phases.

        Args:
          phase_sizes: number of new classes in each phase.
          class_sizes: number of training images of each class index, `[num_classes]`.
          num_parts: parts into which adjusting splits each class.

        Raises:
          UsageError: a class has too few images, or the budget leaves a class too few exemplars.
        """
        if not self.keeps:
            return
        binding = f"ExemplarMemory.per_class = {self.per_class}"
        if self.total is not None:
            binding = f"ExemplarMemory.total = {self.total}"
        least, known = self.count(sum(phase_sizes)), 0
        for phase, size in enumerate(phase_sizes):
            known += size
            images = self.count(known) * self.low_resolution**2
            smallest = min(class_sizes[known - size : known])
            if images > smallest:
                raise checks.UsageError(
                    f"{binding} asks for {images} images of a class in phase {phase}, but the smallest class there has "
                    f"{smallest} training images. Lower it{' or low_resolution' if self.low_resolution > 1 else ''}."
                )
        if least < 1:
            raise checks.UsageError(
                f"{binding} leaves no exemplar for some of {sum(phase_sizes)} classes. Raise it to "
                f"{sum(phase_sizes)} or more."
            )
        if self.adjust and len(phase_sizes) > 1 and least < num_parts:
            raise checks.UsageError(
                f"{binding} leaves {least} exemplars of a class, but adjusting splits each class in {num_parts} parts. "
                "Raise it, or set ExemplarMemory.adjust = False."
            )

    def check_image_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UsageError if images `(H, W, C)` cannot be stored at the low resolution."""
        if any(side % self.low_resolution for side in image_shape[:2]):
            raise checks.UsageError(
                f"ExemplarMemory.low_resolution = {self.low_resolution}: expected a divisor of both sides of the "
                f"images, {image_shape[0]} x {image_shape[1]}."
            )

    def select(
        self, data: LabelledImages, features: np.ndarray | None, num_exemplars: int, generator: np.random.Generator
    ) -> LabelledImages:
        """The initial exemplars of new classes (line 10 of Algorithm 1), class after class.

        Args:
          data: D_i.
          features: embeddings of `data`, `[n, d]`; only herding needs them.
          num_exemplars: of each class.
          generator: for random choices.

        Returns:
          Exemplars as they are stored; with low resolution float32 mosaics, each of consecutive choices.
        """
        count = num_exemplars * self.low_resolution**2
        positions = []
        for label in np.unique(data.labels):
            members = np.flatnonzero(data.labels == label)
            if count and self.selection == "herding":
                if features is None:
                    raise ValueError("Herding chooses by features, and none were given.")
                chosen = select_herding(features[members], count)
            else:
                chosen = select_random(len(members), count, generator)
            positions.append(members[chosen])
        chosen_images = data.take(np.concatenate(positions))
        if self.low_resolution == 1:
            return chosen_images
        slots = self.codec.encode(in_memory(chosen_images).array)
        return LabelledImages(slots, chosen_images.labels[:: self.low_resolution**2])

    def decoded(self, exemplars: LabelledImages) -> LabelledImages:
        """What networks are trained on: the exemplars themselves, or the images of their mosaics."""
        return decoded(exemplars, self.codec)

    def shrink(self, exemplars: LabelledImages, num_classes: int, generator: np.random.Generator) -> LabelledImages:
        """Cuts every class down to the budget for `num_classes` (line 17; supplement A)."""
        limit = self.count(num_classes)
        kept = [np.zeros(0, np.int64)]
        for label in np.unique(exemplars.labels):
            members = np.flatnonzero(exemplars.labels == label)
            if self.discard == "herding":
                # They stand in the order in which herding chose them.
                members = members[:limit]
            elif len(members) > limit:
                members = np.sort(members[select_random(len(members), limit, generator)])
            kept.append(members)
        return exemplars.take(np.concatenate(kept))

    def storable(self, exemplars: LabelledImages) -> LabelledImages:
        """The exemplars as they are kept: uint8, unless floats are asked for."""
        if self.store_floats or isinstance(exemplars.images, StoredImages):
            return exemplars
        return dataclasses.replace(exemplars, images=self.codec.kept(exemplars.images))

    def check_stored(self) -> None:
        """Raises UsageError for what needs all exemplars in memory, where images stay in files."""
        wanted = {"store_floats": (self.store_floats, False), "low_resolution": (self.low_resolution, 1)}
        for name, (value, expected) in wanted.items():
            if value != expected:
                raise checks.UsageError(
                    f"ExemplarMemory.{name} = {value}: exemplars of a data set that is streamed from files are uint8 "
                    f"images in a file. Set {name} = {expected}, or keep the data set in memory (its in_memory = True)."
                )

    def check_readable(self, data: LabelledImages, class_names: Sequence[str]) -> None:
        """Raises UsageError if too few images of a class could be read.

        Args:
          data: D_i, whose classes are the last that are known.
          class_names: by class index.
        """
        if not self.keeps:
            return
        needed = self.count(int(data.labels.max()) + 1) * self.low_resolution**2
        for label, count in zip(*np.unique(data.labels, return_counts=True), strict=True):
            if count < needed:
                setting = "per_class" if self.total is None else "total"
                raise checks.UsageError(
                    f"Class {class_names[label]!r} has {count} images that can be read, and {needed} are needed for "
                    f"its exemplars. Add images, or lower ExemplarMemory.{setting} in a new run."
                )


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
        labels = index_of_id(class_order, int(class_order.max()) + 1)[arrays["labels"]]
        # Columns are in the order of class indices, as they were in memory.
        soft_labels = arrays.get("soft_labels")
        if not streamed:
            images = arrays["float_images"] if "float_images" in arrays else arrays["images"]
            return LabelledImages(images, labels, soft_labels)
    return LabelledImages(_images_in(path), labels, soft_labels)


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
