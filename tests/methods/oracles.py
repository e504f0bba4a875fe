"""What tests of methods share: outputs of a made-up network, and losses in NumPy that know nothing of the package."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase
from mnemonics_tf.models.classifier import Outputs

# Two earlier phases and the present one: K = 5 old classes, M = 2 new ones.
GROUPS = ClassGroups((3, 2, 2))
INITIAL = ClassGroups((7,))
NUM_OLD, NUM_CLASSES = 5, 7
LABELS = np.array([0, 1, 2, 3, 4, 5, 6, 5, 0])


def outputs(seed: int, num_classes: int = NUM_CLASSES, eta: float = 4.0) -> Outputs:
    """Of 9 images, in float64; logits are no multiple of scores, so that a mix-up of the two shows."""
    generator = np.random.default_rng(seed)
    batch = len(LABELS)
    return Outputs(
        features=tf.constant(generator.normal(size=(batch, 4))),
        scores=tf.constant(generator.uniform(-1, 1, (batch, num_classes))),
        logits=tf.constant(generator.normal(0, 2, (batch, num_classes))),
        eta=tf.constant(eta, tf.float64),
        maps=tuple(tf.constant(generator.normal(size=(batch, *shape))) for shape in ((4, 3, 2), (2, 2, 5))),
    )


def of_old_classes(of_all: Outputs) -> Outputs:
    """What the network of the phase before says: it knows the old classes alone."""
    return of_all._replace(scores=of_all.scores[:, :NUM_OLD], logits=of_all.logits[:, :NUM_OLD])


def reordered(of_all: Outputs, images: np.ndarray) -> Outputs:
    """The outputs of the same images in another order."""
    features, scores, logits = (tf.gather(part, images) for part in of_all[:3])
    return Outputs(features, scores, logits, of_all.eta, tuple(tf.gather(part, images) for part in of_all.maps))


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of one row of logits."""
    powers = [math.exp(logit / temperature) for logit in logits]
    return np.array([power / sum(powers) for power in powers])


def cross_entropy(logits: tf.Tensor, labels: np.ndarray) -> float:
    """Mean over the images of -log p(true class)."""
    rows = zip(logits.numpy(), labels, strict=True)
    return float(np.mean([-math.log(probabilities(row)[label]) for row, label in rows]))


def distillation(logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float = 2.0) -> float:
    """Eq. 1 of the paper: mean over the images of -sum_k p*_k log p_k, both softened."""
    values = []
    for row, teacher_row in zip(logits.numpy(), teacher_logits.numpy(), strict=True):
        student, teacher = probabilities(row, temperature), probabilities(teacher_row, temperature)
        values.append(-sum(target * math.log(p) for target, p in zip(teacher, student, strict=True)))
    return float(np.mean(values))


def entropy(logits: tf.Tensor, temperature: float = 2.0) -> float:
    """What distillation cannot fall below: mean entropy of the teacher's softened probabilities."""
    return distillation(logits, logits, temperature)


def images_of(labels: np.ndarray, first: int = 0) -> LabelledImages:
    """An image `[1, 1, 1]` for each label, all different: `first`, `first` + 1, ..."""
    images = np.arange(first, first + len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return LabelledImages(images, np.asarray(labels, np.int64))


def a_phase(new_per_class: int = 12, old_train: LabelledImages | None = None) -> Phase:
    """The present phase of `GROUPS`, with pixels 100, 101, ... in mixed order of its classes."""
    labels = np.random.default_rng(0).permutation(np.repeat([5, 6], new_per_class))
    return Phase(2, GROUPS, images_of(labels, first=100), old_train)


def pixels_of(data: LabelledImages) -> list[int]:
    """The images that `images_of` has numbered."""
    return data.images.ravel().tolist()
