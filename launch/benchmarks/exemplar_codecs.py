"""What each codec of the memory makes of CIFAR-100: bytes an image, quality, and images a second.

    python launch/benchmarks/exemplar_codecs.py [--images 25000] [--sized 300]

Sizes and quality are of the first `--sized` training images of the set as TensorFlow Datasets has it; coding and
decoding is timed on `--images` of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_CODECS = (("png", 90), ("webp", 90), ("webp", 75), ("webp", 50), ("jpeg", 90), ("jpeg", 80), ("jpeg", 50))


def main() -> None:
    """Prints a row for each codec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=25_000)
    parser.add_argument("--sized", type=int, default=300)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    from mnemonics_tf.memory.coded import encoded, held, round_trip
    from mnemonics_tf.memory.formats import format_for

    images = tfds.as_numpy(tfds.load("cifar100", split="train", batch_size=-1))["image"][: arguments.images]
    sized = images[: arguments.sized]
    print("codec  quality  bytes an image  shared bytes  PSNR, dB  coded a second  coded and decoded a second")
    for name, quality in _CODECS:
        form = format_for(name, quality, images.shape[1:])
        codes = held(encoded(sized, form), form)
        error = ((round_trip(sized, form).astype(np.float32) - sized) ** 2).mean(axis=(1, 2, 3))
        psnr = f"{np.mean(10 * np.log10(255**2 / error)):8.1f}" if error.all() else "lossless"
        speeds = []
        for work in (encoded, round_trip):
            start = time.perf_counter()
            work(images, form)
            speeds.append(len(images) / (time.perf_counter() - start))
        print(
            f"{name:5}  {quality:7}  {codes.length.mean():14.1f}  {len(form.head):12}  {psnr}  {speeds[0]:14,.0f}"
            f"  {speeds[1]:26,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
