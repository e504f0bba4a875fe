"""From encoded images to squares of pixels: as they are evaluated, and as random windows to train on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data import bitmaps, gifs, headers
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages

_LOST = "<lost image>"  # around the reason
# Operations that decode, by which TensorFlow names the place of an error.
_DECODING = re.compile(r"DecodeImage|DecodeAndCropJpeg|ExtractJpegShape")

# Random resized crops, as the published ImageNet results have them: share of the image's area, and width over height.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)

_FEW_VALUES = 1_500_000  # of a window

# What TensorFlow decodes wrongly, or for the most part not at all.
_OWN_DECODERS = {"BMP": bitmaps.decode, "GIF": gifs.first_frame}


def pixels(content: bytes, num_channels: int = 3) -> tf.Tensor:
    """Decodes an image by its content, whatever the file is called, and turns it upright.

    Args:
      content: the encoded image.
      num_channels: C, of which grey images are brought to 3, and transparent ones cut down to it.

    Returns:
      `[h, w, C]` uint8; of 16 bits the upper 8.

    Raises:
      UnreadableImageError: it is none, or too large, or of a kind that is not read.
      tf.errors.OpError: it is damaged.
    """
    reason = headers.refusal(content)
    if reason:
        raise headers.UnreadableImageError(reason)
    kind = headers.format_of(content[: headers.HEAD])
    if kind in _OWN_DECODERS:
        if num_channels != 3:
            raise headers.UnreadableImageError(f"a {kind} file where images have {num_channels} channels")
        return tf.constant(_OWN_DECODERS[kind](content))
    # Of animated WebP with other than three channels, TensorFlow 2.21 overruns its memory: those are refused above.
    image = tf.io.decode_image(content, channels=num_channels, expand_animations=False)
    orientation = headers.orientation(content)
    return upright(image, tf.constant(orientation) if orientation > 1 else None)


def upright(image: tf.Tensor, orientation: tf.Tensor | None) -> tf.Tensor:
    """Turns an image as its EXIF orientation says.

    Args:
      image: `[h, w, C]`, as stored.
      orientation: 1 to 8, int32; 1 and None are upright already.

    Returns:
      `[h, w, C]`, or `[w, h, C]` for orientations above 4.
    """

    if orientation is None:
        return image

    def turned() -> tf.Tensor:
        transposed = tf.cond(orientation > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        down, left = _mirrored(orientation)
        rows = tf.cond(down, lambda: tf.reverse(transposed, [0]), lambda: transposed)
        return tf.cond(left, lambda: tf.reverse(rows, [1]), lambda: rows)

    return tf.cond(orientation > 1, turned, lambda: image)


def _mirrored(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether an orientation wants the rows reversed, and whether the columns, after it has exchanged the two."""
    down = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8]))
    left = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7]))
    return down, left


def stored_window(window: tf.Tensor, extent: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Where in an image as it is stored a window of the upright image lies.

    Args:
      window: top, left, height and width in the upright image, `[4]` int32.
      extent: height and width of the upright image, `[2]` int32.
      orientation: of the image, 1 to 8, int32.

    Returns:
      Top, left, height and width in the stored image, `[4]` int32.
    """

    def found() -> tf.Tensor:
        down, left = _mirrored(orientation)
        reversed_start = extent - window[:2] - window[2:]
        start = tf.where(tf.stack([down, left]), reversed_start, window[:2])
        size = window[2:]
        return tf.cond(
            orientation > 4,
            lambda: tf.concat([start[::-1], size[::-1]], axis=0),
            lambda: tf.concat([start, size], axis=0),
        )

    return tf.cond(orientation > 1, found, lambda: window)


def centre_square(image: tf.Tensor, size: int, resized_side: int | None = None) -> tf.Tensor:
    """Shorter side to `resized_side` (antialiased), then the centre square.

    Args:
      image: `[h, w, C]`.
      size: of the square, in pixels.
      resized_side: at least `size`; None for `size`.

    Returns:
      `[size, size, C]` uint8.
    """
    side = resized_side or size
    # Of a long strip only the middle shows. Scaled as a whole, it could take gigabytes.
    extent = tf.shape(image)[:2]
    used = tf.minimum(extent, 4 * tf.reduce_min(extent))
    start = (extent - used) // 2
    image = image[start[0] : start[0] + used[0], start[1] : start[1] + used[1]]
    height, width = tf.unstack(tf.cast(used, tf.float32))
    ratio = side / tf.minimum(height, width)
    target = tf.maximum(tf.cast(tf.round(tf.stack([height, width]) * ratio), tf.int32), side)
    resized = tf.image.resize(image, target, antialias=True)
    cropped = tf.image.resize_with_crop_or_pad(resized, size, size)
    return tf.cast(tf.clip_by_value(tf.round(cropped), 0, 255), tf.uint8)


@functools.cache  # traced once a size: one image takes milliseconds of Python otherwise
def resizer(
    image_size: int, resized_side: int | None = None, num_channels: int = 3
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of an image `[h, w, C]` uint8 that returns its centre square, `[image_size, image_size, C]` uint8."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, num_channels], tf.uint8)], autograph=False)
    def resize(image: tf.Tensor) -> tf.Tensor:
        return centre_square(image, image_size, resized_side)

    return resize


def square(image: tf.Tensor, images: StoredImages) -> np.ndarray:
    """An image `[h, w, 3]` uint8 as the images of a data set are evaluated: `[H, W, 3]`."""
    size = images.image_shape[0]
    if image.shape == images.image_shape and images.resized_side == size:
        return image.numpy()  # in a fifth of the time
    return resizer(size, images.resized_side)(image).numpy()


def random_window(extent: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random window of an image, of 8 to 100 % of its area and 3:4 to 4:3 wide; the whole image if none fits.

    Args:
      extent: height, width and more, `[2 or 3]` int32.
      seed: `[2]` int, for the stateless generator.

    Returns:
      Top, left, height and width in pixels, `[4]` int32.
    """
    shape = tf.stack([extent[0], extent[1], 3])
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape, tf.zeros([1, 0, 4]), seed, 0.0, _ASPECT, _AREA, max_attempts=10, use_image_if_no_bounding_boxes=True
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def cut_out(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random window of an image of pixels, at the image's own size: `[H, W, C]`, of its dtype."""
    top, left, height, width = tf.unstack(random_window(tf.shape(image), seed))
    window = _resized(image[top : top + height, left : left + width], image.shape[:2])
    return tf.cast(tf.round(window), image.dtype) if image.dtype.is_integer else tf.cast(window, image.dtype)


def decode_window(
    content: tf.Tensor, orientation: tf.Tensor | None, seed: tf.Tensor, image_shape: tuple[int, int, int]
) -> tf.Tensor:
    """A random window of an encoded image, upright and resized (bilinear). Of a JPEG nothing else is decoded.

    Args:
      content: the encoded image, a scalar string.
      orientation: its EXIF orientation, 1 to 8, int32; None for an image that is upright.
      seed: of the window, `[2]` int.
      image_shape: `(H, W, 3)` of the result.

    Returns:
      `[H, W, 3]` uint8.
    """

    def of_jpeg() -> tf.Tensor:
        extent = tf.image.extract_jpeg_shape(content)
        if orientation is None:
            window = random_window(extent, seed)
        else:
            extent = tf.cond(orientation > 4, lambda: extent[1::-1], lambda: extent[:2])
            window = stored_window(random_window(extent, seed), extent, orientation)
        return upright(tf.io.decode_and_crop_jpeg(content, window, channels=3, dct_method="INTEGER_FAST"), orientation)

    def of_others() -> tf.Tensor:
        image = upright(tf.io.decode_image(content, channels=3, expand_animations=False), orientation)
        top, left, height, width = tf.unstack(random_window(tf.shape(image), seed))
        return image[top : top + height, left : left + width]

    window = tf.ensure_shape(tf.cond(tf.io.is_jpeg(content), of_jpeg, of_others), [None, None, 3])
    return tf.cast(_resized(window, image_shape[:2]) + 0.5, tf.uint8)  # rounds; bilinear values stay in 0..255


def _resized(window: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """A window `[h, w, C]` in another size (bilinear): `[*size, C]` float32."""
    # TensorFlow resizes floats twice as fast as bytes. Above this size, making floats of them costs more than that.
    return tf.cond(
        tf.size(window) < _FEW_VALUES,
        lambda: tf.image.resize(tf.cast(window, tf.float32), size),
        lambda: tf.image.resize(window, size),
    )


def decode_centre(
    content: tf.Tensor, orientation: tf.Tensor | None, image_shape: tuple[int, int, int], resized_side: int
) -> tf.Tensor:
    """The centre square of an encoded image, upright, as it is evaluated: `[H, W, 3]` uint8."""
    image = upright(tf.io.decode_image(content, channels=3, expand_animations=False), orientation)
    return tf.ensure_shape(centre_square(image, image_shape[0], resized_side), image_shape)


def read_rows(images: StoredImages, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads some rows, `[b]`, for graphs of tf.data.

    Returns:
      Their contents `[b]` string, the EXIF orientation of each `[b]` int32, and which are bare pixels, `[b]` bool.
    """

    def read(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            contents, orientations = zip(*(_plain(images, position) for position in positions), strict=True)
        except (OSError, headers.UnreadableImageError, tf.errors.OpError) as error:
            # TensorFlow hands on the text of an exception and not its type: see `explaining_lost_files`.
            raise OSError(f"{_LOST}{error}{_LOST}") from error
        return np.array(contents, object), np.array(orientations, np.int32)

    # What has no state may run several times at once even where operations are deterministic: twice as fast.
    contents, orientations = tf.numpy_function(read, [rows], (tf.string, tf.int32), stateful=False)
    is_pixels = tf.gather(tf.constant(images.is_pixels), rows)
    return tf.ensure_shape(contents, rows.shape), tf.ensure_shape(orientations, rows.shape), is_pixels


def _plain(images: StoredImages, row: int) -> tuple[bytes, int]:
    """A row's content and its EXIF orientation. What graphs would decode otherwise than `pixels` becomes PNG."""
    content = images.content(row)
    if images.is_pixels[row]:
        return content, 1
    if content[:2] in (b"GI", b"BM"):
        return tf.io.encode_png(pixels(content), compression=0).numpy(), 1
    return content, headers.orientation(content) if images.may_be_turned else 1


@contextlib.contextmanager
def explaining_lost_files() -> Iterator[None]:
    """Turns what TensorFlow says of an image that can no longer be read into a UsageError."""
    try:
        yield
    except tf.errors.OpError as error:
        text = str(error)
        _, mark, rest = text.partition(_LOST)
        if mark:
            found, advice = rest.partition(_LOST)[0], "Look for what became of it"
        elif _DECODING.search(text):
            found, advice = "its file was whole before, and is damaged now", "Look for it by mnemonics_tf.data.check"
        else:
            raise
        raise checks.UsageError(
            f"An image cannot be read any more ({found}). {advice}, then start again: complete phases are kept."
        ) from error


def decode_rows(
    images: StoredImages,
    rows: tf.Tensor,
    decode: Callable[[tf.Tensor, tf.Tensor | None, tf.Tensor], tf.Tensor],
    prepare: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    seeds: tf.Tensor,
) -> tf.Tensor:
    """Reads and decodes some rows, for graphs of tf.data.

    Args:
      images: where they are.
      rows: positions, `[b]` int64.
      decode: makes `[H, W, C]` uint8 of an encoded image, its EXIF orientation (None: upright) and a seed `[2]`.
      prepare: makes `[H, W, C]` uint8 of bare pixels `[H, W, C]` and a seed `[2]`.
      seeds: one for each row, `[b, 2]` int.

    Returns:
      `[b, H, W, C]` uint8.
    """
    contents, orientations, is_pixels = read_rows(images, rows)
    shape = images.image_shape

    def decode_one(row: Sequence[tf.Tensor]) -> tf.Tensor:
        content, bare, seed, *orientation = row
        return tf.cond(
            bare,
            lambda: prepare(tf.reshape(tf.io.decode_raw(content, tf.uint8), shape), seed),
            lambda: decode(content, orientation[0] if orientation else None, seed),
        )

    # To ask each image which way up it is takes time: most sets have none that is turned.
    elements = (contents, is_pixels, seeds, *([orientations] if images.may_be_turned else []))
    return tf.map_fn(decode_one, elements, fn_output_signature=tf.TensorSpec(shape, tf.uint8))


def in_memory(data: LabelledImages) -> LabelledImages:
    """The same images as an array, encoded ones as they are evaluated. Meant for few of them."""
    images = data.images
    if isinstance(images, np.ndarray):
        return data
    decoded = np.empty(images.shape, np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, square in enumerate(pool.map(functools.partial(evaluated, images), range(len(images)))):
            decoded[row] = square
    return dataclasses.replace(data, images=decoded)


def evaluated(images: StoredImages, row: int) -> np.ndarray:
    """A row as it is evaluated, `[H, W, C]` uint8.

    Raises:
      OSError: its file cannot be read.
      UnreadableImageError: it is no image, or of a kind that is not read.
      tf.errors.OpError: it is damaged.
    """
    content = images.content(row)
    if images.is_pixels[row]:
        return np.frombuffer(content, np.uint8).reshape(images.image_shape)
    with tf.device("/CPU:0"):  # a GPU would be sent every image and send it back
        return square(pixels(content), images)
