"""Image files that Pillow writes, and what Pillow reads in them. It comes with TensorBoard."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageOps


def noise(height: int = 13, width: int = 21, seed: int = 0) -> Image.Image:
    """A picture without symmetry and with an odd number of pixels on each side."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def waves(height: int = 48, width: int = 64) -> Image.Image:
    """A smooth picture, of which JPEG loses little."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, 255 - x * 255 // width], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, orientation: int = 1, **settings) -> bytes:
    """A file of a kind that Pillow writes, with an EXIF orientation."""
    file = io.BytesIO()
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        settings["exif"] = exif
    image.save(file, kind, **settings)
    return file.getvalue()


def as_pillow_reads(content: bytes) -> np.ndarray:
    """`[h, w, 3]` uint8, upright."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


def damaged_jpeg(seed: int = 0) -> bytes:
    """A JPEG that decodes to a picture, a part of which is garbage."""
    content = bytearray(encoded(waves(64, 64), "JPEG", quality=95))
    start = len(content) // 3 + seed
    content[start : start + 120] = b"\x55" * 120
    return bytes(content)


def gif(canvas: tuple[int, int], place: tuple[int, int], size: tuple[int, int], local: bool, transparent: int | None):
    """A GIF in four colours, whose only frame of the given size stands at a place on its canvas; sides as (h, w).

    Returns:
      The file, and the colours `[4, 3]` and places in them `[h, w]` of the frame's pixels.
    """
    colours = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 0], [9, 8, 7]], np.uint8)
    generator = np.random.default_rng(1)
    indices = generator.integers(0, 4, size).astype(np.uint8)
    # Codes of 3 bits, lowest first: clear (4) before each pixel, so that the table never grows; end is 5.
    bits = "".join(f"{code:03b}" for code in reversed([c for i in indices.ravel().tolist() for c in (4, i)] + [5]))
    data = int(bits, 2).to_bytes(-(-len(bits) // 8), "little")
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)) + b"\0"
    palette, other = colours.tobytes(), bytes(range(12))
    head = b"GIF89a" + struct.pack("<HHBBB", canvas[1], canvas[0], 0x81, 0, 0) + (other if local else palette)
    control = b"" if transparent is None else b"\x21\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
    frame = b"\x2c" + struct.pack("<HHHHB", place[1], place[0], size[1], size[0], 0x81 if local else 0)
    return head + control + frame + (palette if local else b"") + b"\2" + blocks + b";", colours, indices
