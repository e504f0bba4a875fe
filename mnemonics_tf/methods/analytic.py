"""Analytic learning without rehearsal: ridge regression on random units of a fixed backbone (ACIL, RanPAC)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.holding_out import hold_out_share
from mnemonics_tf.data.types import ClassGroups, LabelledImages
from mnemonics_tf.memory.statistics import Statistics
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.system import machine
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.methods.ridge import Sums
    from mnemonics_tf.models.classifier import Outputs
    from mnemonics_tf.models.fitted_head import FittedHead
    from mnemonics_tf.models.predictor import Predictor

_MOST_HELD_OUT = 5000  # images, whose units must be held in memory
_ROWS = 2000  # that are multiplied together: a few make matrix products slow, many take memory
# The units of an image differ by so much, relatively, between devices and sizes of batches.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Analytic(Method):
    """Phase 0 trains the network by cross-entropy; from then on the backbone stays, and the head is solved for.

    The head is a `FittedHead`: U random units of all stages, and weights by ridge regression onto one-hot labels
    (`methods.ridge`). A later phase is one pass over its images, and their mirror images where these show the same
    class. What is kept, in the place of exemplars, is the Gram matrix of the units (its lower triangle, 4 U (U + 1)
    bytes), their sum for each class (8 U bytes), and a checksum of each image (12 bytes), by which `forget` tells
    what was learned. So the weights are those of all images of all phases together, in whatever order they came.

    Attributes:
      units: U, at least 1. 6,000 by default, whose Gram matrix takes 144 MB; RanPAC has 10,000.
      penalties: the ridge penalties to choose among, rising, above 0. Phase 0 chooses that of the least squared error
        on images that it holds out, and later phases keep the choice: it depends on no image that may have to be
        forgotten. By default six of them, a decade apart: five digits choose 10.
      held_out_share: share of each class's images of phase 0 that chooses the penalty (5,000 images in all at most),
        above 0 and below 1. They are added to the statistics once it is chosen. 0.1 by default.

    Raises:
      UsageError: a value is out of its range.
    """

    units: int = 6000
    penalties: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
    held_out_share: float = 0.1

    name: ClassVar[str] = "analytic"
    needs_exemplars: ClassVar[bool] = False
    distils: ClassVar[bool] = False
    starts_by_cross_entropy: ClassVar[bool] = True

    def __post_init__(self):
        checks.check_positive_integer(**{"analytic.units": self.units})
        checks.check_positive(**{"analytic.held_out_share": self.held_out_share})
        checks.check_fraction(**{"analytic.held_out_share": self.held_out_share})
        penalties = self.penalties
        if not isinstance(penalties, tuple | list) or not penalties:
            raise checks.UsageError(f"analytic.penalties = {penalties!r}: expected numbers, such as (1.0, 10.0).")
        for index, penalty in enumerate(penalties):
            checks.check_positive(**{f"analytic.penalties[{index}]": penalty})
        if list(penalties) != sorted(set(penalties)):
            raise checks.UsageError(f"analytic.penalties = {penalties}: expected rising numbers, such as (1.0, 10.0).")

    @property
    def num_units(self) -> int | None:
        return self.units

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        return {"cross_entropy": runtime.global_mean(losses.cross_entropy(outputs.logits, labels))}

    def gather(
        self,
        predictor: Predictor,
        data: LabelledImages,
        groups: ClassGroups,
        statistics: Statistics,
        mirrored: bool,
        seed: int,
    ) -> Statistics:
        """Adds the images' units to the sums; phase 0 chooses the penalty, too."""
        from mnemonics_tf.methods import ridge

        if statistics:
            sums, checksums = self._sums(predictor, data, groups.num_classes, mirrored)
            triangle, of_classes = sums.triangle(), sums.of_classes
            triangle += statistics["gram"]
            of_classes[:, : statistics["sums"].shape[1]] += statistics["sums"]
            return {
                **statistics,
                "gram": triangle,
                "sums": of_classes,
                "checksums": np.concatenate([statistics["checksums"], checksums]),
                "labels": np.concatenate([statistics["labels"], data.labels.astype(np.int32)]),
            }
        rest, held_out = hold_out_share(data, min(self.held_out_share, _MOST_HELD_OUT / len(data)), seed)
        sums, checksums = self._sums(predictor, rest, groups.num_classes, mirrored, "fit_head_first")
        penalty, gain = self.penalties[len(self.penalties) // 2], 1.0
        if len(held_out):
            units = np.zeros((len(held_out), self.units), np.float32)
            for rows, (found, _) in predictor.units(held_out, "choose_penalty"):
                units[rows] = found
            (units,) = predictor.sum_over_workers([units])
            penalty, gain = ridge.best_penalty(sums, units, held_out.labels, self.penalties)
        chosen = {"penalty": np.array(penalty), "gain": np.array(gain)}
        first = {
            **chosen,
            "gram": sums.triangle(),
            "sums": sums.of_classes,
            "checksums": checksums,
            "labels": rest.labels.astype(np.int32),
        }
        del sums
        return self.gather(predictor, held_out, groups, first, mirrored, seed) if len(held_out) else first

    def fit(self, head: FittedHead, statistics: Statistics) -> None:
        """Solves for the weights of all classes."""
        from mnemonics_tf.methods.ridge import Sums

        sums = Sums.unpacked(statistics["gram"], statistics["sums"])
        head.set_fitted(sums.weights(float(statistics["penalty"])), float(statistics["gain"]))

    def forget(
        self,
        predictor: Predictor,
        data: LabelledImages,
        class_names: Sequence[str],
        statistics: Statistics,
        mirrored: bool,
    ) -> Statistics:
        """Subtracts what the images of the classes have added, which takes these very images.

        The Gram matrix of each class would tell it without them, and take as many bytes a class as there are now in
        all. Which of the images were learned is told by their checksums, and that nothing of the classes is left by
        their sums, which must become zero up to the rounding of float32.
        """
        present: dict[tuple[int, int], int] = {}
        for place, mark in enumerate(zip(data.labels.tolist(), self._checksums(predictor, data), strict=True)):
            present.setdefault(mark, place)
        classes = np.unique(data.labels)
        is_forgotten = np.isin(statistics["labels"], classes)
        learned = zip(
            statistics["labels"][is_forgotten].tolist(), statistics["checksums"][is_forgotten].tolist(), strict=True
        )
        places = [(mark[0], present.get(mark)) for mark in learned]
        missing = [label for label, place in places if place is None]
        if missing:
            name, count = class_names[missing[0]], missing.count(missing[0])
            total = sum(label == missing[0] for label, _ in places)
            raise checks.UsageError(
                f"{count} of the {total} images that were learned of class {name!r} are missing, and forgetting takes "
                "all of them, as they were. Give them, those that were held out for validation or not."
            )
        taken = data.take(np.array([place for _, place in places], np.int64))
        num_classes = statistics["sums"].shape[1]
        sums, _ = self._sums(predictor, taken, num_classes, mirrored)
        left = np.abs(statistics["sums"] - sums.of_classes)[:, classes].max(initial=0.0)
        if left > _TOLERANCE * np.abs(statistics["sums"]).max():
            raise checks.UsageError(
                f"The images of class {class_names[classes[0]]!r} do not add up to what was learned of them, by "
                f"{left:.2g}: the statistics are damaged. Go back to a learner that was saved before."
            )
        kept = np.setdiff1d(np.arange(num_classes), classes)
        return {
            **statistics,
            "gram": statistics["gram"] - sums.triangle(),
            "sums": statistics["sums"][:, kept],
            "checksums": statistics["checksums"][~is_forgotten],
            "labels": np.searchsorted(kept, statistics["labels"][~is_forgotten]).astype(np.int32),
        }

    def check(self, exemplars_per_class: int, head: str) -> None:
        super().check(exemplars_per_class, head)
        # Two whole matrices while one is solved, and the triangle that is kept, before and after a phase.
        needed, present = 24 * self.units**2, machine.memory_bytes()
        if needed > present:
            raise checks.UsageError(
                f"analytic.units = {self.units}: their matrices take {needed:,} bytes, and there are {present:,} of "
                f"memory. Set {int((present / 24) ** 0.5)} at most."
            )

    def _sums(
        self, predictor: Predictor, data: LabelledImages, num_classes: int, mirrored: bool, stage: str = "fit_head"
    ) -> tuple[Sums, np.ndarray]:
        """The sums of images, and of their mirror images where these count, over all workers; and their checksums."""
        from mnemonics_tf.methods.ridge import Sums

        sums, checksums = Sums(self.units, num_classes), np.zeros(len(data), np.int64)
        passes, done = (False, True) if mirrored else (False,), [0, 0]  # images of each pass that are in the sums

        def state() -> dict[str, np.ndarray]:
            return {**sums.arrays(), "checksums": checksums, "done": np.array(done)}

        def take(arrays: Mapping[str, np.ndarray]) -> None:
            first, second = map(int, arrays["done"])
            sums.take(arrays)
            done[:], checksums[:] = (first, second), arrays["checksums"]

        with predictor.snapshots.stage(stage, take, images=len(data), passes=len(passes)) as work:
            for flip in passes:
                waiting, places = np.zeros((0, self.units), np.float32), np.zeros(0, np.int64)
                for rows, (units, pixels) in predictor.units(data, "fit_head", flip, done[flip]):
                    if not flip:
                        checksums[rows] = _checksums_of(pixels)
                    waiting, places = np.concatenate([waiting, units]), np.concatenate([places, rows])
                    if len(places) >= _ROWS:
                        sums.add(waiting, data.labels[places])
                        waiting, places, done[flip] = waiting[:0], places[:0], int(places[-1]) + 1
                        work.after_step(state)
                if len(places):
                    sums.add(waiting, data.labels[places])
                done[flip] = len(data)
            work.finish(state)
        sums.gram, sums.of_classes, checksums = predictor.sum_over_workers([sums.gram, sums.of_classes, checksums])
        return sums, checksums

    def _checksums(self, predictor: Predictor, data: LabelledImages) -> list[int]:
        """A checksum of the pixels of each image, over all workers."""
        checksums = np.zeros(len(data), np.int64)
        for rows, (_, pixels) in predictor.units(data, "forget"):
            checksums[rows] = _checksums_of(pixels)
        return predictor.sum_over_workers([checksums])[0].tolist()


def _checksums_of(pixels: np.ndarray) -> list[int]:
    """A number of 64 bits for each image `[b, H, W, C]`."""
    return [
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little", signed=True)
        for image in pixels
    ]
