"""An exported model of random weights, and what it is made of."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from mnemonics_tf.data.types import PixelRange
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.serving.export import export_saved_model

NAMES = ("heron", "red/black", "größer", "a <b>", "=1", "stork", "7")
SIDE, RESIZED = 16, 20


@dataclasses.dataclass(frozen=True)
class Exported:
    """The folder of a SavedModel, and the Keras model in it."""

    folder: Path
    model: Classifier

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """By Keras, on images `[n, H, W, C]` uint8 that are normalised by hand."""
        logits = self.model((images / 255.0 - 0.4) / 0.2).logits.numpy().astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def export(folder: Path, channels: int = 3) -> Exported:
    """Exports a network for images of 16 x 16, whose shorter side is brought to 20 pixels before."""
    factory = ClassifierFactory(ResNet((1,), (8,), embedding_dim=8), (SIDE, SIDE, channels))
    model = factory.build(0, len(NAMES))
    pixel_range = PixelRange((0.4,) * channels, (0.2,) * channels)
    ids = range(10, 10 + len(NAMES))
    export_saved_model(str(folder), model, factory, pixel_range, ids, NAMES, resized_side=RESIZED)
    return Exported(folder, model)


@functools.cache
def shared(folder: Path) -> Exported:
    """One in the folder of a session, that all its test files read and none changes."""
    return export(folder / "exported/model")
