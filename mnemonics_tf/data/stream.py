"""The stream of phases: new classes with their images, one phase after the other."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.class_order import Protocol, index_of_id
from mnemonics_tf.data.identity import class_marks
from mnemonics_tf.data.layout import listed
from mnemonics_tf.data.pixels import histogram_of
from mnemonics_tf.data.reading import check_enough, look_through, report_unreadable
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Arrival, ClassGroups, Dataset, LabelledImages, Phase, PixelRange


class ClassStream:
    """Deals a data set out to phases and renames its classes to their place in the class order.

    Images in files are looked through when their classes arrive, and no others are opened: what cannot be read is left
    out and noted, what can is kept as an array if the data set says so.

    Args:
      dataset: with the data set's own class ids.
      protocol: order and number of classes a phase.
      pixel_range: how the network wants pixels normalised; None, the default, for as the data set says, or else by the
        statistics of the initial phase.

    Attributes:
      class_order: class ids by index, `[num_classes]`; classes that the protocol leaves out are not in it.
      phase_sizes: number of new classes in each phase.
      skipped: images that could not be read so far: where they are, and the reason.

    Raises:
      UsageError: the classes cannot be dealt out as the protocol says, or a class has no image.
    """

    def __init__(self, dataset: Dataset, protocol: Protocol, pixel_range: PixelRange | None = None):
        num_classes = len(dataset.class_names)
        _check_arrays(dataset)
        self.dataset = dataset
        self.class_order = protocol.class_order(dataset.class_names)
        self.phase_sizes = protocol.phase_sizes(num_classes)
        for split, part in (("training", dataset.train), ("test", dataset.test)):
            missing = np.setdiff1d(self.class_order, part.labels)
            if len(missing):
                names = ", ".join(dataset.class_names[class_id] for class_id in missing[:5])
                raise checks.UsageError(f"Data set {dataset.name!r}: no {split} image of {names}.")
        indices = index_of_id(self.class_order, num_classes)
        self._splits = {
            "train": LabelledImages(dataset.train.images, indices[dataset.train.labels]),
            "test": LabelledImages(dataset.test.images, indices[dataset.test.labels]),
        }
        self.skipped: dict[str, str] = dict(dataset.skipped)
        self._arrived: dict[tuple[str, int], LabelledImages] = {}
        self._pixel_range = pixel_range or dataset.pixel_range

    @property
    def num_phases(self) -> int:
        """N + 1."""
        return len(self.phase_sizes)

    @property
    def streamed(self) -> bool:
        """Whether images stay in files, whatever phase they are needed in."""
        return isinstance(self._splits["train"].images, StoredImages) and not self.dataset.decode_once

    @property
    def train(self) -> LabelledImages:
        """Training images of all phases with class indices, -1 for classes that are left out; none is looked at."""
        return self._splits["train"]

    @property
    def class_sizes(self) -> np.ndarray:
        """Number of training images of each class index, as far as is known without opening any, `[num_classes]`."""
        labels = self._splits["train"].labels
        return np.bincount(labels[labels >= 0], minlength=len(self.class_order))

    @property
    def class_names(self) -> list[str]:
        """Names by index."""
        return [self.dataset.class_names[class_id] for class_id in self.class_order]

    @property
    def pixel_range(self) -> PixelRange:
        """The data set's, or else the statistics of the training images of phase 0, never of classes yet to come."""
        if self._pixel_range is None:
            self._pixel_range = self._initial_statistics()
        return self._pixel_range

    @pixel_range.setter
    def pixel_range(self, known: PixelRange) -> None:
        """What an earlier process has found, so that phase 0 need not be read again."""
        self._pixel_range = known

    def identity(self) -> dict[str, Any]:
        """What tells these images from others, wherever they lie; of each class index, in lists.

        `train` and `test`: the number of images and a checksum (see `data.identity`), as texts.
        """
        return self._identity

    @functools.cached_property
    def _identity(self) -> dict[str, list[str]]:
        # Once a run: it looks at all pixels, or asks for the sizes of up to 200,000 files.
        count = len(self.class_order)
        return {split: class_marks(part, count) for split, part in self._splits.items()}

    def check_same_images(self, noted: Mapping[str, Any], num_phases: int) -> None:
        """Makes sure that the classes of complete phases still have the images that they had.

        Args:
          noted: what `identity` returned when the run began; empty for runs of versions that did not note it.
          num_phases: how many phases are complete. Images of classes yet to come may be mended or replaced.

        Raises:
          UsageError: some class has other images, by name, number or size.
        """
        for split, marks in self.identity().items():
            before = noted.get(split, marks) if isinstance(noted, Mapping) else None
            if not isinstance(before, list) or len(before) != len(marks):
                before = [None] * len(marks)  # damaged
            # The statistics of pixels are those of the training images of phase 0, finished or not.
            known = sum(self.phase_sizes[: max(num_phases, split == "train")])
            names = self.class_names[:known]
            changed = [name for name, mark, now in zip(names, before, marks, strict=False) if mark != now]
            if changed:
                raise checks.UsageError(
                    f"Data set {self.dataset.name!r}: the {'training' if split == 'train' else split} images of "
                    f"{listed(changed)} are not those with which the run began (their names, number or sizes differ). "
                    "Put them back as they were, or start another run in another --output_dir."
                )

    def replaced_images(self, noted: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Marks of the classes whose images are others than those that were noted, by split and class index.

        Args:
          noted: as for `check_same_images`, which has found complete phases to be as they were.
        """
        replaced = {}
        for split, marks in self.identity().items():
            before = noted.get(split)
            if isinstance(before, list) and len(before) == len(marks):
                pairs = enumerate(zip(marks, before, strict=True))
                replaced[split] = {str(index): mark for index, (mark, old) in pairs if mark != old}
        return {split: different for split, different in replaced.items() if different}

    def phase(self, index: int, with_old_data: bool = False) -> Phase:
        """What arrives in phase `index`; with the training images of old classes if they are asked for.

        Raises:
          UsageError: a class has no image that can be read.
        """
        if not with_old_data:
            # Of classes that nobody asks for again; as arrays, those of all phases might not fit in memory.
            kept = {key: part for key, part in self._arrived.items() if key == ("train", index) or key[0] == "test"}
            self._arrived = kept
        groups = ClassGroups(tuple(self.phase_sizes[: index + 1]))
        old_train = self._old_train(index) if with_old_data else None
        return Phase(index, groups, self._part("train", index), old_train)

    def arrival(self, index: int, with_old_data: bool = False) -> Arrival:
        """What arrives in phase `index`, with the test images of all classes that are known by then.

        Args:
          index: of the phase, 0 for the initial one.
          with_old_data: bring the training images of old classes too.

        Raises:
          UsageError: a class has no image that can be read.
        """
        phase = self.phase(index, with_old_data)
        ids = [int(class_id) for class_id in self.class_order[phase.new_classes.start : phase.new_classes.stop]]
        names = tuple(self.dataset.class_names[class_id] for class_id in ids)
        return Arrival(tuple(ids), names, phase.train, self.test_data(phase.num_classes), phase.old_train)

    def test_data(self, num_classes: int) -> LabelledImages:
        """Test images of the first `num_classes` classes, sorted by class so that groups are contiguous.

        Raises:
          UsageError: a class has no image that can be read.
        """
        num_phases = int(np.searchsorted(np.cumsum(self.phase_sizes), num_classes)) + 1
        seen = functools.reduce(LabelledImages.join, [self._part("test", index) for index in range(num_phases)])
        return seen.take(np.argsort(seen.labels, kind="stable"))

    def _old_train(self, phase: int) -> LabelledImages:
        if not isinstance(self._splits["train"].images, StoredImages):
            return self._splits["train"].of_classes(range(sum(self.phase_sizes[:phase])))
        empty = self._splits["train"].take(np.zeros(0, np.int64))
        return functools.reduce(LabelledImages.join, [self._part("train", index) for index in range(phase)], empty)

    def _part(self, split: str, phase: int) -> LabelledImages:
        """Images of the classes that a phase brings, looked through once."""
        key = (split, phase)
        if key not in self._arrived:
            self._arrived[key] = self._look_through(split, phase)
        return self._arrived[key]

    def _look_through(self, split: str, phase: int, histogram: np.ndarray | None = None) -> LabelledImages:
        """What can be read of a part; colours are counted in `histogram`, `[C, 256]`, if it is given."""
        end = sum(self.phase_sizes[: phase + 1])
        arrived = self._splits[split].of_classes(range(end - self.phase_sizes[phase], end))
        if not isinstance(arrived.images, StoredImages):
            if histogram is not None:
                histogram += histogram_of(arrived.images)
            return arrived
        title = f"phase {phase}/{self.num_phases - 1} checking {split}"
        readable, reasons = look_through(arrived, title, self.dataset.decode_once, histogram)
        report_unreadable(arrived, reasons, "training" if split == "train" else split)
        check_enough(arrived, reasons, self.class_names, "training" if split == "train" else split)
        self.skipped |= {arrived.images.place(row): reason for row, reason in reasons.items()}
        return readable

    def _initial_statistics(self) -> PixelRange:
        histogram = np.zeros((self.dataset.image_shape[2], 256), np.int64)
        self._arrived["train", 0] = self._look_through("train", 0, histogram)
        return statistics_of(histogram)


def _check_arrays(dataset: Dataset) -> None:
    """Raises UsageError for images in memory that are no uint8, or for labels that are no class."""
    for split, part in (("training", dataset.train), ("test", dataset.test)):
        images, labels, num_classes = part.images, part.labels, len(dataset.class_names)
        if images.dtype != np.uint8 or len(images.shape) != 4:
            raise checks.UsageError(
                f"Data set {dataset.name!r}: its {split} images are {images.dtype} of shape {tuple(images.shape)}. "
                "Expected uint8 on the scale 0..255, [n, H, W, C]: convert them first."
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
            raise checks.UsageError(
                f"Data set {dataset.name!r}: its {split} labels are {labels.dtype} of shape {labels.shape}. Expected a "
                f"class id for each of {len(images)} images."
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise checks.UsageError(
                f"Data set {dataset.name!r}: a {split} image has the label {wrong}, which is no class: expected 0 to "
                f"{num_classes - 1}. Leave images without a class (secret or missing labels) out."
            )


def statistics_of(histogram: np.ndarray) -> PixelRange:
    """Mean and standard deviation of each channel, on the scale 0..1, from how often it has each value, `[C, 256]`."""
    mean, std = [], []
    values = np.arange(256) / 255
    for counts in histogram:
        average = np.average(values, weights=counts)
        mean.append(float(average))
        deviation = float(np.sqrt(np.average((values - average) ** 2, weights=counts)))
        # A constant channel carries nothing; dividing by one leaves it at zero.
        std.append(deviation if np.count_nonzero(counts) > 1 else 1.0)
    return PixelRange(tuple(mean), tuple(std))
