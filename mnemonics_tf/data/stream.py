"""The stream of phases: new classes with their images, one phase after the other."""

from __future__ import annotations

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.class_order import Protocol, index_of_id
from mnemonics_tf.types import ClassGroups, Dataset, LabelledImages, Phase, PixelRange


class ClassStream:
    """Deals a data set out to phases and renames its classes to their place in the class order.

    Args:
      dataset: with the data set's own class ids.
      protocol: order and number of classes a phase.

    Attributes:
      class_order: class ids by index, `[num_classes]`; classes that the protocol leaves out are not in it.
      phase_sizes: number of new classes in each phase.
      pixel_range: the data set's, or else the statistics of the training images of phase 0 (never of classes that
        are yet to come).

    Raises:
      UsageError: the classes cannot be dealt out as the protocol says, or a class has no image.
    """

    def __init__(self, dataset: Dataset, protocol: Protocol):
        num_classes = len(dataset.class_names)
        self.dataset = dataset
        self.class_order = protocol.class_order(dataset.class_names)
        self.phase_sizes = protocol.phase_sizes(num_classes)
        for split, part in (("training", dataset.train), ("test", dataset.test)):
            missing = np.setdiff1d(self.class_order, part.labels)
            if len(missing):
                names = ", ".join(dataset.class_names[class_id] for class_id in missing[:5])
                raise checks.UsageError(f"Data set {dataset.name!r}: no {split} image of {names}.")
        indices = index_of_id(self.class_order, num_classes)
        self._train = LabelledImages(dataset.train.images, indices[dataset.train.labels])
        self._test = LabelledImages(dataset.test.images, indices[dataset.test.labels])
        self.pixel_range = dataset.pixel_range or pixel_statistics(self.phase(0).train.images)

    @property
    def num_phases(self) -> int:
        """N + 1."""
        return len(self.phase_sizes)

    @property
    def smallest_class(self) -> int:
        """Number of training images of the class that has fewest."""
        return int(np.bincount(self._train.labels[self._train.labels >= 0]).min())

    @property
    def class_names(self) -> list[str]:
        """Names by index."""
        return [self.dataset.class_names[class_id] for class_id in self.class_order]

    def phase(self, index: int, with_old_data: bool = False) -> Phase:
        """What arrives in phase `index`; with the training images of old classes if they are asked for."""
        groups = ClassGroups(tuple(self.phase_sizes[: index + 1]))
        old = range(groups.num_old_classes)
        new = range(groups.num_old_classes, groups.num_classes)
        old_train = self._train.of_classes(old) if with_old_data else None
        return Phase(index, groups, self._train.of_classes(new), old_train)

    def test_data(self, num_classes: int) -> LabelledImages:
        """Test images of the first `num_classes` classes, sorted by class so that groups are contiguous."""
        seen = self._test.of_classes(range(num_classes))
        return seen.take(np.argsort(seen.labels, kind="stable"))


def pixel_statistics(images: np.ndarray) -> PixelRange:
    """Mean and standard deviation of each channel of uint8 images `[n, H, W, C]`, on the scale 0..1."""
    mean, std = [], []
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        values = np.arange(256) / 255
        average = np.average(values, weights=counts)
        mean.append(float(average))
        deviation = float(np.sqrt(np.average((values - average) ** 2, weights=counts)))
        # A constant channel carries nothing; dividing by one leaves it at zero.
        std.append(deviation if np.count_nonzero(counts) > 1 else 1.0)
    return PixelRange(tuple(mean), tuple(std))
