"""Images/s of the training pipeline for photographs, against bare decoding of the same windows.

    python launch/benchmarks/input_pipeline.py [--images 400] [--turns 12] [--deterministic]

Writes synthetic JPEGs of 500 x 375 to a temporary folder. `ours` reads a file, decodes a random window of it, resizes
that to 224 x 224, mirrors it or not, and puts 128 together. `bare` reads the same files, decodes windows drawn likewise
by `tf.io.decode_and_crop_jpeg` in a parallel `Dataset.map`, and does nothing else; `bare, one at a time` has no such
map. They take turns, and the fastest turn of each counts, as other processes can only slow one down.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_SIZE, _BATCH_SIZE, _REPEATS = 224, 128, 5


def _photographs(folder: str, count: int) -> list[str]:
    """Paths of synthetic photographs: smooth fields of several scales and some noise, about 75 kB each."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        image = 128.0 + generator.normal(size=(375, 500, 3)) * 4
        for rows, amplitude in ((4, 60), (16, 40), (64, 25), (188, 14)):
            field = generator.normal(size=(rows, rows * 4 // 3, 3)).astype(np.float32)
            image = image + amplitude * tf.image.resize(field, (375, 500), "bicubic").numpy()
        paths.append(os.path.join(folder, f"{index}.jpg"))
        content = tf.io.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), quality=90).numpy()
        Path(paths[-1]).write_bytes(content)
    return paths


def _loops(paths: list[str]) -> dict[str, Iterable]:
    """What takes turns: datasets that pass over all images once."""
    import tensorflow as tf

    from mnemonics_tf.data import decoding, pipeline
    from mnemonics_tf.data.stored import StoredImages
    from mnemonics_tf.data.types import LabelledImages

    # As a phase has them, which has looked them through.
    images = dataclasses.replace(StoredImages.of_files(paths, _SIZE, 256), may_be_turned=False)
    data = LabelledImages(images, np.zeros(len(paths), np.int64))
    augmentation = pipeline.Augmentation(0, True, True)
    windows = [decoding.random_window(tf.constant([375, 500, 3]), [0, row]) for row in range(len(paths))]

    def bare(num_parallel_calls: int | None) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((tf.constant(paths), tf.stack(windows)))
        return rows.map(
            lambda path, window: tf.io.decode_and_crop_jpeg(tf.io.read_file(path), window, channels=3),
            num_parallel_calls=num_parallel_calls,
        )

    return {
        "bare": bare(tf.data.AUTOTUNE),
        "bare, one at a time": bare(None),
        "ours": pipeline.training_batches(data, _BATCH_SIZE, 1, 0, augmentation),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--deterministic", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mnemonics_tf.system import seeds

    if arguments.deterministic:
        seeds.make_deterministic()
    with tempfile.TemporaryDirectory() as folder:
        # Several times the same files, so that filling and draining a pipeline count little.
        loops = _loops(_photographs(folder, arguments.images) * _REPEATS)
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(arguments.turns + 1):
            for name, loop in loops.items():
                start = time.perf_counter()
                for _ in loop:
                    pass
                seconds[name].append(time.perf_counter() - start)
    cores = os.cpu_count() or 1
    fastest = {name: min(each[1:]) for name, each in seconds.items()}  # the first turn warms up
    print(f"{'':<22}images/s  a core  ours / it   ({cores} cores, fastest of {arguments.turns} turns)")
    for name, each in fastest.items():
        rate = arguments.images * _REPEATS / each
        print(f"{name:<22}{rate:8.0f}{rate / cores:8.0f}{each / fastest['ours']:11.2f}")


if __name__ == "__main__":
    main()
