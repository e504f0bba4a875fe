"""Weight imprinting: the weights of new classes start from their images' embeddings (Qi et al., LUCIR, PODNet)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import keras
import numpy as np

from mnemonics_tf.models.classifier import directions
from mnemonics_tf.models.heads import Head


def imprint(head: Head, features: np.ndarray, labels: np.ndarray) -> None:
    """Sets the weights of new classes from their images' features.

    A class's weight is the direction of its mean normalised feature, at the mean norm of the old classes' weights.
    Where a class has several proxies, they are the directions of the centres that k-means finds; a class with fewer
    images than proxies has the directions of its images, repeated.

    Args:
      head: a head with old classes, whose kernel of new classes is set.
      features: embeddings of training images of all new classes by the network before this phase, `[n, d]`.
      labels: class index of each image, `[n]`.

    Raises:
      ValueError: the head has no old classes, or a new class has no feature.
    """
    if head.old_kernel is None:
        raise ValueError("Imprinting needs the weights of old classes for their norm; this head has none.")
    old = keras.ops.convert_to_numpy(head.old_kernel)
    num_proxies = head.new_kernel.shape[-1] // head.num_new_classes
    rows = imprinted(features, labels, range(head.num_old_classes, head.num_classes), num_proxies)
    head.new_kernel.assign(rows.T * np.mean(np.linalg.norm(old, axis=0)))


def imprinted(features: np.ndarray, labels: np.ndarray, classes: Iterable[int], num_proxies: int) -> np.ndarray:
    """Directions of the weights of some classes, `[classes * proxies, d]`, see `imprint`.

    Args:
      features: embeddings of images of all these classes, `[n, d]`.
      labels: class index of each image, `[n]`.
      classes: class indices, in the order of the result.
      num_proxies: weights of a class; 1 but for heads with proxies.

    Raises:
      ValueError: a class has no feature.
    """
    rows = []
    for index in classes:
        members = features[labels == index]
        if not len(members):
            raise ValueError(f"Class index {index} has no features to imprint its weights from.")
        rows.append(directions(_centres(directions(members), num_proxies)))
    return np.concatenate(rows)


def _centres(units: np.ndarray, count: int) -> np.ndarray:
    """The mean of `[n, d]` for a count of 1, otherwise the centres of as many clusters: `[count, d]`."""
    if count == 1:
        return units.mean(axis=0, keepdims=True)
    if len(units) < count:
        return units[np.arange(count) % len(units)]
    from sklearn import cluster, exceptions  # a second of import that single centres need not pay
    from threadpoolctl import threadpool_limits

    # Threads add their parts up in the order in which they end, and rounding follows it: one gives the same bits again.
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():
        # Fewer distinct embeddings than clusters: some proxies are then alike.
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return cluster.KMeans(count, n_init=1, random_state=0).fit(units).cluster_centers_
