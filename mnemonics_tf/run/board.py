"""What a run shows in TensorBoard beside the curves that trainings write: see `docs/how-to/tensorboard.md`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.evaluation.classifiers import Predictions
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.run import projector
from mnemonics_tf.run.pictures import confusion_image, difference_grid, exemplar_grid
from mnemonics_tf.system.tracking import Tracker

_MOST_CLASSES = 100  # that have a curve of their own


@dataclasses.dataclass(frozen=True)
class Board:
    """Writes a run's pictures, figures and settings.

    Attributes:
      tracker: TensorBoard.
      config: the text of the run's configuration.
      hparams: settings that runs of a sweep differ in, by name.
      class_names: by class index.
      phase_sizes: number of new classes in each phase.
    """

    tracker: Tracker
    config: str
    hparams: Mapping[str, str | int | float | bool]
    class_names: Sequence[str]
    phase_sizes: Sequence[int]

    def exemplars_changed(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        """Shows exemplars before and after they were learned (`new`) or adjusted (`old`), and the difference."""
        if not self.tracker.writes:
            return
        for moment, exemplars in (("before", before), ("after", after)):
            self.tracker.image(f"exemplars/{which}/{moment}", exemplar_grid(exemplars, self.class_names))
        picture, gain = difference_grid(before, after, self.class_names)
        told = f"What changed, around grey, {gain:.0f} times as strong as it is."
        self.tracker.image(f"exemplars/{which}/difference", picture, told)

    def phase(self, finished: Sequence[PhaseResult], predictions: Predictions | None) -> None:
        """Shows what the last of the phases that are complete has reached."""
        if not self.tracker.writes:
            return
        result = finished[-1]
        if result.phase == 0:
            self.tracker.text("config", "\n".join(f"    {line}" for line in self.config.splitlines()))
            self.tracker.hparams(self.hparams)
        groups = {f"accuracy/{name}": value for name, value in result.accuracy.items()}
        groups |= {f"probe/{name}": value for name, value in result.probe.items()}
        groups |= {f"seconds/{name}": value for name, value in result.seconds.items()}
        groups |= {f"peak_mebibytes/{name}": value for name, value in self.tracker.peak_mebibytes.items()}
        for name in result.accuracy:
            groups[f"average_accuracy/{name}"] = metrics.average_accuracy([each.accuracy[name] for each in finished])
            groups[f"forgetting/{name}"] = metrics.forgetting(
                [each.initial_classes_accuracy[name] for each in finished]
            )
        self.tracker.run_scalars(groups)
        if predictions is not None:
            self._predictions(result, predictions)

    def _predictions(self, result: PhaseResult, predictions: Predictions) -> None:
        labels, num_classes = predictions.labels, result.num_classes
        num_old = sum(self.phase_sizes[: result.phase])
        for name, predicted in predictions.by_classifier.items():
            right = predicted == labels
            parts = {"new_classes": right[labels >= num_old], "old_classes": right[labels < num_old]}
            shares = {f"{part}/{name}": 100.0 * float(each.mean()) for part, each in parts.items() if len(each)}
            if num_classes <= _MOST_CLASSES:
                for index, class_name in enumerate(self.class_names[:num_classes]):
                    own = right[labels == index]
                    if len(own):
                        shares[f"class_accuracy/{name}/{tag_of(class_name)}"] = 100.0 * float(own.mean())
            self.tracker.run_scalars(shares)
            matrix = metrics.confusion_matrix(predicted, labels, num_classes)
            self.tracker.image(f"confusion/{name}", confusion_image(matrix, self.class_names))

    def embeddings(self, phase: int, exemplars: LabelledImages, embed: Callable[[LabelledImages], np.ndarray]) -> None:
        """Writes what the projector shows. All workers must call it, as they share the work of `embed`.

        Args:
          phase: that is complete.
          exemplars: all that are kept, decoded.
          embed: makes embeddings `[n, d]` of images.
        """
        if not len(exemplars):
            return
        shown = projector.chosen(exemplars)
        features = embed(shown)
        if self.tracker.writes:
            with self.tracker.lenient() as log_dir:
                projector.write(log_dir, phase, shown, features, self.class_names, self.phase_sizes)


def tag_of(name: str) -> str:
    """A class's name as a part of a tag, in which a slash begins a new group: `red/black` is `red%2Fblack`."""
    return "".join(
        f"%{ord(each):02X}" if each in "%/" or not each.isprintable() else each for each in re.sub(r"\s", " ", name)
    )
