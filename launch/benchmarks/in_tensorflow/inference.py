"""Passes of a trained network over many images: evaluation and herding, as a phase does them."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import numpy as np
from harness.turns import Turns

from in_tensorflow.networks import build
from in_tensorflow.training import PIXEL_RANGE
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation import classifiers
from mnemonics_tf.memory import store
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.system import devices
from mnemonics_tf.system.tracking import Tracker


def evaluate(start: Callable[[], Turns]) -> None:
    """Predictions of both classifiers for test images."""
    predictor = _predictor(inputs.RESNET32)
    count = inputs.EVALUATED_IMAGES
    test = LabelledImages(inputs.pixels(count, 0), np.arange(count) % inputs.NUM_CLASSES)
    means = np.random.default_rng(1).standard_normal((inputs.NUM_CLASSES, inputs.WIDTHS[-1]), np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    start().serve(lambda: classifiers.predict(predictor, test, means))


def forward_pass(start: Callable[[], Turns]) -> None:
    """The embeddings that herding looks at, and nothing else."""
    predictor, data = _predictor(inputs.RESNET20), _herded()
    start().serve(lambda: predictor.features(data, "select_exemplars"))


def herding(start: Callable[[], Turns]) -> None:
    """Exemplars of every class by herding: the embeddings of all images, and the choice."""
    predictor, data = _predictor(inputs.RESNET20), _herded()
    memory = Memory(strategy="herding", per_class=inputs.EXEMPLARS_A_CLASS)

    def work() -> None:
        features = predictor.features(data, "select_exemplars")
        store.select(memory, data, features, inputs.EXEMPLARS_A_CLASS, np.random.default_rng(0))

    start().serve(work)


def _predictor(blocks: tuple[int, ...]) -> Predictor:
    strategy = devices.Devices().create_strategy()
    return Predictor(build(blocks, strategy), PIXEL_RANGE, Tracker(), strategy)


def _herded() -> LabelledImages:
    count = inputs.HERDED_IMAGES
    return LabelledImages(inputs.pixels(count, 0), np.arange(count) % inputs.HERDED_CLASSES)
