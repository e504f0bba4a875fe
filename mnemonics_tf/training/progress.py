"""How far a training has come: all that its further steps depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.training.loss_scale import LossScale
from mnemonics_tf.training.weight_average import WeightAverage

_CHECKPOINT = "checkpoint"  # how names of the observer's arrays begin


class EpochObserver(Protocol):
    """Somebody who is told of each epoch, and may keep something of it."""

    def __call__(self, model: Classifier, stage: str, epoch: int) -> None:
        """The network after so many epochs of a stage."""

    def as_arrays(self) -> dict[str, np.ndarray]:
        """What is kept, by names that begin with `checkpoint`."""

    def restore(self, arrays: Mapping[str, np.ndarray], model: Classifier, partly: bool = False) -> None:
        """Goes on from what `as_arrays` gave; `partly` says that the training is not over."""


class Progress:
    """A training that is under way.

    Args:
      model: what is trained, with its random state and statistics.
      optimizer: built; its slots, rate and number of steps.
      loss_scale: of float16, or None.
      average: of the weights, or None.
      observer: what it has kept; None if nobody is told of epochs.

    Attributes:
      step: steps that are over, of all epochs.
      losses: of each step of the present epoch, by name.
    """

    def __init__(
        self,
        model: Classifier,
        optimizer: keras.optimizers.Optimizer,
        loss_scale: LossScale | None,
        average: WeightAverage | None,
        observer: EpochObserver | None,
    ):
        self._model, self._observer = model, observer
        groups = {"model": model.variables, "optimizer": optimizer.variables}
        groups["scale"] = [] if loss_scale is None else loss_scale.variables
        groups["average"] = [] if average is None else average.variables
        self._variables = {
            f"{group}{index}": variable for group, own in groups.items() for index, variable in enumerate(own)
        }
        self.step = 0
        self.losses: list[dict[str, tf.Tensor]] = []

    def epoch_means(self) -> dict[str, float]:
        """The mean of each loss over the present epoch, which is over."""
        # Read once an epoch: reading every step would make a GPU wait for the host.
        losses, self.losses = self.losses, []
        return {name: float(tf.reduce_mean([each[name] for each in losses])) for name in losses[0]}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a snapshot."""
        arrays = {name: variable.numpy() for name, variable in self._variables.items()}
        for name in self.losses[0] if self.losses else ():
            arrays[f"loss/{name}"] = np.array([float(losses[name]) for losses in self.losses], np.float32)
        kept = {} if self._observer is None else self._observer.as_arrays()
        return {**arrays, **kept, "step": np.array(self.step)}

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `arrays` gave. Raises ValueError, with nothing changed, if it is of another training."""
        found = {
            name: (array.shape, array.dtype)
            for name, array in arrays.items()
            if name != "step" and not name.startswith(("loss/", _CHECKPOINT))
        }
        expected = {
            # Keras and TensorFlow call types by other names.
            name: (tuple(each.shape), tf.as_dtype(each.dtype).as_numpy_dtype)
            for name, each in self._variables.items()
        }
        if found != expected:
            raise ValueError("it holds the variables of another network or optimizer")
        step = int(arrays["step"])
        names = [name for name in arrays if name.startswith("loss/")]
        for name, variable in self._variables.items():
            variable.assign(arrays[name])
        self.step = step
        rows = zip(*(arrays[name] for name in names), strict=True)
        self.losses = [
            {name.removeprefix("loss/"): tf.constant(value) for name, value in zip(names, row, strict=True)}
            for row in rows
        ]
        if self._observer is not None:
            self._observer.restore(arrays, self._model, partly=True)
