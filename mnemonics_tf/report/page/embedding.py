"""Features of data and exemplars by a run's own networks, and their t-SNE; also confusions that a run did not write."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable

import numpy as np

from mnemonics_tf.data.types import Dataset, LabelledImages
from mnemonics_tf.report.page.blocks import MissingError
from mnemonics_tf.report.page.data import dataset_of
from mnemonics_tf.report.page.record import Record
from mnemonics_tf.serving import inspection
from mnemonics_tf.system import files, screen

_NUM_COLOURED = 5  # as in the paper's figures
_DATA_PER_CLASS = 100  # images of each coloured class
_OTHERS_PER_CLASS = 10  # images whose mean is the cross of another class
_MOST_OTHERS = 200  # other classes
_MOST_TESTED = 10_000  # test images for confusions
_BATCH = 250
_SEED = 0  # of the images that are drawn, and of t-SNE
_ANSWERS = ("class_ids", "embeddings")  # of a network, that are looked at

Network = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Points in the plane, all from one t-SNE.

    Attributes:
      names: of the coloured classes.
      data: `[n, 2]`, images of these classes.
      data_owners: `[n]`, the place in `names` of each.
      exemplars: points `[m, 2]` and owners `[m]`, by what they are: `kept`, and `start` where exemplars were learned.
      others: `[k, 2]`, the mean of each other class.
    """

    names: tuple[str, ...]
    data: np.ndarray
    data_owners: np.ndarray
    exemplars: dict[str, tuple[np.ndarray, np.ndarray]]
    others: np.ndarray


def embed(record: Record, phase: int) -> Embedded:
    """The t-SNE of features by the network of a phase, for the first classes of phase 0 (Figures 1 and 5).

    Args:
      record: the run.
      phase: whose network and exemplars are shown.

    Raises:
      MissingError: its data, network or exemplars are not there.
    """
    coloured = list(record.classes_of(0))[:_NUM_COLOURED]
    kept = record.exemplars(phase)
    exemplars = {"kept": kept}
    with contextlib.suppress(MissingError):  # they were not learned, or the run is of an earlier version
        exemplars["start"] = record.exemplars(0, starting=True)
    network, dataset = network_of(record, phase), dataset_of(record)
    generator = np.random.default_rng(_SEED)
    order = record.results.class_order
    data, owners = _drawn(dataset, [order[index] for index in coloured], _DATA_PER_CLASS, generator)
    known = record.results.phases[phase].num_classes
    others = [index for index in range(known) if index not in coloured][:_MOST_OTHERS]
    parts = [_features(network, data)]
    shown = {}
    for name, (images, labels) in exemplars.items():
        chosen = np.isin(labels, coloured)
        if not chosen.any():
            raise MissingError(f"Phase {phase} of the run keeps no exemplars, and so there is nothing to place.")
        shown[name] = np.array([coloured.index(label) for label in labels[chosen]], np.int64)
        parts.append(_features(network, images[chosen]))
    if others:
        images, groups = _drawn(dataset, [order[index] for index in others], _OTHERS_PER_CLASS, generator)
        features = _features(network, images)
        parts.append(np.stack([features[groups == place].mean(axis=0) for place in range(len(others))]))
    points = np.split(_in_the_plane(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
    placed = {name: (points[1 + place], owner) for place, (name, owner) in enumerate(shown.items())}
    names = tuple(record.class_names[index] for index in coloured)
    return Embedded(names, points[0], owners, placed, points[-1] if others else np.zeros((0, 2)))


def confusion_by_network(record: Record, phase: int) -> np.ndarray:
    """Counts `[k, k]` of a phase's saved network on the test images, for runs that have not written any.

    Raises:
      MissingError: its data or network are not there.
    """
    network, dataset = network_of(record, phase), dataset_of(record)
    count = record.results.phases[phase].num_classes
    index = {class_id: place for place, class_id in enumerate(record.results.class_order[:count])}
    test = dataset.test.of_classes(index)
    if len(test) > _MOST_TESTED:
        test = test.take(np.sort(np.random.default_rng(0).choice(len(test), _MOST_TESTED, replace=False)))
    counts = np.zeros((count, count), np.int64)
    test = _readable(test)
    for start in range(0, len(test), _BATCH):
        predicted = network(test.array[start : start + _BATCH])["class_ids"]
        true = test.labels[start : start + _BATCH]
        if not set(predicted.tolist()) <= index.keys():
            raise MissingError(f"The saved_model in phase {phase} knows other classes than the run had by then.")
        np.add.at(counts, ([index[int(each)] for each in true], [index[int(each)] for each in predicted]), 1)
    return counts


def network_of(record: Record, phase: int) -> Network:
    """The servable network of a phase: uint8 images `[B, H, W, C]` in, arrays by name out.

    Raises:
      MissingError: it is not there, or cannot be loaded. What is returned raises it, too, if the network is another's,
        which does not take the run's images or answer as ours do.
    """
    folder = record.phase_file(phase, "saved_model")
    if not os.path.isdir(folder):
        raise MissingError(f"The run has no saved_model in phase {phase}, by which features are found.")
    with screen.quiet():
        import tensorflow as tf

        try:
            loaded = inspection.load(folder)
            serve = loaded.serve
        except inspection.ReachingOutError as error:
            named = screen.shown(", ".join(error.operations))
            raise MissingError(f"{screen.shown(folder)} is not loaded: besides computing it does {named}.") from error
        except (files.UnreadableError, AttributeError) as error:
            reason = screen.shown(str(error))
            raise MissingError(f"{screen.shown(folder)} cannot be loaded ({reason}).") from error

    def run(images: np.ndarray, model: object = loaded) -> dict[str, np.ndarray]:
        # `model` keeps the variables alive, which the endpoint alone does not.
        try:
            answer = serve(tf.constant(images, tf.uint8))
            return {name: answer[name].numpy() for name in _ANSWERS}
        except (AttributeError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
            raise MissingError(f"{screen.shown(folder)} is not a network of the run.") from error

    return run


def _features(network: Network, images: np.ndarray) -> np.ndarray:
    """Embeddings of length 1, `[n, d]`: the classifiers compare directions."""
    parts = [network(images[start : start + _BATCH])["embeddings"] for start in range(0, len(images), _BATCH)]
    from mnemonics_tf.models.classifier import directions  # TensorFlow is imported by now

    return directions(np.concatenate(parts))


def _drawn(
    dataset: Dataset, class_ids: list[int], count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Training images of some classes, `[n, H, W, C]`, at most `count` of each, and the place of their class."""
    places = []
    for class_id in class_ids:
        members = np.flatnonzero(dataset.train.labels == class_id)
        if not len(members):
            raise MissingError("The data on this machine lack a class of the run.")
        chosen = generator.choice(members, min(count, len(members)), replace=False)
        places.append(np.sort(chosen))
    drawn = _readable(dataset.train.take(np.concatenate(places)))
    if not set(class_ids) <= set(drawn.labels.tolist()):
        raise MissingError("Of a class of the run no image that was drawn can be read.")
    return drawn.array, np.array([class_ids.index(label) for label in drawn.labels], np.int64)


def _readable(images: LabelledImages) -> LabelledImages:
    """The images in memory, without those that a run passes over, too, as they cannot be read."""
    if isinstance(images.images, np.ndarray):
        return images
    from mnemonics_tf.data.reading import look_through

    return look_through(images, "read images", keep=True)[0]


def _in_the_plane(features: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degenerate features, such as those of a network that has learned nothing
        return TSNE(perplexity=perplexity, init="pca", random_state=_SEED).fit_transform(features.astype(np.float64))
