"""The seam of the exemplar level: an objective gives a task for some exemplars, and a task gives gradients."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.plan import inner_plan
from mnemonics_tf.bilevel.problem import MetaGradient
from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.optimising.augmentation import draw_transformation
from mnemonics_tf.memory.optimising.objectives import Objective, compiled, objective_for
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.validation import ValidationBatches
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.models.classifier import Classifier


class UnsuitableError(RuntimeError):
    """The objective cannot work with what is at hand. The text says why, and what becomes of the exemplars."""


class Found(NamedTuple):
    """What a meta-step found out.

    Attributes:
      presented: the exemplars as networks saw them, `[num_images, H, W, C]`, made under `tape`.
      labels: theirs, made under `tape`.
      tape: persistent.
      meta: the loss and its gradient with respect to `presented`.
      values: for TensorBoard, by name; `meta_loss` is among them.
    """

    presented: tf.Tensor
    labels: tf.Tensor
    tape: tf.GradientTape
    meta: MetaGradient
    values: dict[str, float]


class Task(Protocol):
    """The optimisation of one set of exemplars."""

    @property
    def steps_per_epoch(self) -> int:
        """Meta-steps."""

    def step(self, variables: ExemplarVariables, index: int, draws: np.random.Generator) -> Found:
        """The gradient of meta-step `index`, from 0 on; `draws` is its own source of randomness."""


class Tasks(Protocol):
    """An objective: what exemplars are moved for."""

    def task(self, exemplars: LabelledImages, data: LabelledImages, seed: int, stage: str) -> Task:
        """The task of some exemplars.

        Args:
          exemplars: their initial values, as they are stored.
          data: real images of the same classes, D_i, or what stands for them.
          seed: of all that is drawn.
          stage: its name, which is part of every draw.

        Raises:
          UnsuitableError: the objective cannot work with them.
        """


class TemporaryModel:
    """The paper's objective: a temporary model is trained on the exemplars, and validated on the data (Eq. 7-10).

    Args:
      model: Θ_i; not changed.
      pixel_range: normalisation.
      settings: the engine, the temporary training, batches.
      strategy: whose replicas share the work.
      objective: where the training starts, its loss, and the loss after it; None for the paper's.
    """

    def __init__(
        self,
        model: Classifier,
        pixel_range: PixelRange,
        settings: ExemplarLevel,
        strategy: tf.distribute.Strategy,
        objective: Objective | None = None,
    ):
        self.objective: Objective = objective_for(model, settings) if objective is None else objective
        self.engine = compiled(self.objective, settings, strategy)
        self.pixel_range, self.settings = pixel_range, settings

    def task(self, exemplars: LabelledImages, data: LabelledImages, seed: int, stage: str) -> Task:
        """See `Tasks`."""
        return _Validated(self, self.objective.validation(data), seed, stage)


class _Validated:
    """One task of `TemporaryModel`."""

    def __init__(self, owner: TemporaryModel, data: LabelledImages, seed: int, stage: str):
        self._owner = owner
        self._batches = ValidationBatches(data, owner.settings.batch_size, seed, stage)
        self.steps_per_epoch = owner.settings.steps_in_epoch(len(data))

    def step(self, variables: ExemplarVariables, index: int, draws: np.random.Generator) -> Found:
        """See `Task`."""
        owner, batch = self._owner, self._batches.batch(index)
        settings = owner.settings
        num_steps = settings.engine_object.num_steps(settings.inner_steps, draws)
        plan = inner_plan(variables.num_images, num_steps, settings.inner_batch_size, draws)
        transform = draw_transformation(settings.augmentation, batch.images.shape[1:], draws)
        with tf.GradientTape(persistent=True) as tape:
            images, labels = transform(variables.images()), variables.labels()
        outer_images = transform(pixels.normalise(batch.images, owner.pixel_range))
        meta = owner.engine(
            owner.objective.start(),
            images,
            labels,
            plan,
            outer_images,
            tf.constant(batch.labels),
            variables.rates(num_steps),
        )
        return Found(images, labels, tape, meta, values_of(meta))


def values_of(meta: MetaGradient) -> dict[str, float]:
    """What an engine said, for TensorBoard."""
    values = {"meta_loss": float(meta.loss)}
    if meta.adjoint_norms is not None:
        values |= {"adjoint_norm/last_step": float(meta.adjoint_norms[0])}
        values |= {"adjoint_norm/first_step": float(meta.adjoint_norms[-1])}
    return values
