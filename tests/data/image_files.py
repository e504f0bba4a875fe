"""Image files of every kind that a folder may hold, for tests."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import numpy as np
import tensorflow as tf

SIZE = 4  # pixels a side, in most tests


def painted(value: int | tuple[int, int, int], height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """An image of one colour, `[height, width, 3]` uint8."""
    return np.broadcast_to(np.array(value, np.uint8), (height, width, 3)).copy()


def png(image: np.ndarray) -> bytes:
    """An image as a file, without loss."""
    return tf.io.encode_png(image).numpy()


def store(root: Path, files: dict[str, bytes | int]) -> str:
    """Writes files below `root`, each with its bytes or as a PNG of one shade of grey; returns `root` as text."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else png(painted(content)))
    return str(root)


def in_both(files: dict[str, bytes | int]) -> dict[str, bytes | int]:
    """The same files below `train` and below `test`."""
    return {f"{split}/{name}": content for split in ("train", "test") for name, content in files.items()}


def shades(images: np.ndarray) -> list[int]:
    """The one shade of each painted image."""
    np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1, :1], images.shape))
    return images[:, 0, 0, 0].tolist()


def bmp(bits: int, rows: list[bytes], width: int, palette: bytes = b"") -> bytes:
    """A bitmap without compression; `rows` from the bottom up, without their padding to 4 bytes."""
    pixels = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, len(rows), 1, bits, 0, 0, 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def _gif(*shades: int) -> bytes:
    """Frames of 1x1 pixel in two colours, black for 0 and (200, 100, 50) for 1."""
    # Codes of 3 bits, lowest first: clear 4, the colour, end 5.
    codes = [(4 | shade << 3 | 5 << 6).to_bytes(2, "little") for shade in shades]
    frames = [b"\x2c\0\0\0\0\1\0\1\0\0" + b"\2\2" + code + b"\0" for code in codes]
    return b"GIF89a\1\0\1\0\x80\0\0" + bytes([0, 0, 0, 200, 100, 50]) + b"".join(frames) + b";"


def _cmyk_jpeg(stored: tuple[int, int, int, int]) -> bytes:
    """An 8x8 JPEG of four channels in Adobe's manner, 255 is no ink. Values differ from 128 by at least 64.

    The one coefficient of a flat block is 8 * (value - 128), divided by 8 in the table of quantisation. It takes 7
    bits: code 0 of the first Huffman table, then the number (plus 127 if negative); code 0 of the second ends it.
    """
    numbers = [value - 128 for value in stored]
    bits = "".join(f"0{number if number > 0 else number + 127:07b}0" for number in numbers)
    pixels = int(bits.ljust(40, "1"), 2).to_bytes(5, "big").replace(b"\xff", b"\xff\0")
    segments = (
        (0xEE, b"Adobe\0\x64\0\0\0\0\0"),
        (0xDB, bytes([0, *[8] * 64])),
        (0xC0, bytes([8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0])),
        (0xC4, bytes([0x00, 1, *[0] * 15, 7])),  # a single code, of one bit: a number of 7 bits
        (0xC4, bytes([0x10, 1, *[0] * 15, 0])),  # likewise: the end of the block
        (0xDA, bytes([4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0])),
    )
    head = b"".join(bytes([0xFF, mark]) + (len(body) + 2).to_bytes(2, "big") + body for mark, body in segments)
    return b"\xff\xd8" + head + pixels + b"\xff\xd9"


_RGB, _BGR = (200, 100, 50), bytes([50, 100, 200])
_GREYS = b"".join(bytes([shade, shade, shade, 0]) for shade in range(256))
# Content, colour and tolerance; JPEG converts colours and rounds.
KINDS = {
    "flat.jpg": (tf.io.encode_jpeg(painted(_RGB, 8, 8), quality=100).numpy(), _RGB, 2),
    "grey.jpeg": (tf.io.encode_jpeg(painted(70, 8, 8)[..., :1], quality=100).numpy(), (70, 70, 70), 1),
    # Red, green and blue are cyan, magenta and yellow times black / 255: 255, 192, 64 times 204 / 255 = 0.8.
    "print.jpg": (_cmyk_jpeg((255, 192, 64, 204)), (204, 153, 51), 1),
    "grey.png": (png(painted(70)[..., :1]), (70, 70, 70), 0),
    "transparent.png": (png(np.concatenate([painted(_RGB), np.full((4, 4, 1), 9, np.uint8)], -1)), _RGB, 0),
    # The upper byte of 16 bits.
    "deep.png": (png(np.full((4, 4, 3), 0xABCD, np.uint16)), (0xAB, 0xAB, 0xAB), 0),
    "deep_grey.png": (png(np.full((4, 4, 1), 0x1234, np.uint16)), (0x12, 0x12, 0x12), 0),
    "a.gif": (_gif(1), _RGB, 0),
    "film.gif": (_gif(1, 0, 0), _RGB, 0),
    "a.bmp": (bmp(24, [_BGR * 3] * 3, 3), _RGB, 0),
    "transparent.bmp": (bmp(32, [(_BGR + b"\x09") * 3] * 3, 3), _RGB, 0),
    "palette.bmp": (bmp(8, [b"\2" * 3] * 3, 3, palette=b"\0" * 8 + _BGR + b"\0"), _RGB, 0),
    "grey.bmp": (bmp(8, [bytes([70])] * 2, 1, palette=_GREYS), (70, 70, 70), 0),
    # One pixel without loss.
    "a.webp": (base64.b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvAAAAAAdQsiJXpv+BiOh/AAA="), _RGB, 0),
    "wrong_suffix.jpg": (png(painted(_RGB)), _RGB, 0),
}

ANIMATED_WEBP = base64.b64decode(
    "UklGRooAAABXRUJQVlA4WAoAAAACAAAAAAAAAAAAQU5JTQYAAAAAAAAAAABBTk1GKgAAAAAAAAAAAAAAAAAAAAAAAAJWUDhMEQAAAC8AAAAAB1CyIl"
    "em/4GI6H8AAEFOTUYsAAAAAAAAAAAAAAAAAAAAAAAAAFZQOEwUAAAALwAAAAAHUIFUCCAACpr+x4iI/gc="
)
