"""Pictures for TensorBoard, as uint8 arrays: large enough to see, with the names of classes beside them.

Small images are enlarged by whole factors to the nearest pixel, so that each pixel stays a sharp square.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pixels import to_uint8
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.system import screen

_MAX_CLASSES = 20
_MAX_PER_CLASS = 10
_SIDE = 64  # pixels that an image has at least, and about at most, on the screen
_GAP = 2
_FONT_SIZE, _LETTERS = 13, 24  # of a name, which is cut where it is longer
_STRONG = 100  # grey levels that a strong difference is brought to
_MOST_GAIN = 40.0  # by which differences are made visible at most
_MOST_NAMED, _CELL, _MATRIX_SIDE = 100, 12, 480  # classes that a confusion matrix names, and pixels of it


def exemplar_grid(exemplars: LabelledImages, names: Sequence[str]) -> np.ndarray:
    """A row for each class (20 at most): its name, and its exemplars side by side (10 at most).

    Args:
      exemplars: of any classes; an image of one channel is grey.
      names: of all classes, by index.

    Returns:
      `[height, width, 3]` uint8.
    """
    rows = _rows_of(exemplars)
    return _grid([(names[label], to_uint8(in_memory(exemplars.take(rows[label])).array)) for label in rows])


def difference_grid(before: LabelledImages, after: LabelledImages, names: Sequence[str]) -> tuple[np.ndarray, float]:
    """What changed in the exemplars that `exemplar_grid` shows, around grey, and how many times as strong as it is.

    Args:
      before: exemplars in their order.
      after: the same ones, changed.
      names: of all classes, by index.
    """
    rows = _rows_of(before)
    changes = [
        in_memory(after.take(shown)).array.astype(np.float32) - in_memory(before.take(shown)).array
        for shown in rows.values()
    ]
    largest = float(np.percentile(np.abs(np.concatenate([each.ravel() for each in changes])), 99))
    gain = float(np.clip(_STRONG / max(largest, 1e-6), 1.0, _MOST_GAIN))
    pairs = zip(rows, changes, strict=True)
    return _grid([(names[label], to_uint8(128 + gain * change)) for label, change in pairs]), gain


def confusion_image(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A confusion matrix as a picture: each row is a true class, dark where its test images were put.

    Args:
      matrix: `[true, predicted]` counts.
      names: of all classes, by index. They stand beside the rows and above the columns, of 100 classes at most.

    Returns:
      `[side, side, 3]` uint8.
    """
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # The square root keeps rare confusions visible beside a strong diagonal.
    grey = np.rint(255 * (1 - np.sqrt(share))).astype(np.uint8)
    is_named = len(matrix) <= _MOST_NAMED
    cell = max(_CELL if is_named else 1, _MATRIX_SIDE // len(matrix))
    squares = Image.fromarray(np.kron(grey, np.ones((cell, cell), np.uint8)))
    if not is_named:
        return np.asarray(squares.convert("RGB"))
    tags = [_name(name) for name in names[: len(matrix)]]
    margin = max(tag.width for tag in tags) + 2 * _GAP
    picture = Image.new("RGB", (margin + squares.width, margin + squares.height), "white")
    picture.paste(squares, (margin, margin))
    for place, tag in enumerate(tags):
        middle = margin + place * cell + (cell - tag.height) // 2
        picture.paste(tag, (margin - tag.width - _GAP, middle))
        upwards = tag.rotate(90, expand=True)
        picture.paste(upwards, (middle, margin - upwards.height - _GAP))
    return np.asarray(picture)


def enlarged(images: np.ndarray, side: int) -> np.ndarray:
    """Images `[n, H, W, C]` uint8 in three channels, brought to about `side` pixels: `[n, h, w, 3]`.

    Small ones are enlarged by a whole factor, large ones are reduced by leaving pixels out.
    """
    images = np.broadcast_to(images[..., :3] if images.shape[-1] >= 3 else images[..., :1], (*images.shape[:3], 3))
    height, width = images.shape[1:3]
    factor, step = max(1, math.ceil(side / max(height, width))), max(1, max(height, width) // side)
    return images[:, ::step, ::step].repeat(factor, axis=1).repeat(factor, axis=2)


def _rows_of(exemplars: LabelledImages) -> dict[int, np.ndarray]:
    """Positions of the exemplars that are shown, by class index."""
    labels = np.unique(exemplars.labels)[:_MAX_CLASSES].tolist()
    return {label: np.flatnonzero(exemplars.labels == label)[:_MAX_PER_CLASS] for label in labels}


def _grid(rows: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """A name and images `[n, H, W, C]` uint8 in each row."""
    strips = [enlarged(images, _SIDE) for _, images in rows]
    tags = [_name(name) for name, _ in rows]
    margin = max(tag.width for tag in tags) + 2 * _GAP
    height, width = strips[0].shape[1] + _GAP, strips[0].shape[2] + _GAP
    columns = max(map(len, strips))
    picture = Image.new("RGB", (margin + columns * width, len(rows) * height), "white")
    for row, (tag, strip) in enumerate(zip(tags, strips, strict=True)):
        picture.paste(tag, (_GAP, row * height + (height - tag.height) // 2))
        for column, image in enumerate(strip):
            picture.paste(Image.fromarray(image), (margin + column * width, row * height))
    return np.asarray(picture)


def _name(name: str) -> Image.Image:
    """A name in black on white."""
    font, knows_all = _font()
    if not knows_all:
        plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
        name = plain.encode("ascii", "replace").decode()
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    shown = screen.shortened(shown, _LETTERS)
    left, top, right, bottom = font.getbbox(shown or " ")
    tag = Image.new("RGB", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))), "white")
    ImageDraw.Draw(tag).text((-left, -top), shown, "black", font)
    return tag


@functools.cache
def _font() -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """The font of names, and whether it has the letters of most alphabets.

    Matplotlib brings one that has them, DejaVu Sans. It need not be installed: Pillow's own has English ones.
    """
    found = importlib.util.find_spec("matplotlib")
    place = os.path.dirname(found.origin) if found is not None and found.origin else ""
    try:
        path = os.path.join(place, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        return ImageFont.truetype(path, _FONT_SIZE - 1), True
    except OSError:
        return ImageFont.load_default(_FONT_SIZE), False
