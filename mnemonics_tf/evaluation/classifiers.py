"""The two classifiers that are reported: the network's head (CNN), and the nearest mean of exemplars (NME)."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.models.classifier import directions
from mnemonics_tf.models.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predicted class indices of the test images, by classifier.

    Attributes:
      labels: true class indices, `[n]`.
      by_classifier: predicted class indices `[n]` under the classifier's name: `cnn` (the head) and, where every class
        has exemplars, `nme` (the nearest mean).
    """

    labels: np.ndarray
    by_classifier: dict[str, np.ndarray]


def nme_means(features: np.ndarray, mirrored_features: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """The mean of each class's exemplars in the space of embeddings.

    A class's mean is taken over the normalised features of its exemplars and of their mirror images, and normalised
    again.

    Args:
      features: embeddings of the exemplars, `[n, d]`.
      mirrored_features: embeddings of their mirror images, `[n, d]`; None where a mirrored image is no image of its
        class.
      labels: class indices, `[n]`; every index from 0 to the largest must be among them.

    Returns:
      `[num_classes, d]`, a row of length 1 for each class index.
    """
    units = directions(features)
    if mirrored_features is not None:
        units = (units + directions(mirrored_features)) / 2
    num_classes = int(labels.max()) + 1
    return directions(np.stack([units[labels == label].mean(axis=0) for label in range(num_classes)]))


def nme_predict(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Predicts the class whose mean is nearest to the normalised feature (Euclidean distance).

    Args:
      features: embeddings of the images, `[n, d]`, of any length above 0.
      means: mean of each class, `[num_classes, d]`, of length 1.

    Returns:
      Class indices, `[n]`.
    """
    # Between vectors of length 1 the nearest has the largest inner product.
    return np.argmax(directions(features) @ means.T, axis=1)


def nme_logits(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Logits `[n, num_classes]` whose softmax ranks the classes as `nme_predict` does.

    They are minus the squared distances between normalised features f and means m, up to a constant:
    -|f - m|^2 = 2 f m - 2, of which 2 f m, in -2..2, is returned.

    Args:
      features: embeddings of the images, `[n, d]`, of any length above 0.
      means: mean of each class, `[num_classes, d]`, of length 1.
    """
    return 2.0 * directions(features) @ means.T


def means_of(
    predictor: Predictor, exemplars: LabelledImages, num_classes: int, horizontal_flip: bool
) -> np.ndarray | None:
    """The nearest-mean classifier that the exemplars in memory make.

    Args:
      predictor: runs the network whose embeddings are averaged.
      exemplars: decoded images, with class indices below `num_classes`.
      num_classes: how many classes are known.
      horizontal_flip: whether a mirrored image still shows its class, so that mirror images count in the means.

    Returns:
      The mean of each class, `[num_classes, d]` of length 1; None if some class has no exemplar.
    """
    if len(np.unique(exemplars.labels)) < num_classes:
        return None
    mirrored = predictor.features(exemplars, "evaluate", mirrored=True) if horizontal_flip else None
    return nme_means(predictor.features(exemplars, "evaluate"), mirrored, exemplars.labels)


def predict(predictor: Predictor, test: LabelledImages, means: np.ndarray | None) -> Predictions:
    """Predictions of both classifiers for test images.

    Args:
      predictor: runs the network.
      test: images with class indices.
      means: mean of each class, `[num_classes, d]` of length 1, as `means_of` returns them; None to predict by the head
        alone.
    """
    features, logits = predictor(test, "evaluate")
    by_classifier = {"cnn": np.argmax(logits, axis=1)}
    if means is not None:
        by_classifier["nme"] = nme_predict(features, means)
    return Predictions(test.labels, by_classifier)
