"""Formats of pictures that a memory may keep images in: one image, encoded and decoded by Pillow.

A *code* is what remains of an encoded picture once everything is taken off that all pictures of one size and quality
have in common, or that follows from the rest: signatures, tables, lengths. The common part is kept once a memory. With
it, a code is again the file that any other program reads.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from mnemonics_tf.checks import UsageError

VERSION = 1  # of what a code is

_RIFF = 20  # bytes in front of the pixels of a simple WebP file: two names, two lengths, and the kind
_TAILS = {"png": b"\0\0\0\0IEND\xaeB`\x82", "jpeg": b"\xff\xd9", "webp": b""}
_PNG_HEAD = 33  # bytes: signature and size
_DECODED_AS = {1: "L", 3: "RGB"}


class DamagedCodeError(OSError):
    """A code is not that of an image of the expected size. Its text is the reason, without a full stop."""


@dataclasses.dataclass(frozen=True)
class Format:
    """How images of one size become codes, and codes images. The same pixels give the same code every time.

    Attributes:
      name: `png`, `webp` or `jpeg`.
      quality: 1 to 100; png, which loses nothing, looks at none.
      image_shape: `(H, W, C)`, of one channel or three.
      head: what stands in front of every code; empty for webp, whose head follows from the code.
    """

    name: str
    quality: int
    image_shape: tuple[int, int, int]
    head: bytes

    def encode(self, image: np.ndarray) -> bytes:
        """The code of an image `[H, W, C]` uint8. Raises ValueError for another shape or dtype."""
        if image.shape != self.image_shape or image.dtype != np.uint8:
            raise ValueError(f"An image is {image.dtype} {image.shape}: expected uint8 {self.image_shape}.")
        content = _encoded(self.name, self.quality, image)
        if self.name == "webp":
            return content[_RIFF : _RIFF + int.from_bytes(content[_RIFF - 4 : _RIFF], "little")]
        if not content.startswith(self.head):
            raise ValueError(f"Pillow has encoded a {self.name} image with another head than the first one.")
        return content[len(self.head) :].removesuffix(_TAILS[self.name])

    def file(self, code: bytes) -> bytes:
        """The picture file of a code, as other programs read it."""
        if self.name == "webp":
            padded = code + b"\0" * (len(code) % 2)
            sizes = [size.to_bytes(4, "little") for size in (len(padded) + 12, len(code))]
            return b"RIFF" + sizes[0] + b"WEBPVP8 " + sizes[1] + padded
        return self.head + code + _TAILS[self.name]

    def decode(self, code: bytes) -> np.ndarray:
        """The image `[H, W, C]` uint8 of a code. Raises DamagedCodeError if it is that of no such image."""
        height, width, channels = self.image_shape
        try:
            with Image.open(io.BytesIO(self.file(code)), formats=[self.name]) as picture:
                if picture.size != (width, height):
                    raise DamagedCodeError(f"it shows {picture.size[1]} x {picture.size[0]} pixels")
                pixels = np.asarray(picture.convert(_DECODED_AS[channels]))
        except DamagedCodeError:
            raise
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise DamagedCodeError(str(error).partition("\n")[0] or type(error).__name__) from error
        return pixels.reshape(self.image_shape)


@functools.cache
def format_for(name: str, quality: int, image_shape: tuple[int, int, int]) -> Format:
    """The format of a name, for images `(H, W, C)`; its head is that of any such image.

    Raises:
      UsageError: the format cannot hold such images.
    """
    check_holds(name, image_shape)
    head = b""
    if name != "webp":
        content = _encoded(name, quality, np.zeros(image_shape, np.uint8))
        head = content[: _PNG_HEAD if name == "png" else _scan_of_jpeg(content)]
    return Format(name, quality, image_shape, head)


def _scan_of_jpeg(content: bytes) -> int:
    """Where the pixels begin, after all segments: tables of quantisation and of Huffman codes above all."""
    position, marker = 2, 0
    while marker != 0xDA:
        marker = content[position + 1]
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position


def check_holds(name: str, image_shape: tuple[int, int, int]) -> None:
    """Raises UsageError if images `(H, W, C)` cannot be kept in a format."""
    height, width, channels = image_shape
    longest = {"png": 2**31 - 1, "webp": 16383, "jpeg": 65500}[name]
    if channels not in _DECODED_AS:
        raise UsageError(
            f"ExemplarMemory.codec = {name!r}: it holds images of one channel or three, and these have {channels}. "
            "Set codec = 'raw'."
        )
    if max(height, width) > longest:
        raise UsageError(
            f"ExemplarMemory.codec = {name!r}: it holds images of up to {longest} pixels a side, and these have "
            f"{height} x {width}. Set codec = 'png'."
        )


def _encoded(name: str, quality: int, image: np.ndarray) -> bytes:
    """A picture file. Chroma is not subsampled by jpeg (4:4:4), and always is by webp."""
    options: dict[str, dict[str, Any]] = {
        "png": {"compress_level": 9},
        "webp": {"quality": quality, "method": 4},
        # Own Huffman tables would make no table common.
        "jpeg": {"quality": quality, "subsampling": 0, "optimize": False, "progressive": False},
    }
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, name, **options[name])
    return file.getvalue()
