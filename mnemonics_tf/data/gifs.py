"""The first frame of a GIF file. TensorFlow decodes frames that fill their canvas, and makes others black."""

from __future__ import annotations

import struct

import numpy as np
import tensorflow as tf

from mnemonics_tf.data.headers import MOST_PIXELS, UnreadableImageError

_EXTENSION, _CONTROL, _FRAME = 0x21, 0xF9, 0x2C


def first_frame(content: bytes) -> np.ndarray:
    """The first frame on its canvas, `[h, w, 3]` uint8.

    What it leaves free has the transparent colour of the palette, or else the palette's first; transparent pixels have
    the colour that the palette gives them. Pillow does the same.

    Raises:
      UnreadableImageError: there is no whole frame.
      tf.errors.OpError: its pixels are damaged.
    """
    try:
        return _first_frame(content)
    except (struct.error, IndexError) as error:
        raise UnreadableImageError("a truncated or damaged GIF file") from error


def _first_frame(content: bytes) -> np.ndarray:
    canvas_width, canvas_height, packed = struct.unpack_from("<HHB", content, 6)
    palette, position = _palette(content, packed, 13)
    screen = bytes([packed, 0, 0]) + palette
    transparent = 0
    while content[position] == _EXTENSION:
        if content[position + 1] == _CONTROL and content[position + 3] & 1:
            transparent = content[position + 6]
        position = _after_blocks(content, position + 2)
    if content[position] != _FRAME:
        raise UnreadableImageError("a GIF file without a picture")
    left, top, width, height, packed = struct.unpack_from("<HHHHB", content, position + 1)
    canvas_height, canvas_width = max(canvas_height, top + height), max(canvas_width, left + width)
    if canvas_height * canvas_width > MOST_PIXELS:  # and not once they are decoded
        raise UnreadableImageError(f"a GIF file of {canvas_width:,} x {canvas_height:,} pixels, which is too large")
    own, data = _palette(content, packed, position + 10)
    end = _after_blocks(content, data + 1)
    # The frame alone, on a canvas of its own size, without transparency: that TensorFlow decodes rightly.
    size = struct.pack("<HH", width, height)
    frame = b"\x2c\0\0\0\0" + size + bytes([packed]) + own + content[data:end]
    decoded = tf.io.decode_gif(b"GIF89a" + size + screen + frame + b";").numpy()[0]
    if (canvas_height, canvas_width) == (height, width):
        return decoded
    colour = np.frombuffer(own or palette, np.uint8).reshape(-1, 3)[transparent:][:1]
    canvas = np.zeros((canvas_height, canvas_width, 3), np.uint8)
    canvas[:] = colour if len(colour) else 0
    canvas[top : top + height, left : left + width] = decoded
    return canvas


def _palette(content: bytes, packed: int, start: int) -> tuple[bytes, int]:
    """The palette that a byte of flags says there is, and where it ends."""
    end = start + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    return content[start:end], end


def _after_blocks(content: bytes, position: int) -> int:
    """The end of a row of blocks, each of which begins with its length; the last one has none."""
    while content[position]:
        position += content[position] + 1
    return position + 1
