"""What networks make of a memory, beside what they make of the images that it stands for."""

from __future__ import annotations

import numpy as np

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.models.predictor import Predictor

_IMAGES_OF_A_CLASS = 100


class Likeness:
    """How far the means of exemplars are from those of real images, in the space of a network's embeddings.

    Args:
      memory: exemplars as networks see them, of each class.
      images: all real images of these classes; the first of each are looked at.
    """

    def __init__(self, memory: LabelledImages, images: LabelledImages):
        rows = [np.flatnonzero(images.labels == label)[:_IMAGES_OF_A_CLASS] for label in np.unique(memory.labels)]
        self._memory, self._images = memory, images.take(np.sort(np.concatenate(rows)))

    def distance(self, predictor: Predictor) -> float:
        """See `distance_of_means`; with the embeddings of a network."""
        of_memory = predictor.features(self._memory, "likeness")
        return distance_of_means(
            of_memory, self._memory.labels, predictor.features(self._images, "likeness"), self._images.labels
        )


def distance_of_means(memory: np.ndarray, memory_labels: np.ndarray, images: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of |mean of images - mean of memory|^2, in units of the mean variance within classes.

    Of n images that are drawn at random it is 1 / n, beside the same of the real images themselves.

    Args:
      memory: embeddings of exemplars, `[m, d]`.
      memory_labels: class indices, `[m]`.
      images: embeddings of real images, `[n, d]`.
      labels: class indices, `[n]`, the same classes.
    """
    apart, within = [], []
    for label in np.unique(memory_labels):
        own = images[labels == label]
        mean = own.mean(axis=0)
        apart.append(np.sum((mean - memory[memory_labels == label].mean(axis=0)) ** 2))
        within.append(np.sum((own - mean) ** 2, axis=1).mean())
    return float(np.mean(apart) / np.mean(within))
