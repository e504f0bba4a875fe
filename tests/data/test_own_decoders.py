"""GIF and BMP files, which TensorFlow decodes wrongly or not at all, against Pillow; and EXIF orientation."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pictures import as_pillow_reads, encoded, gif, noise, waves
from PIL import Image

from mnemonics_tf.data import bitmaps, decoding, gifs, pipeline, reading
from mnemonics_tf.data.headers import UnreadableImageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages


def _files(folder: Path, contents: list[bytes], size: int) -> LabelledImages:
    for number, content in enumerate(contents):
        (folder / str(number)).write_bytes(content)
    files = [str(folder / str(number)) for number in range(len(contents))]
    return LabelledImages(StoredImages.of_files(files, size), np.arange(len(contents)))


@pytest.mark.parametrize("num_colours", [2, 4, 16, 256])
@pytest.mark.parametrize("settings", [{}, {"interlace": 1}, {"transparency": 1}], ids=str)
def test_gifs_are_those_of_pillow(num_colours, settings):
    content = encoded(noise().quantize(num_colours), "GIF", **settings)
    np.testing.assert_array_equal(decoding.pixels(content), as_pillow_reads(content))


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("transparent", [None, 2])
def test_first_frame_stands_in_its_place_on_the_canvas(local, transparent):
    content, colours, indices = gif((20, 30), (4, 7), (9, 5), local, transparent)
    expected = np.broadcast_to(colours[transparent or 0], (20, 30, 3)).copy()
    expected[4:13, 7:12] = colours[indices]
    np.testing.assert_array_equal(gifs.first_frame(content), expected)
    np.testing.assert_array_equal(as_pillow_reads(content), expected)


def test_frame_that_juts_out_of_the_canvas_enlarges_it():
    content, colours, indices = gif((5, 5), (2, 3), (9, 5), False, None)
    image = gifs.first_frame(content)
    assert image.shape == (11, 8, 3)
    np.testing.assert_array_equal(image[2:, 3:], colours[indices])


def test_gifs_that_end_too_soon_have_a_reason():
    content = gif((20, 30), (4, 7), (9, 5), True, 2)[0]
    for end in range(6, len(content) - 3):
        with pytest.raises((UnreadableImageError, tf.errors.OpError)):
            gifs.first_frame(content[:end])


def test_frame_that_is_larger_than_all_that_is_decoded_is_refused_before_it_is():
    content = gif((5, 5), (0, 0), (4, 4), False, None)[0]
    huge = content.replace(struct.pack("<HHHHB", 0, 0, 4, 4, 0), struct.pack("<HHHHB", 0, 0, 0xFFFF, 0xFFFF, 0))
    with pytest.raises(UnreadableImageError, match="a GIF file of 65,535 x 65,535 pixels, which is too large"):
        gifs.first_frame(huge)


def _bmp(bits: int, compression: int, data: bytes, height: int, width: int, extra: bytes = b"", header: int = 40):
    """A bitmap by its fields; `extra` are masks or a palette."""
    start = 14 + header + len(extra)
    fields = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + fields.ljust(header, b"\0") + extra + data


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
def test_bitmaps_are_those_of_pillow(mode):
    content = encoded(noise().convert(mode), "BMP")
    np.testing.assert_array_equal(decoding.pixels(content), as_pillow_reads(content))


@pytest.mark.parametrize("num_colours", [2, 16, 256])
def test_bitmaps_with_palettes_are_those_of_pillow(num_colours):
    content = encoded(noise().quantize(num_colours), "BMP")
    np.testing.assert_array_equal(decoding.pixels(content), as_pillow_reads(content))


_PALETTE = np.random.default_rng(3).integers(0, 256, (16, 4), np.uint8)


def test_four_bits_a_pixel_are_places_in_the_palette():
    # Three pixels a row, of 2 bytes, padded to 4: from the bottom up.
    content = _bmp(4, 0, bytes([0x12, 0x30, 0, 0, 0xFE, 0xD0, 0, 0]), 2, 3, _PALETTE.tobytes())
    expected = _PALETTE[[[15, 14, 13], [1, 2, 3]]][..., 2::-1]
    np.testing.assert_array_equal(bitmaps.decode(content), expected)
    np.testing.assert_array_equal(as_pillow_reads(content), expected)


def test_rows_of_negative_height_come_from_the_top():
    rows = noise(2, 4)
    data = np.asarray(rows)[..., ::-1].tobytes()
    np.testing.assert_array_equal(bitmaps.decode(_bmp(24, 0, data, -2, 4)), rows)


@pytest.mark.parametrize("header", [40, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [(16, (0xF800, 0x7E0, 0x1F)), (16, (0x7C00, 0x3E0, 0x1F)), (32, (0xFF0000, 0xFF00, 0xFF))],
)
def test_masks_say_where_the_colours_are(bits, masks, header):
    data = np.random.default_rng(0).integers(0, 256, 4 * 3 * bits // 8, np.uint8).tobytes()
    extra = struct.pack("<III", *masks)
    content = _bmp(bits, 3, data, 3, 4, extra if header == 40 else b"", header)
    if header > 40:
        content = content[:54] + extra + b"\0" * 4 + content[70:]
    values = np.frombuffer(data, f"<u{bits // 8}").reshape(3, 4)[::-1].astype(np.int64)
    channels = [(values & mask) // (mask & -mask) * 255 // (mask // (mask & -mask)) for mask in masks]
    np.testing.assert_array_equal(bitmaps.decode(content), np.stack(channels, -1))
    np.testing.assert_array_equal(as_pillow_reads(content), np.stack(channels, -1))


def test_sixteen_bits_without_masks_are_five_for_each_colour():
    data = struct.pack("<HH", 31 << 10 | 16 << 5 | 1, 0)
    # 16 * 255 / 31 is 131.6, and 255 / 31 is 8.2.
    np.testing.assert_array_equal(bitmaps.decode(_bmp(16, 0, data, 1, 2)), [[[255, 131, 8], [0, 0, 0]]])


def test_run_lengths_of_eight_bits():
    # Bottom row: three of 2, then 5, 6, 7 as they are (padded). Next: one to the right, two of 9. End.
    data = bytes([3, 2, 0, 3, 5, 6, 7, 0, 0, 0, 0, 2, 1, 0, 2, 9, 0, 1])
    palette = np.random.default_rng(3).integers(0, 256, (256, 4), np.uint8)
    content = _bmp(8, 1, data, 2, 6, palette.tobytes())
    expected = palette[[[0, 9, 9, 0, 0, 0], [2, 2, 2, 5, 6, 7]]][..., 2::-1]
    np.testing.assert_array_equal(bitmaps.decode(content), expected)


def test_run_lengths_of_four_bits():
    # Five pixels of 1 and 2 in turn; then 3, 4, 5 as they are in 2 bytes.
    data = bytes([5, 0x12, 0, 0, 0, 3, 0x34, 0x50, 0, 1])
    content = _bmp(4, 2, data, 2, 5, _PALETTE.tobytes())
    expected = _PALETTE[[[3, 4, 5, 0, 0], [1, 2, 1, 2, 1]]][..., 2::-1]
    np.testing.assert_array_equal(bitmaps.decode(content), expected)


@pytest.mark.parametrize("bits", [1, 8, 24, 32])
def test_bitmaps_that_end_too_soon_have_a_reason(bits):
    image = noise() if bits > 8 else noise().quantize(2 if bits == 1 else 256)
    content = encoded(image.convert("RGBA") if bits == 32 else image, "BMP")
    for end in (20, 40, len(content) // 2, len(content) - 5):
        with pytest.raises(UnreadableImageError, match="truncated"):
            bitmaps.decode(content[:end])


def test_old_bitmaps_have_a_small_header():
    # Of OS/2: 12 bytes, palette entries of 3.
    data = bytes([0b10000000, 0, 0, 0])
    head = struct.pack("<IHHHH", 12, 2, 1, 1, 1)
    content = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 12 + 6) + head + bytes([1, 2, 3, 4, 5, 6]) + data
    np.testing.assert_array_equal(bitmaps.decode(content), [[[6, 5, 4], [3, 2, 1]]])


def _turned(kind: str) -> list[bytes]:
    settings = {"JPEG": {"quality": 95}, "WebP": {"lossless": True}}.get(kind, {})
    return [encoded(waves(), kind, orientation, **settings) for orientation in range(1, 9)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_images_are_turned_upright(kind):
    for content in _turned(kind):
        # JPEG is decoded by other arithmetic.
        np.testing.assert_allclose(
            decoding.pixels(content).numpy().astype(int), as_pillow_reads(content), atol=6 if kind == "JPEG" else 0
        )


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_images_are_turned_upright_wherever_they_are_decoded(kind, tmp_path):
    contents = _turned(kind)
    data = _files(tmp_path, contents, 16)
    squares = np.stack([decoding.centre_square(decoding.pixels(content), 16) for content in contents])
    np.testing.assert_array_equal(decoding.in_memory(data).array, squares)
    (batch,) = pipeline.evaluation_batches(data, 8)
    np.testing.assert_array_equal(batch, squares)
    ((images, labels),) = pipeline.training_batches(data, 8, 1, 3, pipeline.Augmentation(resized_crop=True))
    # Along each axis of a window, colours grow or fall as along those of the upright picture.
    for image, label in zip(images.numpy().astype(int), labels.numpy(), strict=True):
        for axis in (0, 1):
            slope, expected = (each.mean(axis=1 - axis) for each in (image, squares[label].astype(int)))
            assert (np.sign((slope[-1] - slope[0]).round(-1)) == np.sign((expected[-1] - expected[0]).round(-1))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_window_of_a_turned_image_is_cut_out_of_the_stored_one(orientation):
    stored = np.asarray(noise(9, 14))
    content = encoded(Image.fromarray(stored), "PNG", orientation)
    whole = tf.constant(as_pillow_reads(content))
    extent = tf.shape(whole)[:2]
    for window in ([0, 0, 4, 3], [2, 1, 5, 6], [4, 5, 5, 4]):
        top, left, height, width = window
        place = decoding.stored_window(tf.constant(window), extent, tf.constant(orientation)).numpy()
        cut = stored[place[0] : place[0] + place[2], place[1] : place[1] + place[3]]
        turned = decoding.upright(tf.constant(cut), tf.constant(orientation))
        np.testing.assert_array_equal(turned, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("orientation", [1, 8])
def test_graphs_ask_for_the_orientation_only_where_an_image_is_turned(orientation, tmp_path):
    contents = [encoded(waves(), "PNG"), encoded(waves(), "PNG", orientation)]
    data = _files(tmp_path, contents, 16)
    assert data.images.may_be_turned  # nothing is known
    readable, _ = reading.look_through(data, "reading", keep=False)
    assert readable.images.may_be_turned == (orientation == 8)
    assert readable.join(data).images.may_be_turned
    (batch,) = pipeline.evaluation_batches(readable, 2)
    for image, content in zip(batch.numpy(), contents, strict=True):
        np.testing.assert_array_equal(image, decoding.centre_square(decoding.pixels(content), 16))
