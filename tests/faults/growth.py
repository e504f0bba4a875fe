"""Memory and traces of a run of many phases: `python tests/faults/growth.py [--phases=50]`.

Prints a line for each phase: its number, the memory that the process holds in MB, how many graphs TensorFlow has traced
in it, and how many gradients its registry knows, which keep the graphs that they belong to. Every phase brings a class
of four images, learns and adjusts exemplars, probes and fine-tunes them; steps are traced as in any run.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile

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
from mnemonics_tf.run import journal
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

# The batch holds all classes from the first phase on, so that it has the same shape in each.
_SETTINGS = Settings(
    Replay(),
    ResNet((1,), (2,), embedding_dim=2),
    Memory(per_class=2),
    ModelLevel(epochs=1, batch_size=4, milestones=(), weight_transfer="none"),
    exemplar_level=ExemplarLevel(
        epochs=1, steps_per_epoch=1, inner_steps=1, batch_size=2, inner_batch_size=2, engine="truncated", window=1
    ),
    finetuning=BalancedFinetune(epochs=1, batch_size=4),
    probe=Probe(repeats=1, epochs=1, scratch_epochs=1, batch_size=2),
)


def measure(phases: int) -> list[tuple[float, int, int]]:
    """Memory in MB, graphs traced, and gradients registered by the end of each phase, before it is written."""
    from tensorflow.python.framework import func_graph, ops

    found: list[tuple[float, int, int]] = []
    traced = 0
    make, finish = func_graph.FuncGraph.__init__, journal.RunJournal.phase_finished

    def counting(self, *args, **kwargs):
        nonlocal traced
        traced += 1
        make(self, *args, **kwargs)

    def finishing(self, *args, **kwargs):
        nonlocal traced
        gc.collect()
        found.append((_held(), traced, len(ops.gradient_registry._registry)))
        print(f"{len(found) - 1:3}  {found[-1][0]:7.1f} MB  {traced:5} graphs  {found[-1][2]:5} gradients", flush=True)
        traced = 0
        return finish(self, *args, **kwargs)

    func_graph.FuncGraph.__init__, journal.RunJournal.phase_finished = counting, finishing
    protocol = Protocol(sizes=(2, *[1] * (phases - 1)))
    configuration = Configuration(_SETTINGS, protocol, Devices(), None, lambda: _data(phases + 1), lambda: "# toy\n")
    with tempfile.TemporaryDirectory() as folder:
        Run(os.path.join(folder, "run"), lambda: configuration).run()
    return found


def _held() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _data(num_classes: int) -> Dataset:
    generator = np.random.default_rng(0)

    def part(each: int) -> LabelledImages:
        images = generator.integers(0, 256, (num_classes * each, 4, 4, 1), np.uint8)
        return LabelledImages(images, np.repeat(np.arange(num_classes), each))

    names = tuple(f"kind {class_id}" for class_id in range(num_classes))
    return Dataset("toy", part(4), part(1), names, horizontal_flip=False, crop_padding=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", type=int, default=50)
    measure(parser.parse_args().phases)
