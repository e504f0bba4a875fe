"""Coding a memory: its images into a format of pictures and back, as the memory's codecs do it and one by one."""

from __future__ import annotations

import io
from collections.abc import Callable

import inputs
import numpy as np
from harness.turns import Turns
from PIL import Image

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import codec_of, decoded


def code(start: Callable[[], Turns], name: str, quality: int) -> None:
    """All images coded, as they are at the end of a phase, and decoded, as they are at the next one's beginning."""
    images = inputs.pixels(inputs.CODED_IMAGES, 0)
    labels, codec = np.zeros(len(images), np.int64), codec_of(1, False, name, quality)
    start().serve(lambda: decoded(LabelledImages(codec.kept(images), labels), codec))


def code_one_by_one(start: Callable[[], Turns], name: str, quality: int) -> None:
    """The same by Pillow alone, an image after another, in its usual way of saving."""
    images = inputs.pixels(inputs.CODED_IMAGES, 0)

    def work() -> None:
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, name, quality=quality)
            np.asarray(Image.open(file))

    start().serve(work)
