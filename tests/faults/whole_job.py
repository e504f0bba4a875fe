"""The whole jobs that faults are done to: runs of two phases, made in Python.

*Digits* holds its images in memory and learns and adjusts its exemplars, after LUCIR's training and before fine-tuning.
*Folder* reads PNG and JPEG files in every epoch, keeps exemplars as JPEG, and has BiC's second stage. Networks and data
are tiny and steps are not traced, so a run takes seconds, and what its steps have come to is kept as often as a run
allows. It writes all that a run writes. Two things take most of the folder job's time, as TensorFlow traces them anew
for each pass, and are done otherwise there: images are decoded one by one, by the same functions, and in the place of
the SavedModel stands a file of another content.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import numpy as np

from mnemonics_tf.data import decoding
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.folder import Folder
from mnemonics_tf.data.sources import Digits
from mnemonics_tf.data.types import Dataset, LabelledImages
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.experiment import Run
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.analytic import Analytic
from mnemonics_tf.methods.bic import BiC
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run import phase_files
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

SNAPSHOT_SECONDS = 0.01  # a run takes fewer where they would cost more than 2.5 % of its time, and here they would
_PROTOCOL = Protocol(num_phases=1, initial_share=0.5)
_DIGITS = Settings(
    LUCIR(),
    memory=Memory(per_class=2),
    model_level=ModelLevel(epochs=2, batch_size=8, milestones=(1,), weight_transfer="none"),
    exemplar_level=ExemplarLevel(
        epochs=1, steps_per_epoch=2, inner_steps=1, batch_size=6, learning_rate=1e4, adjust_learning_rate=1e4,
        engine="truncated", window=1,
    ),
    finetuning=BalancedFinetune(epochs=2, batch_size=4),
    probe=Probe(enabled=False),
)  # fmt: skip
_FOLDER = Settings(
    BiC(held_out_share=0.5),
    memory=Memory("herding", "herding", 3, adjust=False, codec="jpeg", quality=80),
    model_level=ModelLevel(epochs=2, batch_size=6, milestones=(1,), weight_transfer="none"),
    finetuning=BalancedFinetune(enabled=False),
    probe=Probe(enabled=False),
    classifier="nme",
)
_STATISTICS = Settings(
    Analytic(units=20, penalties=(0.1, 1.0), held_out_share=0.25),
    memory=Memory("herding", per_class=0, adjust=False),
    model_level=ModelLevel(epochs=2, batch_size=6, milestones=(1,), weight_transfer="none"),
    finetuning=BalancedFinetune(enabled=False),
    probe=Probe(enabled=False),
)


def _decoded_one_by_one(images, rows, decode, prepare, seeds):
    """Takes the place of `decoding.decode_rows`."""
    import tensorflow as tf

    def read(positions: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        found = np.zeros((len(positions), *images.image_shape), np.uint8)
        for place, (row, seed) in enumerate(zip(positions, drawn, strict=True)):
            content, orientation = decoding._plain(images, row)
            if images.is_pixels[row]:
                bare = np.frombuffer(content, np.uint8).reshape(images.image_shape)
                found[place] = prepare(tf.constant(bare), tf.constant(seed))
            else:
                turn = tf.constant(orientation) if images.may_be_turned else None
                found[place] = decode(tf.constant(content), turn, tf.constant(seed))
        return found

    decoded = tf.numpy_function(read, [rows, seeds], tf.uint8, stateful=False)
    return tf.ensure_shape(decoded, [None, *images.image_shape])


class _Plain(Devices):
    """The CPU, by the strategy that costs least where steps are not traced."""

    def create_strategy(self):
        import tensorflow as tf

        return tf.distribute.get_strategy()


def digits(folder: str) -> None:
    """Runs the job on four digits, or goes on with it. Raises what a run raises."""
    _run(folder, _DIGITS, 1, _few_digits)


def digits_on_resnet(folder: str) -> None:
    """The job on four digits with the package's own network, which is made and checked in less time."""
    _run(folder, _DIGITS, 1, _few_digits, ResNet((1,), (4,), embedding_dim=4))


def with_statistics(images: str) -> Callable[[str], None]:
    """A job whose method keeps statistics of what it has seen, on a folder with images that cannot be read."""
    _draw_images(images)
    for kind in range(4):
        with open(os.path.join(images, f"kind {kind}", "broken.png"), "wb") as file:
            file.write(b"no picture")
    source = Folder(images, 8, test_share=0.25)

    def run(folder: str) -> None:
        _run(folder, _STATISTICS, 3, source.load, ResNet((1, 1), (4, 4)))

    return run


def on_folder(images: str) -> Callable[[str], None]:
    """The job on a folder of images, which is filled here."""
    _draw_images(images)
    source = Folder(images, 8, test_share=0.25, in_memory=False, resized_crop=True)

    def run(folder: str) -> None:
        phase_files.export_saved_model, decoding.decode_rows = _written_model, _decoded_one_by_one
        _run(folder, _FOLDER, 3, source.load)

    return run


def _written_model(folder: str, model, *others) -> None:
    """Takes the place of the export."""
    os.makedirs(folder)
    with open(os.path.join(folder, "saved_model.pb"), "wb") as file:
        file.write(b"".join(weight.tobytes() for weight in model.get_weights()))


def _run(
    folder: str, settings: Settings, channels: int, load: Callable[[], Dataset], network: ResNet | None = None
) -> None:
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    settings = dataclasses.replace(settings, network=network or _network(channels, settings.seed))
    configuration = Configuration(
        settings, _PROTOCOL, _Plain(), None, load, lambda: f"# {settings}\n", SNAPSHOT_SECONDS
    )
    Run(folder, lambda: configuration).run()


def _network(channels: int, seed: int) -> Backbone:
    """The smallest network that has a convolution and batch norm."""
    import keras

    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, channels))
    maps = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, strides=2)(images))
    return Backbone(keras.Model(images, keras.layers.GlobalAveragePooling2D()(maps), name="tiny"), "data")


def _few_digits() -> Dataset:
    whole = Digits().load()

    def part(images: LabelledImages, each: int) -> LabelledImages:
        rows = np.concatenate([np.flatnonzero(images.labels == digit)[:each] for digit in range(4)])
        return images.take(rows)

    return Dataset("digits", part(whole.train, 6), part(whole.test, 2), whole.class_names[:4], False, 1)


def _draw_images(images: str) -> None:
    """Eight pictures of each of four kinds, noise of their own colour."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for kind in range(4):
        os.makedirs(os.path.join(images, f"kind {kind}"))
        for number in range(8):
            height, width = generator.integers(8, 20, 2)
            noise = np.clip(generator.normal([60 + 40 * kind, 128, 200 - 40 * kind], 30, (height, width, 3)), 0, 255)
            name = f"{number}.{('png', 'jpg')[number % 2]}"
            Image.fromarray(noise.astype(np.uint8)).save(os.path.join(images, f"kind {kind}", name))
