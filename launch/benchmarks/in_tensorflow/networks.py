"""Networks of random weights and random images: what the works of this folder have in common."""

from __future__ import annotations

import inputs
import tensorflow as tf

from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import seeds

seeds.make_deterministic()  # as runs are


def build(blocks: tuple[int, ...], strategy: tf.distribute.Strategy, dtype: str = "float32") -> Classifier:
    """A classifier with random weights, all of which are trained."""
    seeds.seed_initial_weights(0)
    with strategy.scope():
        backbone = ResNet(tuple(blocks), inputs.WIDTHS).build((inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3), dtype=dtype)
        model = Classifier(backbone, 0, inputs.NUM_CLASSES)
    model.train_all()
    return model


def batch(count: int, seed: int, dtype: str = "float32") -> tuple[tf.Tensor, tf.Tensor]:
    """Normalised images `[count, H, W, C]` and class indices `[count]`."""
    images, labels = inputs.labelled_images(count, seed)
    return tf.constant(images, dtype), tf.constant(labels)
