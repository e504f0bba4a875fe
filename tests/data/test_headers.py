"""What the head of an image file says."""

from __future__ import annotations

import struct

import pytest
from image_files import ANIMATED_WEBP
from pictures import encoded, noise

from mnemonics_tf.data import headers

_WRITTEN = [("JPEG", {}), ("PNG", {}), ("GIF", {}), ("BMP", {}), ("WebP", {}), ("WebP", {"lossless": True})]


@pytest.mark.parametrize(("kind", "settings"), _WRITTEN)
def test_format_and_size_are_those_that_were_written(kind, settings):
    content = encoded(noise(13, 21), kind, **settings)
    assert headers.format_of(content[: headers.HEAD]) == kind
    assert headers.extent(content) == (13, 21)
    assert headers.refusal(content) is None
    assert headers.orientation(content) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_found(kind, orientation):
    assert headers.orientation(encoded(noise(), kind, orientation)) == orientation


def test_orientations_that_there_are_not_count_as_upright():
    content = encoded(noise(), "JPEG", 6)
    place = content.index(b"Exif\0\0")
    for position in range(place, place + 40):  # whatever byte is damaged
        for value in (0, 9, 255):
            broken = content[:position] + bytes([value]) + content[position + 1 :]
            assert 1 <= headers.orientation(broken) <= 8
    assert headers.orientation(content[: place + 10]) == 1


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"<?xml version='1.0'?>\n<svg width='3'>", "SVG"),
        (b"P6\n# by hand\n3 4\n255\n", "PNM"),
    ],
)
def test_pictures_that_are_not_read_are_known_by_their_names(head, name):
    assert headers.format_of(head) == name
    assert headers.refusal(head) == f"the format is {name}: JPEG, PNG, GIF, BMP and WebP are read"


@pytest.mark.parametrize("text", [b"", b"BMW, Audi", b"P6 is a page", b"<html><svg>", b"\0\0\0\x18ftypmp42", b"MM"])
def test_other_files_are_no_pictures(text):
    assert headers.format_of(text) is None


def test_what_stands_in_the_place_of_an_image_is_named():
    assert "git lfs pull" in headers.refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert headers.refusal(b"\n<!DOCTYPE html><html>") == "a web page, no image"
    assert headers.refusal(ANIMATED_WEBP).startswith("WebP Animation")
    assert headers.refusal(b"no picture at all") is None


def test_huge_images_are_refused_by_their_head():
    # 60,000 x 60,000 pixels, of which nothing but the header is there.
    png = encoded(noise(), "PNG")
    huge = png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:]
    assert headers.refusal(huge) == "60,000 x 60,000 pixels are more than the 178,956,970 that are decoded"
    jpeg = encoded(noise(), "JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    assert "pixels are more than" in headers.refusal(jpeg[:place] + b"\xff\xff\xff\xff" + jpeg[place + 4 :])
