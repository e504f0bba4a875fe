"""What a learner says: predictions, figures of merit, and what its memory holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.evaluation.classifiers import Predictions
from mnemonics_tf.learner import display
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.statistics import Statistics, num_bytes
from mnemonics_tf.memory.store import ExemplarStore


@dataclasses.dataclass(frozen=True)
class Answers:
    """Predictions for n images.

    Attributes:
      names: the likeliest class of each image, n names.
      ids: what the data call those classes, `[n]` int64.
      probabilities: `[n, num_classes]` float32; of a learner that predicts by nearest means they rank the classes and
        are not calibrated.
      class_names: what the columns of `probabilities` stand for.
    """

    names: tuple[str, ...]
    ids: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def _repr_html_(self) -> str:
        best = self.probabilities.max(axis=1, initial=0.0)
        rows = [(name, f"{100 * share:.1f} %") for name, share in zip(self.names, best, strict=True)]
        return display.table(("class", "probability"), rows)


def answers_of(logits: np.ndarray, classes: ClassTable) -> Answers:
    """The answers that logits `[n, num_classes]` give."""
    best = logits.argmax(axis=1)
    return Answers(
        names=tuple(classes.names[index] for index in best),
        ids=classes.order[best],
        probabilities=special.softmax(logits.astype(np.float64), axis=1).astype(np.float32),
        class_names=classes.names,
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well images are recognised. All figures but counts are percentages.

    Attributes:
      accuracy: by the classifier that the learner predicts by, over all images.
      by_classifier: accuracy of `cnn` (the head) and, where the memory holds every class, `nme` (nearest means).
      by_class: accuracy of each class that the images show, by name.
      num_images: how many images that was measured on.
      num_classes: among how many classes the learner chose.
    """

    accuracy: float
    by_classifier: dict[str, float]
    by_class: dict[str, float]
    num_images: int
    num_classes: int

    def __str__(self) -> str:
        return f"{self.accuracy:.2f} % of {self.num_images} images, among {self.num_classes} classes"

    def _repr_html_(self) -> str:
        rows = [(name, f"{value:.2f}") for name, value in self.by_class.items()]
        return f"<p>{self}</p>" + display.table(("class", "accuracy (%)"), rows)


def evaluation_of(predictions: Predictions, names: Sequence[str], primary: str) -> Evaluation:
    """Figures of merit of predictions.

    Args:
      predictions: for at least one image.
      names: of all classes, by index.
      primary: the classifier that counts, `cnn` or `nme`; the head counts where there are no nearest means.
    """
    by_classifier = predictions.by_classifier
    labels, counted = predictions.labels, by_classifier.get(primary, by_classifier["cnn"])
    return Evaluation(
        accuracy=metrics.accuracy(counted, labels),
        by_classifier={name: metrics.accuracy(predicted, labels) for name, predicted in by_classifier.items()},
        by_class={
            names[label]: metrics.accuracy(counted[labels == label], labels[labels == label])
            for label in np.unique(labels)
        },
        num_images=len(labels),
        num_classes=len(names),
    )


@dataclasses.dataclass(frozen=True)
class Learned:
    """What came of learning what was new in a folder. Both evaluations are on the same held-out images.

    Attributes:
      new_classes: names of the classes that were not known before, in the order of their indices.
      num_images: how many images each class was learned from, by name.
      before: how well the classes that were known before were recognised until then; None without held-out images.
      after: how well all classes are recognised now; None without held-out images.
      known_now: accuracy in percent on the images of `before` by now; None without them.
      seconds: that it took.
    """

    new_classes: tuple[str, ...]
    num_images: dict[str, int]
    before: Evaluation | None
    after: Evaluation | None
    known_now: float | None
    seconds: float

    @property
    def forgotten(self) -> dict[str, tuple[float, float]]:
        """Accuracy in percent before and after of each class that is recognised less well now, by name."""
        if self.before is None or self.after is None:
            return {}
        now = self.after.by_class
        return {name: (was, now[name]) for name, was in self.before.by_class.items() if now[name] < was}

    def __str__(self) -> str:
        known = "" if self.before is None else f"; {self.before.accuracy:.2f} % of those of known classes before"
        return f"learned {len(self.new_classes)} new classes; {self.after or 'nothing to measure by'}{known}"


@dataclasses.dataclass(frozen=True)
class MemoryView:
    """What a learner keeps of the images it has seen.

    Attributes:
      images: `[n, H, W, C]`, uint8 or float32 on the scale 0..255, read only; those stored as mosaics are upsampled.
      names: the class of each image, n names.
      counts: number of exemplars of each class, by name; an exemplar may be a mosaic of several images.
      num_bytes: what the exemplars take, without their labels.
      statistics_bytes: what the method keeps of all images beside them, such as Gram matrices; 0 for most methods.
    """

    images: np.ndarray
    names: tuple[str, ...]
    counts: dict[str, int]
    num_bytes: int
    statistics_bytes: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        exemplars = f"{sum(self.counts.values())} exemplars of {len(self.counts)} classes, {self.num_bytes:,} bytes"
        return exemplars + (f"; statistics, {self.statistics_bytes:,} bytes" if self.statistics_bytes else "")

    def _repr_html_(self) -> str:
        rows = [(name, f"{count}") for name, count in self.counts.items()]
        return f"<p>{self}</p>{display.pictures(self.images, self.names)}" + display.table(("class", "exemplars"), rows)


def memory_view(exemplars: ExemplarStore, classes: ClassTable, statistics: Statistics) -> MemoryView:
    """The exemplars and statistics of a learner, for people."""
    shown, counts = exemplars.decoded(), exemplars.counts(len(classes)).tolist()
    images = in_memory(shown).array.view()
    images.flags.writeable = False  # it may be the memory itself
    return MemoryView(
        images=images,
        names=tuple(classes.names[label] for label in shown.labels),
        counts=dict(zip(classes.names, counts, strict=True)),
        num_bytes=exemplars.num_bytes,
        statistics_bytes=num_bytes(statistics),
    )
