"""Codes of images, against what Pillow itself makes of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mnemonics_tf.checks import UsageError
from mnemonics_tf.memory.formats import DamagedCodeError, check_holds, format_for

# What Pillow is asked for, and what of its file all images of a size share or the rest tells.
_PILLOW = {
    "png": ({"compress_level": 9}, 8 + 25 + 12),  # signature, IHDR, IEND
    "webp": ({"quality": 60}, 12 + 8),  # RIFF, and the head of its one chunk
    "jpeg": ({"quality": 60, "subsampling": 0}, None),
}


def _images(count: int, channels: int = 3) -> np.ndarray:
    """Smooth ones, `[n, 12, 16, C]` uint8."""
    phases = np.random.default_rng(0).uniform(0, 6, (count, 1, 1, channels))
    rows, columns = np.mgrid[0:12, 0:16] / 4.0
    return (127 + 120 * np.sin(rows[..., None] + phases) * np.cos(columns[..., None] - phases)).astype(np.uint8)


def _by_pillow(image: np.ndarray, name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, name, **_PILLOW[name][0])
    return file.getvalue()


def _read(content: bytes, channels: int) -> np.ndarray:
    picture = Image.open(io.BytesIO(content)).convert("RGB" if channels == 3 else "L")
    return np.asarray(picture).reshape(12, 16, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", _PILLOW)
def test_codes_are_pillows_files_without_what_all_share(name, channels):
    form = format_for(name, 60, (12, 16, channels))
    saved = set()
    for image in _images(5, channels):
        expected, code = _by_pillow(image, name), form.encode(image)
        assert form.file(code) == expected
        np.testing.assert_array_equal(form.decode(code), _read(expected, channels))
        assert form.encode(image) == code
        saved.add(len(expected.rstrip(b"\0") if name == "webp" else expected) - len(code.rstrip(b"\0")))
    (saved,) = saved
    # A JPEG has its head, which is kept once, and two bytes at its end.
    assert saved == (_PILLOW[name][1] or len(form.head) + 2)


def test_tables_are_most_of_a_small_jpeg():
    form, image = format_for("jpeg", 60, (12, 16, 3)), _images(1)[0]
    tables = Image.open(io.BytesIO(form.head + form.encode(image) + b"\xff\xd9")).quantization
    assert sorted(tables) == [0, 1]
    assert len(form.head) > len(form.encode(image))


def test_png_loses_nothing_and_the_others_little():
    for image in np.random.default_rng(1).integers(0, 256, (3, 12, 16, 3), np.uint8):
        form = format_for("png", 1, (12, 16, 3))
        np.testing.assert_array_equal(form.decode(form.encode(image)), image)
    for name in ("webp", "jpeg"):
        form = format_for(name, 90, (12, 16, 3))
        errors = [np.abs(form.decode(form.encode(image)) - image.astype(float)).mean() for image in _images(3)]
        assert max(errors) < 8


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_lower_quality_takes_fewer_bytes(name):
    sizes = [sum(len(format_for(name, q, (12, 16, 3)).encode(image)) for image in _images(5)) for q in (95, 60, 10)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("name", _PILLOW)
@pytest.mark.parametrize("broken", [lambda code: code[: len(code) // 4], lambda code: b"", lambda code: b"abc" * 9])
def test_what_is_no_code_is_told_so(name, broken):
    form = format_for(name, 60, (12, 16, 3))
    code = broken(form.encode(_images(1)[0]))
    if name == "jpeg":  # it makes grey of what is missing
        assert form.decode(code).shape == (12, 16, 3)
        return
    with pytest.raises(DamagedCodeError) as caught:
        form.decode(code)
    assert "\n" not in str(caught.value)


def test_code_of_another_size_is_refused():
    large, small = format_for("webp", 60, (12, 16, 3)), format_for("webp", 60, (8, 8, 3))
    with pytest.raises(DamagedCodeError, match="it shows 12 x 16 pixels"):
        small.decode(large.encode(_images(1)[0]))
    with pytest.raises(ValueError, match="expected uint8"):
        large.encode(_images(1)[0].astype(np.uint16))


def test_images_that_no_format_holds_are_refused():
    for name in _PILLOW:
        check_holds(name, (8, 8, 1))
        with pytest.raises(UsageError, match=r"one channel or three, and these have 4. Set codec = 'raw'"):
            check_holds(name, (8, 8, 4))
    with pytest.raises(UsageError, match=r"up to 16383 pixels a side, and these have 8 x 20000. Set codec = 'png'"):
        check_holds("webp", (8, 20_000, 3))


def test_longest_side_that_jpeg_takes_can_be_coded():
    # Its files could hold 65,535 pixels; the library that writes them takes 65,500.
    longest = np.zeros((1, 65_500, 1), np.uint8)
    form = format_for("jpeg", 60, longest.shape)
    np.testing.assert_array_equal(form.decode(form.encode(longest)), longest)
    with pytest.raises(UsageError, match="up to 65500 pixels a side"):
        check_holds("jpeg", (65_501, 1, 1))
