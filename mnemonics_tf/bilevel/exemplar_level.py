"""The exemplar level: learning new exemplars (Eq. 7-9) and adjusting old ones (Eq. 10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import gin
import numpy as np
import tensorflow as tf

from mnemonics_tf import checks, losses
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.meta_gradient import ENGINES, MetaGradientEngine, inner_plan
from mnemonics_tf.data import pipeline, pixels
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call, parameters
from mnemonics_tf.tracking import Tracker
from mnemonics_tf.types import LabelledImages, PixelRange


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ExemplarLevel:
    """Section 7.1 of the paper. An epoch is a pass over the data that validates the temporary model.

    Attributes:
      engine: `adjoint` (memory and trace time do not grow with inner_steps) or `unrolled` (nested tapes).
      epochs: of optimising new exemplars on D_i, and each part of the old ones on its complement.
      steps_per_epoch: meta-steps in an epoch at most; None for the whole pass.
      learning_rate: beta_1, of new exemplars.
      adjust_learning_rate: beta_2, of old exemplars.
      halve_every: epochs after which both rates are halved.
      batch_size: images that validate the temporary model in a meta-step.
      inner_steps: T, gradient steps of the temporary model.
      inner_batch_size: exemplars in each of them; all, where there are fewer.
      inner_learning_rate: alpha_2.
      inner_momentum: of the temporary model's training.
      inner_weight_decay: likewise.
      num_parts: parts in which every old class's exemplars are split for adjusting, each optimised on the others.
    """

    engine: str = "adjoint"
    epochs: int = 50
    steps_per_epoch: int | None = None
    learning_rate: float = 0.01
    adjust_learning_rate: float = 0.01
    halve_every: int = 10
    batch_size: int = 128
    inner_steps: int = 50
    inner_batch_size: int = 128
    inner_learning_rate: float = 0.01
    inner_momentum: float = 0.0
    inner_weight_decay: float = 0.0
    num_parts: int = 2

    def __post_init__(self):
        checks.check_choice("ExemplarLevel.engine", self.engine, ENGINES)
        counts = ("epochs", "halve_every", "batch_size", "inner_steps", "inner_batch_size", "num_parts")
        checks.check_positive_integer(**{f"ExemplarLevel.{name}": getattr(self, name) for name in counts})
        if self.steps_per_epoch is not None:
            checks.check_positive_integer(**{"ExemplarLevel.steps_per_epoch": self.steps_per_epoch})
        rates = ("learning_rate", "adjust_learning_rate", "inner_learning_rate")
        checks.check_positive(**{f"ExemplarLevel.{name}": getattr(self, name) for name in rates})
        checks.check_fraction(**{"ExemplarLevel.inner_momentum": self.inner_momentum})
        checks.check_non_negative(**{"ExemplarLevel.inner_weight_decay": self.inner_weight_decay})
        if self.num_parts < 2:
            raise checks.UsageError(f"ExemplarLevel.num_parts = {self.num_parts}: expected at least 2.")

    @property
    def inner_sgd(self) -> InnerSGD:
        """The temporary model's optimiser."""
        return InnerSGD(self.inner_learning_rate, self.inner_momentum, self.inner_weight_decay)


class ExemplarOptimiser:
    """Optimises exemplars for one network Θ_i, by a compiled engine that learning and adjusting share.

    The temporary model starts from Θ_i with batch norm's statistics frozen, trains all weights, and sees exemplars and
    validation images without augmentation.

    Args:
      model: Θ_i; not changed.
      pixel_range: normalisation; exemplars stay in the range of real pixels.
      settings: length and rates.
      tracker: progress and TensorBoard.
    """

    def __init__(self, model: Classifier, pixel_range: PixelRange, settings: ExemplarLevel, tracker: Tracker):
        def classification_loss(params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            logits = functional_call(model, params, images).logits
            return tf.reduce_mean(losses.cross_entropy(logits, labels))

        self._params = parameters(model)
        self._engine = MetaGradientEngine(
            classification_loss,
            classification_loss,
            settings.inner_sgd,
            self._params,
            model.backbone.input_shape[1:],
            settings.engine,
        )
        self._pixel_range = pixel_range
        self._settings = settings
        self._tracker = tracker

    def learn(self, exemplars: LabelledImages, data: LabelledImages, generator: np.random.Generator) -> LabelledImages:
        """Learns new exemplars E_i so that a model trained on them does well on D_i (Eq. 7-9).

        Args:
          exemplars: S, their initial values.
          data: D_i.
          generator: of batches.

        Returns:
          The same classes in the same order, float32 on the scale 0..255.
        """
        return self._optimise(exemplars, data, self._settings.learning_rate, generator, "learn_exemplars")

    def adjust(self, exemplars: LabelledImages, generator: np.random.Generator) -> LabelledImages:
        """Adjusts old exemplars: each part of them is optimised on the other parts, in turn (Eq. 10).

        Every class is split on its own, so each part holds every class.

        Args:
          exemplars: E_{0:i-1}.
          generator: of the split and of batches.

        Returns:
          The same classes in the same order, float32 on the scale 0..255.

        Raises:
          ValueError: a class has fewer exemplars than there are parts.
        """
        parts = split_within_classes(exemplars.labels, self._settings.num_parts, generator)
        images = exemplars.images.astype(np.float32)
        for index, part in enumerate(parts):
            complement = np.setdiff1d(np.arange(len(exemplars)), part)
            present = LabelledImages(images, exemplars.labels)
            adjusted = self._optimise(
                present.take(part),
                present.take(complement),
                self._settings.adjust_learning_rate,
                generator,
                f"adjust_exemplars_part{index + 1}",
            )
            images[part] = adjusted.images
        return LabelledImages(images, exemplars.labels)

    def _optimise(
        self,
        exemplars: LabelledImages,
        data: LabelledImages,
        learning_rate: float,
        generator: np.random.Generator,
        stage: str,
    ) -> LabelledImages:
        settings = self._settings
        low, high = pixels.valid_bounds(self._pixel_range)
        variable = tf.Variable(pixels.normalise(exemplars.images, self._pixel_range), name="exemplars")
        labels = tf.constant(exemplars.labels)
        steps = pipeline.num_batches(len(data), settings.batch_size)
        steps = steps if settings.steps_per_epoch is None else min(steps, settings.steps_per_epoch)
        batches = _endless_batches(data, settings.batch_size, generator)
        with self._tracker.progress(stage, settings.epochs * steps, "meta-steps") as bar:
            for epoch in range(settings.epochs):
                rate = learning_rate * 0.5 ** (epoch // settings.halve_every)
                total = 0.0
                for step in range(steps):
                    plan = inner_plan(len(exemplars), settings.inner_steps, settings.inner_batch_size, generator)
                    batch = next(batches)
                    meta = self._engine(
                        self._params,
                        variable,
                        labels,
                        plan,
                        pixels.normalise(batch.images, self._pixel_range),
                        tf.constant(batch.labels),
                    )
                    loss = float(meta.loss)
                    checks.check_finite_losses(stage, {"meta_loss": loss}, f"epoch {epoch + 1}, step {step + 1}")
                    # Projected gradient descent: pixels stay those of an image that can be stored.
                    variable.assign(tf.clip_by_value(variable - rate * meta.exemplars, low, high))
                    total += loss
                    bar.update()
                    bar.set_postfix(loss=f"{total / (step + 1):.3f}", refresh=False)
                self._tracker.phase_scalars(stage, {"meta_loss": total / steps, "learning_rate": rate}, epoch + 1)
        return LabelledImages(pixels.denormalise(variable.numpy(), self._pixel_range), exemplars.labels)


def split_within_classes(labels: np.ndarray, num_parts: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Splits positions in parts of (nearly) equal size so that every part has every class; each part is sorted.

    Raises:
      ValueError: a class has fewer members than there are parts.
    """
    parts: list[list[np.ndarray]] = [[] for _ in range(num_parts)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < num_parts:
            raise ValueError(f"Class index {label} has {len(members)} exemplars: {num_parts} parts need one each.")
        for part, share in zip(parts, np.array_split(generator.permutation(members), num_parts), strict=True):
            part.append(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def _endless_batches(data: LabelledImages, batch_size: int, generator: np.random.Generator) -> Iterator[LabelledImages]:
    """Full batches of shuffled passes over the data, for ever; all of the data where it is less than a batch."""
    batch_size = min(batch_size, len(data))
    while True:
        order = generator.permutation(len(data))
        for start in range(0, len(data) - batch_size + 1, batch_size):
            yield data.take(order[start : start + batch_size])
