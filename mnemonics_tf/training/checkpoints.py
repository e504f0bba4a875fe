"""Networks that a training goes through, kept for what is learned of the trained one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from mnemonics_tf.models.classifier import Classifier, ClassifierFactory

_STAGES = ("train_model", "train_model_again")  # the latter once the loss of the former has diverged


class Checkpoints:
    """Weights after some epochs of the model level. It is called after each of them (`Trainer.after_epoch`).

    Args:
      factory: builds networks like the trained one.
      strategy: in whose scope they are built.
      epochs: after which epochs, counted from 1, weights are kept.

    Attributes:
      epochs: the same.
      weights: those that are kept, in the order of epochs, by the names of `Classifier.named_weights`; scale and shift
        of weight transfer are folded into the weights.
    """

    def __init__(self, factory: ClassifierFactory, strategy: tf.distribute.Strategy, epochs: tuple[int, ...]):
        self._factory, self._strategy, self.epochs = factory, strategy, epochs
        self.weights: list[dict[str, np.ndarray]] = []

    @property
    def complete(self) -> bool:
        """Whether all that are wanted are there."""
        return len(self.weights) == len(self.epochs)

    def __call__(self, model: Classifier, stage: str, epoch: int) -> None:
        """Keeps the network of an epoch, if that is one of `epochs`."""
        if stage not in _STAGES or epoch not in self.epochs:
            return
        if any(layer.transferring for layer in model.scale_shift_layers):
            with self._strategy.scope():
                model = self._factory.same(model)
            model.fold()
        self.weights.append({name: variable.numpy() for name, variable in model.named_weights().items()})

    def forget(self) -> None:
        """Forgets those that are kept: their training begins anew."""
        self.weights = []

    def as_arrays(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """For a file: the weights of these names, all by default."""
        kept = None if names is None else set(names)
        return {
            f"checkpoint{place}/{name}": weight
            for place, weights in enumerate(self.weights)
            for name, weight in weights.items()
            if kept is None or name in kept
        }

    def restore(self, arrays: Mapping[str, np.ndarray], model: Classifier, partly: bool = False) -> None:
        """Takes what `as_arrays` gave from among other arrays, if it is there for every epoch and fits.

        Args:
          arrays: by name.
          model: the trained network; weights that have no array are its own.
          partly: whether later epochs may be missing, as they are in the middle of a training. False by default.
        """
        own, found = model.named_weights(), []
        for place in range(len(self.epochs)):
            start = f"checkpoint{place}/"
            weights = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
            fits = weights and all(
                name in own and each.shape == tuple(own[name].shape) and np.isfinite(each).all()
                for name, each in weights.items()
            )
            if not weights and partly:
                break
            if not fits:
                return
            found.append({name: weights.get(name, variable.numpy()) for name, variable in own.items()})
        self.weights = found
