"""What the bytes of an image file say before anything is decoded: its format, its size, which way up it is.

Content decides, and never the name of a file. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

READABLE = ("JPEG", "PNG", "GIF", "BMP", "WebP")
HEAD = 512  # bytes that suffice to tell the format
MOST_PIXELS = 178_956_970  # Pillow's limit, too: half a gigabyte once it is decoded

_ONLY = "JPEG, PNG, GIF, BMP and WebP are read"
SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"\0\0\1\0", "icon"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "camera raw"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes
_ORIENTATION = 0x0112  # the tag


class UnreadableImageError(ValueError):
    """An image that is left out. Its text is the reason that a user sees, without a full stop."""


def format_of(head: bytes) -> str | None:
    """The format of a picture by its first `HEAD` bytes, one of `READABLE` or of those that are not read; else None."""
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    # Two letters alone would make a bitmap of many a text.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    if head[128:132] == b"DICM":
        return "DICOM"
    if re.match(rb"P[1-7]\s+(#[^\n]*\s+)*\d+\s", head):
        return "PNM"
    return "SVG" if re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml|<!--|<!DOCTYPE svg|<svg)", head) and b"<svg" in head else None


def refusal(content: bytes) -> str | None:
    """Why an image is not even decoded, for users; None if nothing in its head speaks against it."""
    head = content[:HEAD]
    kind = format_of(head)
    if kind is None:
        if head.startswith(b"version https://git-lfs"):
            return "a pointer of Git LFS in the place of the image: fetch it by `git lfs pull`"
        return "a web page, no image" if re.match(rb"\s*<(!doctype )?html", head, re.IGNORECASE) else None
    if kind not in READABLE:
        return f"the format is {kind}: {_ONLY}"
    height, width = extent(content) or (0, 0)
    if height * width > MOST_PIXELS:
        return f"{width:,} x {height:,} pixels are more than the {MOST_PIXELS:,} that are decoded"
    if kind == "WebP" and head[12:16] == b"VP8X" and head[20:21] and head[20] & 2:
        return "WebP Animation is not read: save a single picture"
    return None


def is_plain(content: bytes) -> bool:
    """Whether TensorFlow decodes an image rightly by itself, if at all: it is of a usual kind, and upright."""
    return content[:2] not in (b"GI", b"BM") and refusal(content) is None and orientation(content) == 1


def extent(content: bytes) -> tuple[int, int] | None:
    """Height and width in pixels, as stored; None where the head does not tell."""
    try:
        return _EXTENTS[format_of(content[:HEAD]) or ""](content)
    except (KeyError, IndexError, struct.error):
        return None


def orientation(content: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none."""
    kind = format_of(content[:16])
    if kind == "JPEG":
        exif = next(_jpeg_exif(content), b"")
    elif kind == "PNG":
        exif = _png_exif(content)
    elif kind == "WebP":
        exif = _webp_exif(content)
    else:
        return 1
    return _orientation_in(exif) if exif else 1


def _orientation_in(exif: bytes) -> int:
    """The orientation in an EXIF block, which is a small TIFF file."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind in (3, 4):  # 16 or 32 bits
                (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the pixels."""
    position = 2
    while 0 <= position < len(content) - 3:
        marker = content[position + 1]
        if content[position] != 0xFF or marker in (0, 0xFF):
            position = content.find(b"\xff", position + 1)  # fill bytes
            continue
        if marker == 1 or 0xD0 <= marker <= 0xD8:  # they have no length
            position += 2
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        yield marker, position + 4, end
        if marker in (0xD9, 0xDA):
            return
        position = end


def _jpeg_extent(content: bytes) -> tuple[int, int] | None:
    for marker, start, _ in _jpeg_segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, start + 1)
            return height, width
    return None


def _jpeg_exif(content: bytes) -> Iterator[bytes]:
    for marker, start, end in _jpeg_segments(content):
        if marker == 0xE1 and content[start : start + 6] == b"Exif\0\0":
            yield content[start + 6 : end]


def _png_exif(content: bytes) -> bytes:
    """The block eXIf of a PNG file, or nothing."""
    if content.find(b"eXIf") < 0:  # quick, and so for nearly all
        return b""
    position = 8
    while position + 8 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"eXIf":
            return content[position + 8 : position + 8 + length]
        position += length + 12
    return b""


def _webp_exif(content: bytes) -> bytes:
    """The block EXIF of a WebP file, or nothing."""
    if content[12:16] != b"VP8X" or len(content) < 21 or not content[20] & 8:
        return b""
    position = 12
    while position + 8 <= len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        if content[position : position + 4] == b"EXIF":
            return content[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0")
        position += 8 + length + length % 2
    return b""


def _png_extent(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def _gif_extent(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", content, 6)
    return height, width


def _bmp_extent(content: bytes) -> tuple[int, int]:
    small = int.from_bytes(content[14:18], "little") == 12
    width, height = struct.unpack_from("<HH" if small else "<ii", content, 18)
    return abs(height), abs(width)


def _webp_extent(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[place : place + 3], "little") + 1 for place in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", content, 26))
    return height, width


_EXTENTS = {
    "JPEG": _jpeg_extent,
    "PNG": _png_extent,
    "GIF": _gif_extent,
    "BMP": _bmp_extent,
    "WebP": _webp_extent,
}
