"""Images of a TFDS data set sorted by class: one TFRecord file a class and split, with the encoded images as they are.

    <shards_dir>/<name>[/<config>]/<version>/
      .lock               keeps a second builder out
      train/
        00000.tfrecord    images of class id 0, in the order of TFDS; 00001.tfrecord has those of class id 1
        manifest.json     the classes that are complete
        index.npz         where in its file each of their images is
        journal.json      how far the others have come, while there are any
      validation/         the same files of this split

TFDS shuffles images over its files: those of a few classes would be found by reading all of them, in every epoch. Of
these files a run opens what holds its classes, and no others. `sharding` makes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from mnemonics_tf import checks
from mnemonics_tf.data.paths import absolute
from mnemonics_tf.data.prepared import data_root
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.system import files

HEADER = 12  # bytes of a record before its content: the length and a checksum of it
FOOTER = 4  # and after it: a checksum of the content


@dataclasses.dataclass(frozen=True)
class ClassFile:
    """What is in the file of a class.

    Attributes:
      num_source_shards: how many of the data set's own files it has the images of, from the first on.
      num_records: images.
      num_bytes: length of the file.
    """

    num_source_shards: int = 0
    num_records: int = 0
    num_bytes: int = 0


class SplitFolder:
    """The class files of one split. Creating the object touches nothing on disk.

    Args:
      builder: the data set.
      split: its name.
      shards_dir: the folder of all data sets that are sorted by class.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, shards_dir: str):
        self._name = builder.info.full_name
        self.split = split
        self.dataset_path = os.path.join(absolute(shards_dir), *self._name.split("/"))
        self.path = os.path.join(self.dataset_path, split)
        self.source_shards: list[int] = list(map(int, builder.info.splits[split].shard_lengths))
        self._manifest, self._journal, self._index = (
            os.path.join(self.path, name) for name in ("manifest.json", "journal.json", "index.npz")
        )

    def class_file(self, class_id: int) -> str:
        """The path of the images of a class."""
        return os.path.join(self.path, f"{class_id:05d}.tfrecord")

    def complete(self) -> dict[int, ClassFile]:
        """The classes that have all their images. Raises UsageError if the manifest is damaged or out of date."""
        return self._read(self._manifest)

    def unfinished(self) -> dict[int, ClassFile]:
        """How far the other classes have come. Raises UsageError if the journal is damaged or out of date."""
        return self._read(self._journal)

    def write_unfinished(self, classes: Mapping[int, ClassFile]) -> None:
        """Replaces the journal in one step; without classes there is none."""
        if classes:
            self._write(self._journal, classes)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._journal)

    def write_complete(self, classes: Mapping[int, ClassFile], lengths: Mapping[int, np.ndarray]) -> None:
        """Replaces index and manifest, each in one step.

        Args:
          classes: all that are complete.
          lengths: bytes of each image of each of these classes, `[num_records]` int64.
        """
        ids = sorted(classes)
        # In this order: an index of more classes than the manifest has does no harm.
        with files.replacing(self._index) as file:
            np.savez(
                file,
                class_ids=np.array(ids, np.int64),
                num_records=np.array([len(lengths[class_id]) for class_id in ids], np.int64),
                offsets=np.concatenate([offsets(lengths[class_id]) for class_id in ids]),
                lengths=np.concatenate([lengths[class_id] for class_id in ids]),
            )
        self._write(self._manifest, classes)

    def lengths(self, classes: Mapping[int, ClassFile]) -> dict[int, np.ndarray]:
        """Bytes of each image of complete classes, `[num_records]` int64 each.

        Raises:
          UsageError: the index is missing, damaged, or at odds with the manifest.
        """
        if not classes:
            return {}
        try:
            # Opened here, because NumPy leaves a file open that turns out to be no archive.
            with open(self._index, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                ids, counts, starts, sizes = (
                    arrays[name] for name in ("class_ids", "num_records", "offsets", "lengths")
                )
            ends = np.cumsum(counts)
            spans = {int(each): slice(end - n, end) for each, end, n in zip(ids, ends, counts, strict=True)}
            found = {class_id: (starts[spans[class_id]], sizes[spans[class_id]]) for class_id in classes}
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            raise self.damaged(self._index) from None
        for class_id, expected in classes.items():
            start, size = found[class_id]
            length = int(np.sum(size + (HEADER + FOOTER)))
            if (len(size), length) != (expected.num_records, expected.num_bytes) or (start != offsets(size)).any():
                raise self.damaged(self._index)
        return {class_id: size for class_id, (_, size) in found.items()}

    def check_files(self, classes: Mapping[int, ClassFile]) -> None:
        """Raises UsageError if the file of a complete class is missing or has another length than it was built with."""
        for class_id, expected in classes.items():
            file = self.class_file(class_id)
            if not os.path.isfile(file) or os.path.getsize(file) != expected.num_bytes:
                raise self.damaged(file)

    def open(self, class_ids: np.ndarray, image_size: int, resized_side: int | None) -> LabelledImages:
        """The images of some complete classes, class after class; nothing of them is read.

        Args:
          class_ids: `[k]`; a label is a class's place among them.
          image_size: side of the squares that they become, in pixels.
          resized_side: to which the shorter side is brought before the centre is cut out; None for `image_size`.

        Raises:
          UsageError: a file is missing or has another length than it was built with, or there is no image at all.
        """
        ids = class_ids.tolist()
        complete = self.complete()
        if not complete.keys() >= set(ids):
            raise self.damaged(self._manifest)
        classes = {class_id: complete[class_id] for class_id in ids}
        self.check_files(classes)
        by_class = self.lengths(classes)
        labels = np.repeat(np.arange(len(ids)), [len(by_class[class_id]) for class_id in ids])
        if not len(labels):
            raise checks.UsageError(
                f"Data set {self._name!r}: no {self.split} image of the {len(ids)} classes asked for."
            )
        images = StoredImages(
            files=tuple(map(self.class_file, ids)),
            file=labels,
            offset=np.concatenate([offsets(by_class[class_id]) for class_id in ids]),
            length=np.concatenate([by_class[class_id] for class_id in ids]),
            is_pixels=np.zeros(len(labels), bool),
            image_shape=(image_size, image_size, 3),
            resized_side=resized_side or image_size,
        )
        return LabelledImages(images, labels)

    def damaged(self, path: str) -> checks.UsageError:
        """The error of a file that is not as it was written."""
        return checks.UsageError(
            f"{path} is missing or was damaged since it was built. Delete the folder {self.path} to build it anew from "
            "the data set."
        )

    def _read(self, path: str) -> dict[int, ClassFile]:
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            classes = {int(class_id): ClassFile(**each) for class_id, each in found["classes"].items()}
            source_shards = found["source_shards"]
            numbers = [value for each in classes.values() for value in dataclasses.astuple(each)]
            if not all(isinstance(value, int) and value >= 0 for value in numbers):
                raise ValueError
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self.damaged(path) from None
        if source_shards != self.source_shards:
            raise checks.UsageError(
                f"{self.path} was built from other files of {self._name!r} than those that are there now. Delete that "
                "folder to build it anew."
            )
        return classes

    def _write(self, path: str, classes: Mapping[int, ClassFile]) -> None:
        name, _, version = self._name.rpartition("/")
        text = json.dumps(
            {
                "name": name,
                "version": version,
                "split": self.split,
                "source_shards": self.source_shards,
                "classes": {str(class_id): dataclasses.asdict(each) for class_id, each in sorted(classes.items())},
            }
        )
        files.write_text(path, text)


def split_folders(
    builder: tfds.core.DatasetBuilder, splits: Sequence[str], shards_dir: str | None
) -> list[SplitFolder]:
    """The class files of some splits. Touches nothing on disk.

    Args:
      builder: the data set.
      splits: their names.
      shards_dir: the folder of all data sets that are sorted by class; None for `class_shards` among the data of TFDS.

    Raises:
      UsageError: the folder is no text.
    """
    if shards_dir is None:
        shards_dir = os.path.join(data_root(builder), "class_shards")
    if not isinstance(shards_dir, str) or not shards_dir:
        raise checks.UsageError(f"tfds.shards_dir = {shards_dir!r}: expected a folder, or None for one among the data.")
    return [SplitFolder(builder, split, shards_dir) for split in splits]


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where in a TFRecord file the contents of the given lengths start, `[n]` int64."""
    ends = np.cumsum(lengths + (HEADER + FOOTER), dtype=np.int64)
    return ends - lengths - FOOTER
