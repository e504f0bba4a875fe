"""How long an exported model takes for one image, against a bare call of the same network.

    python launch/benchmarks/serving.py

It prints medians of 200 calls after a warm-up, taken in turns, of ResNet-32 on one image of 32 x 32: the network itself
in a tf.function, `serve` of the SavedModel on pixels, and `serve_jpeg` on a JPEG.
"""

from __future__ import annotations

import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import PixelRange
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.serving.export import export_saved_model

_CALLS, _WARM_UP, _SIDE, _CLASSES = 200, 20, 32, 100


def main() -> None:
    """Measures, and prints a line for each way."""
    factory = ClassifierFactory(ResNet((5, 5, 5), (16, 32, 64)), (_SIDE, _SIDE, 3))
    model, pixel_range = factory.build(0, _CLASSES), PixelRange((0.5,) * 3, (0.25,) * 3)
    with tempfile.TemporaryDirectory() as folder:
        export_saved_model(folder, model, factory, pixel_range, range(_CLASSES), [str(i) for i in range(_CLASSES)])
        exported = tf.saved_model.load(folder)
    image = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    spec = [tf.TensorSpec([None, _SIDE, _SIDE, 3], tf.float32)]
    bare = tf.function(lambda images: model(images, training=False).logits, spec)
    normalised, batch = pixels.normalise(image[None], pixel_range), tf.constant(image[None])
    content = tf.io.encode_jpeg(image)[None]
    ways = {
        "bare call": lambda: bare(normalised),
        "serve": lambda: exported.serve(batch),
        "serve_jpeg": lambda: exported.serve_jpeg(content),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(_WARM_UP + _CALLS):
        for name, ask in ways.items():
            start = time.perf_counter()
            ask()
            if turn >= _WARM_UP:
                taken[name].append(time.perf_counter() - start)
    first = np.median(taken["bare call"])
    for name, times in taken.items():
        print(f"{name:12}{1000 * np.median(times):8.2f} ms{np.median(times) / first:8.2f} x")


if __name__ == "__main__":
    main()
