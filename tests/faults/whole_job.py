"""The whole job that faults are done to: a run of three phases on noise, made in Python.

Its network is tiny and its steps are not traced, but it writes all that a run writes: networks, exemplars that are
learned, SavedModels, figures.
"""

from __future__ import annotations

import numpy as np

from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.types import Dataset, LabelledImages
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.experiment import Run
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

NUM_PHASES = 3
_SETTINGS = Settings(
    Replay(),
    ResNet((1,), (4,), embedding_dim=4),
    Memory(per_class=2, adjust=False),
    ModelLevel(epochs=2, batch_size=8, milestones=(), weight_transfer="none"),
    exemplar_level=ExemplarLevel(
        epochs=2, steps_per_epoch=1, inner_steps=1, learning_rate=100.0, engine="truncated", window=1
    ),
    finetuning=BalancedFinetune(enabled=False),
    probe=Probe(enabled=False),
)


class _Plain(Devices):
    """The CPU, by the strategy that costs least where steps are not traced."""

    def create_strategy(self):
        import tensorflow as tf

        return tf.distribute.get_strategy()


def run(folder: str) -> None:
    """Runs the job, or goes on with it. Raises what a run raises."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    protocol = Protocol(num_phases=NUM_PHASES - 1, initial_share=0.5)
    configuration = Configuration(_SETTINGS, protocol, _Plain(), None, _data, lambda: f"# {_SETTINGS}\n")
    Run(folder, lambda: configuration).run()


def _data() -> Dataset:
    generator = np.random.default_rng(0)

    def part(each: int) -> LabelledImages:
        images = generator.integers(0, 256, (4 * each, 8, 8, 3), np.uint8)
        return LabelledImages(images, np.repeat(np.arange(4), each))

    names = tuple(f"kind {class_id}" for class_id in range(4))
    return Dataset("noise", part(6), part(2), names, horizontal_flip=False, crop_padding=0)
