"""Pictures that are broken: bytes changed, ends cut off, and bytes that never were a picture."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st
from PIL import Image

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


def _pictures() -> list[bytes]:
    """Small pictures in each format: of one colour, and of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    found = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for image in (Image.new("RGB", (7, 5), (200, 30, 40)), Image.fromarray(noise)):
        for form in _FORMATS:
            file = io.BytesIO()
            image.save(file, form, **({"exif": exif} if form in ("JPEG", "PNG", "WEBP") else {}))
            found.append(file.getvalue())
    return found


PICTURES = _pictures()


@st.composite
def broken_pictures(draw, end: int = 200) -> bytes:
    """A picture with some of its first `end` bytes changed, and perhaps its end cut off; or bytes that are none."""
    content = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(0, 6))):
        content[draw(st.integers(0, min(len(content), end) - 1))] = draw(st.integers(0, 255))
    return draw(st.one_of(st.just(bytes(content[: draw(st.integers(0, len(content)))])), st.binary(max_size=60)))


@st.composite
def damaged_pictures(draw) -> bytes:
    """A picture of which one to six bytes, anywhere, were changed; of some the end is cut off, too."""
    content = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(1, 6))):
        content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    is_cut = draw(st.integers(0, 3)) == 3
    return bytes(content[: draw(st.integers(len(content) // 2, len(content) - 1))] if is_cut else content)
