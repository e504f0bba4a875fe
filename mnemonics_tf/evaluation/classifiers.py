"""The two classifiers that are reported: the network's head (CNN), and the nearest mean of exemplars (NME)."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.models.classifier import directions
from mnemonics_tf.models.predictor import Predictor

CLASSIFIERS = ("cnn", "nme")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predicted class indices of the test images, by classifier.

    Attributes:
      labels: true class indices, `[n]`.
      by_classifier: `cnn` and, where there are exemplars, `nme` to `[n]` class indices.
      means: what `nme` predicted by: `[num_classes, d]` of length 1, or None.
    """

    labels: np.ndarray
    by_classifier: dict[str, np.ndarray]
    means: np.ndarray | None


def nme_means(features: np.ndarray, mirrored_features: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """The mean of each class's exemplars, `[num_classes, d]`, each of length 1.

    A class's mean is taken over the normalised features of its exemplars and of their mirror images.

    Args:
      features: embeddings of the exemplars, `[n, d]`.
      mirrored_features: embeddings of their mirror images, `[n, d]`; None where a mirrored image is no image of its
        class.
      labels: class indices 0 to num_classes - 1, `[n]`.
    """
    units = directions(features)
    if mirrored_features is not None:
        units = (units + directions(mirrored_features)) / 2
    num_classes = int(labels.max()) + 1
    return directions(np.stack([units[labels == label].mean(axis=0) for label in range(num_classes)]))


def nme_predict(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The class whose mean is nearest to the normalised feature.

    Args:
      features: `[n, d]`.
      means: `[num_classes, d]`, of length 1.

    Returns:
      Class indices, `[n]`.
    """
    # Between vectors of length 1 the nearest has the largest inner product.
    return np.argmax(directions(features) @ means.T, axis=1)


def predict(
    predictor: Predictor, test: LabelledImages, exemplars: LabelledImages, horizontal_flip: bool
) -> Predictions:
    """Predictions of both classifiers for the test images of all classes seen so far.

    Args:
      predictor: of the network.
      test: test images.
      exemplars: of every class, or none at all.
      horizontal_flip: whether mirror images count in the means of exemplars.
    """
    test_features, test_logits = predictor(test, "evaluate")
    by_classifier = {"cnn": np.argmax(test_logits, axis=1)}
    if not len(exemplars):
        return Predictions(test.labels, by_classifier, None)
    mirrored = predictor.features(exemplars, "evaluate", mirrored=True) if horizontal_flip else None
    means = nme_means(predictor.features(exemplars, "evaluate"), mirrored, exemplars.labels)
    by_classifier["nme"] = nme_predict(test_features, means)
    return Predictions(test.labels, by_classifier, means)
