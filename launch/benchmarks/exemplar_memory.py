"""Host memory of the exemplar level at ImageNet's size: 980 old classes of 20 exemplars of 224 x 224 are adjusted.

    python launch/benchmarks/exemplar_memory.py [--classes 40] [--inner_steps 8] [--images_at_once 8]

Makes an exemplar file of 980 classes from synthetic JPEGs (3 GB, in a temporary folder), adjusts the first `--classes`
by ResNet-18 in chunks of 20 classes, one meta-step a part, and saves the exemplars of all 1,000. Prints the process's
memory after each step, resident now and the peak so far. What is not run is reckoned: further chunks follow one another
and need no more, more inner steps keep more copies of the parameters, a larger inner batch takes room for its images.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_SIZE, _PER_CLASS, _OLD_CLASSES = 224, 20, 980
_CHECKPOINT_EVERY = 10  # as configs/schedules/paper_imagenet.gin has it


def _memory() -> tuple[float, float]:
    """Resident memory and its peak, in GB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, peak = (int(fields[name].split()[0]) * 1024 / 1e9 for name in ("VmRSS", "VmHWM"))
    return resident, peak


def _report(what: str, start: float) -> None:
    resident, peak = _memory()
    print(f"{time.perf_counter() - start:7.0f} s   {resident:5.2f} GB   peak {peak:5.2f} GB   {what}", flush=True)


def _jpegs(count: int) -> list[bytes]:
    """Different synthetic photographs, 500 x 375."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        layers = [
            amplitude * tf.image.resize(generator.normal(size=(side, side, 3)), (375, 500)).numpy()
            for side, amplitude in ((4, 60), (16, 40), (64, 25))
        ]
        encoded.append(tf.io.encode_jpeg(np.clip(128 + sum(layers), 0, 255).astype(np.uint8), quality=90).numpy())
    return encoded


def main() -> None:
    """Runs the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--inner_steps", type=int, default=8)
    parser.add_argument("--inner_batch_size", type=int, default=16)
    parser.add_argument("--images_at_once", type=int, default=8)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), arguments, start)


def _run(folder: Path, arguments: argparse.Namespace, start: float) -> None:
    import tensorflow as tf

    from mnemonics_tf.data.stored import StoredImages
    from mnemonics_tf.data.types import LabelledImages, PixelRange
    from mnemonics_tf.memory.exemplar_file import load_exemplars, save_exemplars
    from mnemonics_tf.memory.optimising.optimiser import ExemplarOptimiser
    from mnemonics_tf.memory.optimising.settings import ExemplarLevel
    from mnemonics_tf.memory.pixel_file import PixelFile, as_pixels
    from mnemonics_tf.models.classifier import ClassifierFactory
    from mnemonics_tf.models.resnet import ResNet
    from mnemonics_tf.system.tracking import Tracker

    _report("imports", start)
    encoded = _jpegs(100)
    for index, content in enumerate(encoded):
        (folder / f"{index}.jpg").write_bytes(content)
    count = _OLD_CLASSES * _PER_CLASS
    images = StoredImages.of_files([str(folder / f"{index}.jpg") for index in range(100)], _SIZE, 256)
    labels = np.repeat(np.arange(_OLD_CLASSES), _PER_CLASS)
    order = np.arange(_OLD_CLASSES + 20)
    pixels = as_pixels(
        LabelledImages(images[np.arange(count) % 100], labels), PixelFile(str(folder / "a"), (_SIZE, _SIZE, 3))
    )
    save_exemplars(str(folder / "old.npz"), pixels, order)
    os.remove(folder / "a")
    old = load_exemplars(str(folder / "old.npz"), order, streamed=True)
    _report(f"{len(old)} exemplars in {os.path.getsize(folder / 'old.npz') / 1e9:.2f} GB", start)

    network = ResNet(stem="7x7", blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512))
    model = ClassifierFactory(network, (_SIZE, _SIZE, 3), "per_neuron").build(_OLD_CLASSES, 20)
    model.train_all()
    level = ExemplarLevel(
        epochs=1,
        steps_per_epoch=1,
        classes_per_chunk=20,
        inner_steps=arguments.inner_steps,
        inner_batch_size=arguments.inner_batch_size,
        images_at_once=arguments.images_at_once,
        checkpoint_every=_CHECKPOINT_EVERY,
    )
    _report("network", start)
    file = PixelFile(str(folder / "adjusted"), (_SIZE, _SIZE, 3))
    strategy = tf.distribute.get_strategy()
    published = PixelRange((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    optimiser = ExemplarOptimiser(model, published, level, Tracker(), strategy=strategy, file=file)
    chosen = old.of_classes(range(arguments.classes))
    adjusted = optimiser.adjust(chosen, seed=0)
    _report(f"{arguments.classes} classes adjusted, {len(adjusted)} exemplars", start)
    everything = adjusted.join(old.of_classes(range(arguments.classes, _OLD_CLASSES)))
    save_exemplars(str(folder / "new.npz"), everything, order)
    _report(f"{len(everything)} exemplars saved", start)
    copy = sum(variable.numpy().nbytes for variable in model.trainable_variables) / 1e9
    # T = 50 keeps every tenth state and those of ten steps; the steps run here were kept all.
    further = 50 // _CHECKPOINT_EVERY + _CHECKPOINT_EVERY - arguments.inner_steps
    # An inner batch of 128 and what is made of it: images, their gradient, and both in the chunk's own arrays.
    batch = 4 * (128 - arguments.inner_batch_size) * _SIZE * _SIZE * 3 * 4 / 1e9
    print(f"a copy of the parameters: {copy:.3f} GB; T = 50 holds {further} more of them: {further * copy:.2f} GB")
    print(f"inner batches of 128: {batch:.2f} GB more; peak then: {_memory()[1] + further * copy + batch:.2f} GB")


if __name__ == "__main__":
    main()
