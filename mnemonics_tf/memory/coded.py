"""Coded images as rows: codes in memory or in a file, which are decoded when their pixels are asked for."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.memory.formats import DamagedCodeError, Format

_T = TypeVar("_T")
AT_ONCE = 256  # images whose pixels are held while they are coded
_VALUES_A_TASK = 100_000  # small images go to threads many at a time: handing one over costs as much as coding it


@dataclasses.dataclass(frozen=True, eq=False)
class CodeFile:
    """A file of codes, see `data.stored.CodedPieces`.

    Attributes:
      content: its path, or its bytes as a uint8 array.
      format: of every code in it.
    """

    content: str | np.ndarray
    format: Format

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return self.content if isinstance(self.content, str) else "memory"

    def code(self, offset: int, length: int) -> bytes:
        """The code at so many bytes. Raises OSError if the file cannot be read."""
        if not isinstance(self.content, str):
            return self.content[offset : offset + length].tobytes()
        with open(self.content, "rb", buffering=0) as opened:
            return os.pread(opened.fileno(), length, offset)

    def pixels(self, offset: int, length: int) -> bytes:
        """The pixels of the image whose code is at so many bytes. Raises OSError that names file and place."""
        try:
            return self.format.decode(self.code(offset, length)).tobytes()
        except DamagedCodeError as error:
            raise DamagedCodeError(f"{self.name} at byte {offset}: the coded image is damaged, {error}") from error


def rows_of(content: str | np.ndarray, start: int, lengths: np.ndarray, form: Format) -> StoredImages:
    """Codes that stand one after the other from a byte of a file on, as rows.

    Args:
      content: path of the file, or its bytes.
      start: first byte of the first code.
      lengths: number of bytes of each code, `[n]`.
      form: of the codes.
    """
    return StoredImages.of_pieces(CodeFile(content, form), start, lengths, form.image_shape)


def held(codes: Sequence[bytes], form: Format) -> StoredImages:
    """Codes in memory, as rows."""
    lengths = np.array([len(code) for code in codes], np.int64)
    return rows_of(np.frombuffer(b"".join(codes), np.uint8), 0, lengths, form)


def is_held(images: Images) -> bool:
    """Whether images are codes or pixels in memory, so that decoding them reads no file."""
    files = [images.files[file] for file in np.unique(images.file)] if isinstance(images, StoredImages) else []
    return not any(isinstance(file.content if isinstance(file, CodeFile) else file, str) for file in files)


def format_of_rows(images: Images) -> Format | None:
    """The format of rows that are all codes of one; None for any others, and for no row at all."""
    if not isinstance(images, StoredImages):
        return None
    files = [images.files[file] for file in np.unique(images.file)]
    formats = {file.format if isinstance(file, CodeFile) else None for file in files}
    return formats.pop() if len(formats) == 1 else None


def code_of(images: StoredImages, row: int) -> bytes:
    """The code of a row that is one."""
    file = images.files[images.file[row]]
    if not isinstance(file, CodeFile):
        raise ValueError(f"Row {row} is no code: encode it first.")
    return file.code(int(images.offset[row]), int(images.length[row]))


def encoded(images: Images, form: Format) -> list[bytes]:
    """Codes of images `[n, H, W, C]` uint8, in their order; what is a code of the format already stays as it is."""
    codes: list[bytes | None] = [None] * len(images)
    if isinstance(images, StoredImages):
        for row, file in enumerate(images.file):
            owner = images.files[file]
            if isinstance(owner, CodeFile) and owner.format == form:
                codes[row] = code_of(images, row)
    todo = np.array([row for row, code in enumerate(codes) if code is None], np.int64)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(todo), AT_ONCE):
            rows = todo[start : start + AT_ONCE]
            pixels = in_memory(LabelledImages(images[rows], np.zeros(len(rows), np.int64))).array
            for row, code in zip(rows, _each(pool, form.encode, pixels), strict=True):
                codes[row] = code
    return [code for code in codes if code is not None]


def round_trip(images: np.ndarray, form: Format) -> np.ndarray:
    """Images `[n, H, W, C]` uint8 as they come back from a format."""
    result = np.empty_like(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            result[rows] = list(_each(pool, lambda image: form.decode(form.encode(image)), images[rows]))
    return result


def _each(pool: ThreadPoolExecutor, work: Callable[[np.ndarray], _T], images: np.ndarray) -> Iterator[_T]:
    """What `work` makes of each image of `[n, H, W, C]`, in their order, by threads: Pillow lets others work."""
    size = max(1, min(_VALUES_A_TASK // images[0].size, len(images) // (os.cpu_count() or 1)))
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    return itertools.chain.from_iterable(pool.map(lambda part: [work(image) for image in part], parts))
