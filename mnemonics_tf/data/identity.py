"""What tells the images of a class from others, wherever they lie, without reading images that are in files."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator

import numpy as np

from mnemonics_tf.data.stored import WHOLE_FILE, StoredImages
from mnemonics_tf.data.types import LabelledImages

_MOST_SIZES = 200_000  # files whose sizes are asked for: a file system far away answers a few thousand a second


def class_marks(data: LabelledImages, num_classes: int) -> list[str]:
    """Number of images and a checksum for each label, `[num_classes]` texts such as `500 1f0e9c3b5a7d2e46`.

    The checksum is of pixels in memory; of the lengths of records in files; or of the names of files below the folder
    that they share, with their sizes in bytes where they are not too many. A folder that has moved keeps its checksums.
    """
    texts = _texts(data.images)
    marks = []
    for label in range(num_classes):
        members = np.flatnonzero(data.labels == label)
        digest = hashlib.sha256()
        for content in texts(members):
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
        marks.append(f"{len(members)} {digest.hexdigest()[:16]}")
    return marks


def _texts(images: np.ndarray | StoredImages):
    """A function of positions that yields what is known of each image without decoding it."""
    if isinstance(images, np.ndarray):
        return lambda members: (np.ascontiguousarray(images[member]).data.cast("B") for member in members)
    names = [images.files[file] for file in np.unique(images.file).tolist() if isinstance(images.files[file], str)]
    whole = names and (images.length == WHOLE_FILE).all()
    root = os.path.commonpath([os.path.dirname(name) for name in names]) if whole else ""
    with_sizes = len(images) <= _MOST_SIZES

    def of_rows(members: np.ndarray) -> Iterator[bytes]:
        for member in members:
            file = images.files[images.file[member]]
            if root and isinstance(file, str):
                yield unicodedata.normalize("NFC", os.path.relpath(file, root)).encode(errors="surrogateescape")
                yield str(_size(file) if with_sizes else "").encode()
            else:
                yield f"{images.offset[member]} {images.length[member]}".encode()

    return of_rows


def _size(file: str) -> int:
    try:
        return os.path.getsize(file)
    except OSError:
        return -1  # a broken link: as good as any other mark
