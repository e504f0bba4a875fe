"""Encoded images within a graph: JPEG and PNG become squares of pixels, and a bad one spoils none of the others.

It is what `data.decoding` does for files, in operations that a SavedModel holds: the same decoder, turned upright as
EXIF says, resized by the same rule. Two things differ. GIF, BMP and WebP are refused: `data.decoding` reads the first
two by Python of its own. And a JPEG with damaged bits in its middle, of which libjpeg decodes a part to garbage, is
taken for what it decodes to: libjpeg says so on the standard error of the process, which a graph does not hear.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from mnemonics_tf.data import headers
from mnemonics_tf.data.decoding import centre_square, upright

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_READ_HERE = "JPEG and PNG are read here"
_NO_GREY = "a CMYK file where images have 1 channel"
_OTHERS = (
    *((0, *each) for each in headers.SIGNATURES if each[0] not in (_JPEG, _PNG)),
    (0, b"BM", "BMP"),
    (4, b"ftyp", "HEIC or AVIF"),
    (8, b"WEBP", "WebP"),
    (0, b"%PDF", "PDF"),
)
_ORIENTATION = 0x0112  # the tag
_MOST_EXIF = 65536  # bytes that an EXIF block has at most
_FEW, _AT_ONCE = 4, 8  # images for which threads are not worth their start, and threads for more


@functools.cache  # it takes seconds to trace, and each phase of a run exports a model
def decoder(image_shape: tuple[int, int, int], resized_side: int) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function of encoded images: their squares of pixels, and what is wrong with those that cannot be read.

    Args:
      image_shape: `(H, W, C)` of the squares: H is W, and C is 3 or, for grey images, 1.
      resized_side: pixels to which the shorter side is brought before the centre square is cut out; at least H.

    Returns:
      A function of JPEG or PNG files of any sizes, `[B]` string. It returns `[max(B, 1), H, W, C]` uint8, zeros where
      there is no image, and the reasons `[B]` string, empty where there is none.
    """
    read = tf.function(
        lambda content: _read(content, image_shape, resized_side),
        [tf.TensorSpec([], tf.string)],
        autograph=False,
    ).get_concrete_function()
    return tf.function(
        lambda contents: _decoded(contents, image_shape, read), [tf.TensorSpec([None], tf.string)], autograph=False
    ).get_concrete_function()


def _decoded(
    contents: tf.Tensor,
    image_shape: tuple[int, int, int],
    read: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
) -> tuple[tf.Tensor, tf.Tensor]:
    """What `decoder` promises, by a function that reads one image and fails where it is damaged."""
    count = tf.shape(contents, tf.int64)[0]

    def all_read(num_parallel: int | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # No other operation goes on after an error. One row more comes last, so that there is always one.
        rows = tf.data.Dataset.from_tensor_slices((tf.range(count), contents))
        rows = rows.map(lambda position, content: (position, *read(content)), num_parallel_calls=num_parallel)
        last = tf.data.Dataset.from_tensors((count, tf.zeros(image_shape, tf.uint8), tf.constant("")))
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.apply_default_optimizations = False
        return rows.ignore_errors().concatenate(last).batch(count + 1).with_options(options).get_single_element()

    positions, images, reasons = tf.cond(count > _FEW, lambda: all_read(_AT_ONCE), lambda: all_read(None))
    kind = tf.where(tf.strings.substr(contents, 0, 3) == _JPEG, "JPEG", "PNG")
    damaged = tf.concat([tf.strings.join(["a truncated or damaged ", kind, " file"]), [""]], axis=0)
    images = tf.scatter_nd(positions[:, None], images, tf.stack([count + 1, *image_shape]))
    reasons = tf.tensor_scatter_nd_update(damaged, positions[:, None], reasons)
    return tf.ensure_shape(images, [None, *image_shape])[: tf.maximum(count, 1)], reasons[:count]


def _read(content: tf.Tensor, image_shape: tuple[int, int, int], resized_side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The square of an encoded image, and an empty reason; or zeros, and the reason why it is not decoded."""
    reason = _refusal(content, image_shape[2])
    image = tf.cond(
        tf.equal(reason, ""),
        lambda: _square(content, image_shape, resized_side),
        lambda: tf.zeros(image_shape, tf.uint8),
    )
    return tf.ensure_shape(image, image_shape), reason


def _refusal(content: tf.Tensor, channels: int) -> tf.Tensor:
    """Why an image is not even decoded to so many channels, a scalar string; empty if its head speaks for it."""
    head = tf.strings.substr(content, 0, headers.HEAD)
    is_jpeg, is_png = _starts_with(head, 0, _JPEG), _starts_with(head, 0, _PNG)

    def of_known_kind() -> tf.Tensor:
        extent = tf.cond(is_jpeg, lambda: tf.image.extract_jpeg_shape(content), lambda: _png_extent(head))
        num_pixels = tf.reduce_prod(tf.cast(extent[:2], tf.int64))
        reason = tf.strings.join(
            [tf.as_string(num_pixels), f" pixels are more than the {headers.MOST_PIXELS} that are decoded"]
        )
        # libjpeg makes colours of CMYK, but no grey.
        other = _NO_GREY if channels == 1 else ""
        return tf.where(num_pixels > headers.MOST_PIXELS, reason, tf.where(extent[2] == 4, other, ""))

    def of_another_kind() -> tf.Tensor:
        is_kind = tf.stack([_starts_with(head, offset, mark) for offset, mark, _ in _OTHERS])
        formats = tf.constant([f"the format is {name}: {_READ_HERE}" for *_, name in _OTHERS])
        found = tf.gather(formats, tf.argmax(is_kind))
        other = tf.where(tf.reduce_any(is_kind), found, f"no image: {_READ_HERE}")
        return tf.where(tf.equal(content, ""), "the image is empty", other)

    return tf.cond(is_jpeg | is_png, of_known_kind, of_another_kind)


def _starts_with(head: tf.Tensor, offset: int, mark: bytes) -> tf.Tensor:
    """Whether some bytes stand at an offset, a scalar bool."""
    start = tf.minimum(offset, tf.strings.length(head))
    return tf.strings.substr(head, start, len(mark)) == mark


def _png_extent(head: tf.Tensor) -> tf.Tensor:
    """Height, width and a number of channels that is any but 4, `[3]` int32. Fails where the head is too short."""
    extent = tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.int32, little_endian=False)[::-1]
    return tf.concat([extent, [3]], axis=0)


def _square(content: tf.Tensor, image_shape: tuple[int, int, int], resized_side: int) -> tf.Tensor:
    """An encoded image as it is evaluated, `[H, W, C]` uint8. Fails where it is damaged."""
    size, _, channels = image_shape
    image = tf.io.decode_image(content, channels=channels, expand_animations=False)
    return centre_square(upright(image, orientation(content)), size, resized_side)


def orientation(content: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG or PNG, a scalar int32, 1 to 8; 1, upright, where there is none.

    It is that of the first block of EXIF, as `headers.orientation` has it.
    """
    is_jpeg = _starts_with(content, 0, _JPEG)
    mark = tf.where(is_jpeg, b"Exif\0\0", b"eXIf")
    before = tf.strings.split(content, mark)[:-1]
    starts = tf.cumsum(tf.strings.length(before) + tf.strings.length(mark))
    # Of a JPEG the segment begins four bytes earlier, with its marker and length. Other segments may spell the mark.
    markers = tf.strings.substr(tf.strings.join([b"\0\0\0\0", before]), -4, 2)
    found = starts[~is_jpeg | tf.equal(markers, b"\xff\xe1")]
    return tf.cond(
        tf.size(found) > 0, lambda: _orientation_in(tf.strings.substr(content, found[0], _MOST_EXIF)), lambda: 1
    )


def _orientation_in(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in an EXIF block, which is a small TIFF file: a scalar int32."""
    raw = tf.cast(tf.io.decode_raw(exif, tf.uint8), tf.int64)
    order = tf.strings.substr(exif, 0, 2)
    weights = tf.constant([1, 1 << 8, 1 << 16, 1 << 24], tf.int64)

    def numbers(columns: tf.Tensor) -> tf.Tensor:
        """Whole numbers of `[n, 2 or 4]` bytes."""
        ordered = tf.cond(tf.equal(order, b"II"), lambda: columns, lambda: columns[:, ::-1])
        return tf.reduce_sum(ordered * weights[: columns.shape[1]], axis=1)

    def number(start: tf.Tensor | int, size: int) -> tf.Tensor:
        """The one at a place; of bytes that are missing 0."""
        piece = raw[start : start + size]
        return numbers(tf.reshape(tf.pad(piece, [[0, size - tf.size(piece)]]), [1, size]))[0]

    first = number(4, 4)
    entries = raw[first + 2 : first + 2 + 12 * number(first, 2)]
    entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], [-1, 12])
    kinds = numbers(entries[:, 2:4])
    is_orientation = (numbers(entries[:, :2]) == _ORIENTATION) & ((kinds == 3) | (kinds == 4))  # of 16 or 32 bits
    values = tf.where(kinds == 3, numbers(entries[:, 8:10]), numbers(entries[:, 8:12]))
    value = tf.concat([values[is_orientation], [1]], axis=0)[0]
    is_valid = (tf.equal(order, b"II") | tf.equal(order, b"MM")) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(is_valid, value, 1), tf.int32)
