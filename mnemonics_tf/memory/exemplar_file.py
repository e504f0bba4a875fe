"""The file that exemplars are kept in, `exemplars.npz`: written, read for training, and read by anybody."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data.decoding import evaluated
from mnemonics_tf.data.headers import UnreadableImageError
from mnemonics_tf.data.pixels import to_uint8
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.memory import codecs, source_files
from mnemonics_tf.memory.coded import CodeFile, code_of, format_of_rows, rows_of
from mnemonics_tf.memory.formats import VERSION, Format
from mnemonics_tf.memory.settings import CODECS
from mnemonics_tf.system import archives

_MEND = "Take a copy of it, or delete its phase's folder and all later ones to train them again"


@dataclasses.dataclass(frozen=True)
class Exemplars:
    """What an `exemplars.npz` holds, as anybody can use it.

    Attributes:
      images: `[n, H, W, C]` uint8; coded ones are decoded, and the images of mosaics upsampled.
      labels: the data set's own class ids, `[n]` int64.
      soft_labels: probabilities `[n, k]` float32 of the classes of `soft_label_classes`; None unless they were learned.
      soft_label_classes: class ids, `[k]` int64; None unless there are soft labels.
    """

    images: np.ndarray
    labels: np.ndarray
    soft_labels: np.ndarray | None = None
    soft_label_classes: np.ndarray | None = None


def read_exemplars(path: str | os.PathLike) -> Exemplars:
    """Reads any `exemplars.npz`; how its images are kept stands in it.

    Raises:
      UsageError: it is missing or damaged, or of a later version. A damaged image is named by class and number.
    """
    path = os.fspath(path)
    try:
        with archives.reading(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        labels, images = found["labels"], _images_of(path, found)
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise ValueError(f"labels {labels.shape} of the type {labels.dtype} for images {images.shape}")
        if len(images) and (images.dtype != np.uint8 or images.ndim != 4 or not images.size):
            raise ValueError(f"images {images.shape} of the type {images.dtype}")
    except checks.UsageError:
        raise
    except archives.DAMAGES as error:
        raise checks.UsageError(f"{path} is damaged: {str(error).partition(chr(10))[0]}. {_MEND}.") from error
    soft, factor = found.get("soft_labels"), int(found.get("low_resolution", 1))
    if factor > 1:
        images = to_uint8(codecs.decode(tf.constant(images, tf.float32), factor).numpy())
        labels = np.repeat(labels, factor**2)
        soft = None if soft is None else np.repeat(soft, factor**2, axis=0)
    return Exemplars(images, labels, soft, found.get("soft_label_classes"))


def save_exemplars(
    path: str, exemplars: LabelledImages, class_order: np.ndarray, codec: codecs.Codec | None = None
) -> None:
    """Writes an `.npz` that needs no pickle, and no compression, so that single images can be read from it.

    `labels` int64 `[n]` (the data set's own class ids) and `images` uint8 `[n, H, W, C]`. For exemplars kept as floats
    also `float_images` float32 on the scale 0..255; for mosaics `low_resolution`, their factor. In the place of
    `images`, coded ones are `codes` uint8, one code after the other, and `lengths` uint32 `[n]`, with what `head_of`
    says; files that are kept as they came are the same, with `source` (see `source_files.head_of`). For learned labels
    `soft_labels` float32 `[n, k]`, whose columns are the class ids `soft_label_classes` `[k]`.

    Args:
      path: of the file.
      exemplars: as they are kept.
      class_order: class ids by index.
      codec: makes images of them; needed for mosaics alone.
    """
    form = format_of_rows(exemplars.images)
    files = source_files.files_in(exemplars.images)
    lengths = np.zeros(0, np.int64) if files is None else source_files.sizes(files)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        name = "images" if form is None and files is None else "codes"
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            if files is not None:
                _write_header(file, (int(lengths.sum()),))
                source_files.write(file, files, lengths)
            elif form is not None:
                _write_codes(file, exemplars.images)
            else:
                _write_images(file, exemplars.images)
        arrays = {"labels": class_order[exemplars.labels].astype(np.int64)}
        if exemplars.images.dtype != np.uint8:
            arrays["float_images"] = exemplars.array
        if isinstance(codec, codecs.Mosaic):
            arrays["low_resolution"] = np.array(codec.factor, np.int64)
        if form is not None and isinstance(exemplars.images, StoredImages):
            arrays |= {"lengths": exemplars.images.length.astype(np.uint32), **head_of(form)}
        if files is not None:
            arrays |= {"lengths": lengths.astype(np.uint32), "source": source_files.head_of(files)}
        if exemplars.soft_labels is not None:
            arrays["soft_labels"] = exemplars.soft_labels
            arrays["soft_label_classes"] = class_order[: exemplars.soft_labels.shape[1]].astype(np.int64)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def head_of(form: Format) -> dict[str, np.ndarray]:
    """What all codes of a memory share, as arrays of its file: what they are, and what stands in front of each."""
    return {
        "codec": np.array([VERSION, CODECS.index(form.name), form.quality, *form.image_shape], np.int32),
        "head": np.frombuffer(form.head, np.uint8),
    }


def _write_images(file: IO[bytes], images: Images) -> None:
    """An array of uint8, a few images at a time."""
    _write_header(file, tuple(images.shape))
    for row in range(len(images)):
        file.write(images.content(row) if isinstance(images, StoredImages) else to_uint8(images[row]).tobytes())


def _write_codes(file: IO[bytes], images: Any) -> None:
    """Codes, one after the other."""
    _write_header(file, (int(images.length.sum()),))
    for row in range(len(images)):
        file.write(code_of(images, row))


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """What stands in front of an array of uint8."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def load_exemplars(path: str, class_order: np.ndarray, streamed: bool = False) -> LabelledImages:
    """Reads what `save_exemplars` wrote, in the form in which it is kept; labels become class indices again.

    Args:
      path: of the file.
      class_order: class ids by index.
      streamed: leave the images, or codes, in the file.

    Raises:
      ValueError: it is damaged, or of other classes.
    """
    with archives.reading(os.fspath(path)) as arrays:
        labels = _indices(class_order, arrays["labels"])
        # Columns are in the order of class indices, as they were in memory.
        soft_labels = arrays.get("soft_labels")
        if "codes" in arrays:
            content, start = (path, _content_of(path, "codes")[1]) if streamed else (arrays["codes"], 0)
            return LabelledImages(_rows_in(arrays, path, content, start), labels, soft_labels)
        if not streamed:
            images = arrays["float_images"] if "float_images" in arrays else arrays["images"]
            return LabelledImages(images, labels, soft_labels)
    shape, start = _content_of(path, "images")
    count, height, width, channels = shape
    return LabelledImages(StoredImages.of_pixels(path, start, count, (height, width, channels)), labels, soft_labels)


def _images_of(path: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """All images of a file, uint8; mosaics as they are.

    Raises:
      UsageError: a code is damaged.
    """
    if "codes" not in arrays:
        return arrays["images"]
    labels, rows = arrays["labels"], _rows_in(arrays, path, arrays["codes"], 0)
    if len(rows) != len(labels) or rows.length.sum() != len(arrays["codes"]):
        raise ValueError("its codes, lengths and labels do not fit together")
    images = np.empty(rows.shape, np.uint8)
    for row in range(len(rows)):
        try:
            images[row] = _decoded(rows, row)
        except (OSError, UnreadableImageError, tf.errors.OpError) as error:
            number = int((labels[:row] == labels[row]).sum())
            raise checks.UsageError(
                f"{path}: exemplar {number} of class {labels[row]} is damaged ({_reason(error)}). {_MEND}."
            ) from error
    return images


def _rows_in(arrays: Mapping[str, np.ndarray], path: str, content: str | np.ndarray, start: int) -> StoredImages:
    """Codes, or files as they came, from a byte of `content` on: the file's path, or what it holds."""
    if "source" in arrays:
        return source_files.rows_of(content, start, arrays["lengths"], arrays["source"])
    return rows_of(content, start, arrays["lengths"], _format_in(arrays, path))


def _decoded(rows: StoredImages, row: int) -> np.ndarray:
    file = rows.files[rows.file[row]]
    return file.format.decode(code_of(rows, row)) if isinstance(file, CodeFile) else evaluated(rows, row)


def _reason(error: Exception) -> str:
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    return text.partition("\n")[0]


def _format_in(arrays: Mapping[str, np.ndarray], path: str) -> Format:
    version, name, quality, *shape = arrays["codec"].tolist()
    if version != VERSION:
        raise checks.UsageError(
            f"{path} holds codes of version {version}, and this version of mnemonics_tf reads version {VERSION}. Read "
            "it with the version that wrote it."
        )
    height, width, channels = shape
    return Format(CODECS[name], quality, (height, width, channels), arrays["head"].tobytes())


def _indices(class_order: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The class index of each id. Ids may be any numbers: no table is made of them."""
    sorter = np.argsort(class_order)
    places = np.searchsorted(class_order, ids, sorter=sorter)
    if not np.array_equal(class_order[sorter[np.minimum(places, len(class_order) - 1)]], ids):
        raise ValueError("The exemplars are of classes that are not known.")
    return sorter[places].astype(np.int64)


def _content_of(path: str, name: str) -> tuple[tuple[int, ...], int]:
    """Shape of an array in an `.npz`, and where in the file its bytes begin."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, _ = np.lib.format.read_array_header_1_0(member)
        header = member.tell()
        start = archive.getinfo(f"{name}.npy").header_offset
    with open(path, "rb") as file:
        # A member's name and further fields stand between its header of 30 bytes and its content.
        file.seek(start + 26)
        name_length, further = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return shape, start + 30 + name_length + further + header
