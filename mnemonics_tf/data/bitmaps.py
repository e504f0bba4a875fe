"""Decodes BMP files of every kind, of which TensorFlow reads some, and some wrongly."""

from __future__ import annotations

import struct

import numpy as np

from mnemonics_tf.data.headers import UnreadableImageError

_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6  # kinds of compression
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}


def decode(content: bytes) -> np.ndarray:
    """The pixels of a BMP file, `[h, w, 3]` uint8; what it has of transparency is dropped.

    Raises:
      UnreadableImageError: it is truncated, or of a kind that nobody writes.
    """
    try:
        return _decode(content)
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, UnreadableImageError):
            raise
        raise UnreadableImageError("a truncated or damaged BMP file") from error


def _decode(content: bytes) -> np.ndarray:
    start, header_size = struct.unpack_from("<II", content, 10)
    if header_size == 12:  # of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression, num_colours, entry = _RGB, 0, 3
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
        num_colours, entry = (int.from_bytes(content[46:50], "little") if header_size >= 40 else 0), 4
    rows = abs(height)
    if width < 1 or rows < 1:
        raise UnreadableImageError("a BMP file without pixels")
    if compression in (_RLE8, _RLE4) and bits in (4, 8):
        indices = _run_lengths(content[start:], rows, width, compression == _RLE4)
    elif compression == _RGB or (compression in (_BITFIELDS, _ALPHA_BITFIELDS) and bits in (16, 32)):
        lines = _lines(content, start, rows, width, bits)
        if bits > 8:
            masks = _DEFAULT_MASKS.get(bits)
            if compression != _RGB:
                masks = struct.unpack_from("<III", content, 54)
            return _upright(_colours(lines, width, bits, masks), height)
        indices = _indices(lines, width, bits)
    else:
        raise UnreadableImageError(f"a BMP file of {bits} bits a pixel in compression {compression}, which is not read")
    end = start if start > 14 + header_size else len(content)
    palette = _palette(content[14 + header_size : end], min(num_colours or 2**bits, 2**bits), entry)
    return _upright(palette[indices], height)


def _upright(image: np.ndarray, height: int) -> np.ndarray:
    """Rows are stored from the bottom up, unless the height is negative."""
    return np.ascontiguousarray(image if height < 0 else image[::-1])


def _lines(content: bytes, start: int, rows: int, width: int, bits: int) -> np.ndarray:
    """The bytes of each row, `[rows, padded length]` uint8. The padding of the last row may be missing."""
    length = (width * bits + 31) // 32 * 4
    stored = content[start : start + rows * length]
    if len(stored) < (rows - 1) * length + (width * bits + 7) // 8:
        raise UnreadableImageError("a truncated BMP file")
    return np.frombuffer(stored.ljust(rows * length, b"\0"), np.uint8).reshape(rows, length)


def _indices(lines: np.ndarray, width: int, bits: int) -> np.ndarray:
    """Places in the palette, `[rows, width]` uint8, of 1, 2, 4 or 8 bits."""
    if bits not in (1, 2, 4, 8):
        raise UnreadableImageError(f"a BMP file of {bits} bits a pixel, which is not read")
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return (lines[..., None] >> shifts & (2**bits - 1)).reshape(len(lines), -1)[:, :width]


def _colours(lines: np.ndarray, width: int, bits: int, masks: tuple[int, ...] | None) -> np.ndarray:
    """Pixels that are colours themselves, `[rows, width, 3]` uint8."""
    if bits == 24:
        return lines[:, : 3 * width].reshape(len(lines), width, 3)[..., ::-1]
    if masks is None:
        raise UnreadableImageError(f"a BMP file of {bits} bits a pixel, which is not read")
    values = lines.view("<u2" if bits == 16 else "<u4")[:, :width].astype(np.int64)
    channels = []
    for mask in masks:
        lowest = mask & -mask or 1
        largest = mask // lowest or 1
        channels.append((values & mask) // lowest * 255 // largest)
    return np.stack(channels, axis=-1).astype(np.uint8)


def _palette(stored: bytes, num_colours: int, entry: int) -> np.ndarray:
    """`[256, 3]` uint8 from entries of blue, green and red (and a byte of nothing); black where there is none."""
    count = min(num_colours, len(stored) // entry)
    palette = np.zeros((256, 3), np.uint8)
    palette[:count] = np.frombuffer(stored[: count * entry], np.uint8).reshape(count, entry)[:, 2::-1]
    return palette


def _run_lengths(stored: bytes, rows: int, width: int, nibbles: bool) -> np.ndarray:
    """Places in the palette, `[rows, width]` uint8, of run lengths of 8 or 4 bits a pixel; 0 where none are given."""
    indices = np.zeros((rows, width), np.uint8)
    row, column, position = 0, 0, 0
    while row < rows:
        count, value = stored[position], stored[position + 1]
        position += 2
        if count:  # a run; of nibbles two colours take turns
            pair = (value >> 4, value & 15) if nibbles else (value, value)
            part = indices[row, column : column + count]
            part[::2], part[1::2] = pair
            column += count
        elif value == 0:
            row, column = row + 1, 0
        elif value == 1:
            break
        elif value == 2:
            column, row = column + stored[position], row + stored[position + 1]
            position += 2
        else:  # that many pixels as they are, padded to 16 bits
            length = (value + 1) // 2 if nibbles else value
            plain = np.frombuffer(stored, np.uint8, length, position)
            plain = np.stack([plain >> 4, plain & 15], axis=-1).ravel()[:value] if nibbles else plain
            room = indices[row, column : column + value]
            room[:] = plain[: len(room)]
            column += value
            position += length + length % 2
    return indices
