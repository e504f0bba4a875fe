"""What tells the images of a class from others, wherever they lie, without reading images that are in files."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Callable

import numpy as np

from mnemonics_tf.data.stored import WHOLE_FILE, StoredImages
from mnemonics_tf.data.types import LabelledImages

_MOST_SIZES = 200_000  # files whose sizes are asked for: a file system far away answers a few thousand a second


def class_marks(data: LabelledImages, num_classes: int) -> list[str]:
    """Number of images and a checksum for each label, `[num_classes]` texts such as `500 1f0e9c3b5a7d2e46`.

    The checksum is of pixels in memory; of the lengths of records in files; or of the names of files below the folder
    that they share, with their sizes in bytes where they are not too many. A folder that has moved keeps its checksums.
    """
    known = _knowledge(data.images)
    in_order = np.argsort(data.labels, kind="stable")
    starts = np.searchsorted(data.labels[in_order], np.arange(num_classes + 1))
    marks = []
    for start, end in itertools.pairwise(starts.tolist()):
        checksum = hashlib.sha256(known(in_order[start:end])).hexdigest()
        marks.append(f"{end - start} {checksum[:16]}")
    return marks


def _knowledge(images: np.ndarray | StoredImages) -> Callable[[np.ndarray], bytes]:
    """A function of positions that returns all that is known of those images without decoding any."""
    if isinstance(images, np.ndarray):
        return lambda rows: images[rows].tobytes()
    if not len(images) or (images.length != WHOLE_FILE).any():
        return lambda rows: np.stack([images.offset[rows], images.length[rows]]).astype("<i8").tobytes()
    names = [str(images.files[file]) for file in np.unique(images.file).tolist()]
    root = os.path.commonpath([os.path.dirname(min(names)), os.path.dirname(max(names))])  # what they share, all share
    with_sizes = len(images) <= _MOST_SIZES

    def of_files(rows: np.ndarray) -> bytes:
        lines = []
        for file in images.file[rows].tolist():
            name = str(images.files[file])
            lines.append(f"{unicodedata.normalize('NFC', name[len(root) :])}\0{_size(name) if with_sizes else ''}")
        return "\n".join(lines).encode(errors="surrogateescape")

    return of_files


def _size(file: str) -> int:
    try:
        return os.path.getsize(file)
    except OSError:
        return -1  # a broken link has no size
