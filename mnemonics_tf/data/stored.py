"""Images that stay in files until they are needed.

A row names a piece of a file: an image file, a record among others, or bare pixels. Rows can be chosen and joined
without opening anything, so a phase touches the bytes of its own images and of no others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

WHOLE_FILE = -1  # a length


class CodedPieces(Protocol):
    """A file that holds images in a code of its own, and hands them out as bare pixels."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""

    def pixels(self, offset: int, length: int) -> bytes:
        """The uint8 pixels of the image whose code is at so many bytes. Raises OSError if there is none."""


@dataclasses.dataclass(frozen=True)
class StoredImages:
    """Rows of images `[H, W, C]`, each a piece of a file: encoded (JPEG, PNG, ...), or uint8 pixels as they are.

    It has the shape and the indexing of the array that it stands for. `data.decoding` turns rows into pixels.

    Attributes:
      files: paths, uint8 arrays that stand for files in memory, or pieces whose rows are pixels once they are read.
      file: which of them holds each row, `[n]`.
      offset: first byte of each row, `[n]`.
      length: number of bytes, `[n]`; `WHOLE_FILE` for all that the file has.
      is_pixels: whether the bytes are pixels, `[n]` bool.
      image_shape: `(H, W, C)` of every image once it is decoded.
      resized_side: pixels to which the shorter side of an encoded image is brought before its centre is cut out.
      may_be_turned: whether an image may have another EXIF orientation than upright; False once all have been looked
        at, which saves asking again in every epoch.
    """

    files: tuple[str | np.ndarray | CodedPieces, ...]
    file: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    is_pixels: np.ndarray
    image_shape: tuple[int, int, int]
    resized_side: int
    may_be_turned: bool = True

    dtype = np.dtype(np.uint8)

    @classmethod
    def of_files(cls, files: Sequence[str], image_size: int, resized_side: int | None = None) -> StoredImages:
        """One encoded image a file; `resized_side` is the size itself unless it is given."""
        count = len(files)
        return cls(
            tuple(files),
            np.arange(count),
            np.zeros(count, np.int64),
            np.full(count, WHOLE_FILE, np.int64),
            np.zeros(count, bool),
            (image_size, image_size, 3),
            resized_side or image_size,
        )

    @classmethod
    def of_pixels(
        cls, file: str | np.ndarray, offset: int, count: int, image_shape: tuple[int, int, int]
    ) -> StoredImages:
        """`count` images of bare pixels, one after the other from byte `offset` of a file on."""
        lengths = np.full(count, int(np.prod(image_shape)), np.int64)
        return cls.of_pieces(file, offset, lengths, image_shape)

    @classmethod
    def of_pieces(
        cls,
        file: str | np.ndarray | CodedPieces,
        offset: int,
        lengths: np.ndarray,
        image_shape: tuple[int, int, int],
        resized_side: int | None = None,
    ) -> StoredImages:
        """Images that stand one after the other from byte `offset` of a file on, of so many bytes each, `[n]`.

        They are pixels once they are read; encoded ones, as files of images hold them, if `resized_side` is given.
        """
        lengths, count = lengths.astype(np.int64), len(lengths)
        offsets = offset + np.cumsum(lengths) - lengths
        encoded = resized_side is not None
        pixels, side = np.full(count, not encoded), resized_side or image_shape[0]
        return cls((file,), np.zeros(count, np.int64), offsets, lengths, pixels, image_shape, side, encoded)

    @classmethod
    def of_array(cls, images: np.ndarray) -> StoredImages:
        """Images in memory, `[n, H, W, C]` uint8. Raises ValueError for another dtype."""
        if images.dtype != cls.dtype:
            raise ValueError(f"Images are {images.dtype}: expected {cls.dtype}, as stored images are.")
        _, height, width, channels = images.shape
        return cls.of_pixels(np.ascontiguousarray(images), 0, len(images), (height, width, channels))

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, H, W, C)`."""
        return (len(self), *self.image_shape)

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, rows: Any) -> StoredImages:
        """The rows at some positions (or of a mask or slice), in that order."""
        return dataclasses.replace(
            self,
            file=self.file[rows],
            offset=self.offset[rows],
            length=self.length[rows],
            is_pixels=self.is_pixels[rows],
        )

    def joined(self, other: StoredImages | np.ndarray) -> StoredImages:
        """These rows followed by others, or by images in memory.

        Raises:
          ValueError: images of another shape, or in memory and not uint8.
        """
        if tuple(other.shape[1:]) != self.image_shape or other.dtype != self.dtype:
            raise ValueError(
                f"Images {other.dtype} {tuple(other.shape[1:])} cannot follow stored images {self.dtype} "
                f"{self.image_shape}: expected the same shape and uint8."
            )
        if isinstance(other, np.ndarray):
            other = StoredImages.of_array(other)
        # Bare pixels have no side to be brought to.
        side = other.resized_side if self.is_pixels.all() else self.resized_side
        # Rows of one data set share its million paths.
        files, shift = (self.files, 0) if self.files is other.files else (self.files + other.files, len(self.files))
        return StoredImages(
            files,
            np.concatenate([self.file, other.file + shift]),
            np.concatenate([self.offset, other.offset]),
            np.concatenate([self.length, other.length]),
            np.concatenate([self.is_pixels, other.is_pixels]),
            self.image_shape,
            side,
            self.may_be_turned or other.may_be_turned,
        )

    def content(self, row: int) -> bytes:
        """The bytes of a row. Raises OSError if the file cannot be read, or has become shorter."""
        file, offset, length = self.files[self.file[row]], int(self.offset[row]), int(self.length[row])
        if isinstance(file, np.ndarray):
            return file.reshape(-1)[offset : offset + length].tobytes()
        if not isinstance(file, str):
            return file.pixels(offset, length)
        with open(file, "rb", buffering=0) as opened:
            if length == WHOLE_FILE:
                return opened.readall()
            content = os.pread(opened.fileno(), length, offset)
        if len(content) != length:
            raise OSError(f"{file} has become shorter since it was listed")
        return content

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        file, offset = self.files[self.file[row]], int(self.offset[row])
        name = file if isinstance(file, str) else "memory" if isinstance(file, np.ndarray) else file.name
        return name if self.length[row] == WHOLE_FILE else f"{name} at byte {offset}"

    def checksum(self) -> str:
        """SHA-256 of all contents in their order: reads every byte."""
        digest = hashlib.sha256()
        for row in range(len(self)):
            content = self.content(row)
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
        return digest.hexdigest()
