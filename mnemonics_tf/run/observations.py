"""What a phase keeps to be looked at, and nothing else reads: confusion matrices, and images that exemplars began as.

    confusion.npz           class_ids [k], and counts [k, k] under the name of each classifier, rows by true class
    starting_images.npz     exemplars of new classes before they were learned, in the form of exemplars.npz; only where
                            they were learned

Phases of earlier versions have neither, and are resumed and reported all the same.
"""

from __future__ import annotations

import math
import os

import numpy as np

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.evaluation.classifiers import Predictions
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.codecs import Codec
from mnemonics_tf.memory.exemplar_file import save_exemplars
from mnemonics_tf.memory.store import as_kept

CONFUSION_FILE = "confusion.npz"
STARTING_IMAGES_FILE = "starting_images.npz"

# Pixels of starting images that a phase keeps: all of CIFAR-100's, and a few of each class where images are large.
_MAX_BYTES = 16 * 2**20


def save_confusion(folder: str, predictions: Predictions, classes: ClassTable) -> None:
    """Writes how many test images of each class were taken for each, by every classifier.

    Args:
      folder: of the phase.
      predictions: of its test images.
      classes: those that are known by the end of the phase.
    """
    matrices = {
        name: metrics.confusion_matrix(predicted, predictions.labels, len(classes)).astype(np.int32)
        for name, predicted in predictions.by_classifier.items()
    }
    with open(os.path.join(folder, CONFUSION_FILE), "wb") as file:
        # Compressed: most of a thousand times a thousand counts are 0.
        np.savez_compressed(file, allow_pickle=False, class_ids=classes.order, **matrices)


def few_of_each_class(exemplars: LabelledImages) -> LabelledImages:
    """The first exemplars of each class, as many as there is room for, and at least one; they are read into memory."""
    counts = np.bincount(exemplars.labels)
    num_bytes = math.prod(exemplars.images.shape[1:])
    limit = max(1, _MAX_BYTES // (num_bytes * max(1, int(np.count_nonzero(counts)))))
    if int(counts.max(initial=0)) <= limit:
        return in_memory(exemplars)
    first = [np.flatnonzero(exemplars.labels == label)[:limit] for label in np.flatnonzero(counts)]
    return in_memory(exemplars.take(np.sort(np.concatenate(first))))


def save_starting_images(folder: str, slots: LabelledImages, classes: ClassTable, codec: Codec) -> None:
    """Writes exemplars as they were before they were learned.

    Args:
      folder: of the phase.
      slots: as `few_of_each_class` returned them.
      classes: those that are known by the end of the phase.
      codec: how exemplars are stored, so that before and after differ by what was learned and not by the coding.
    """
    save_exemplars(os.path.join(folder, STARTING_IMAGES_FILE), as_kept(slots, codec), classes.order, codec)
