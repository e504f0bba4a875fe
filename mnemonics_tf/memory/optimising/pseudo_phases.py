"""Later phases made of what is at hand: which classes play new ones, and what a network is trained on and from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.bilevel.plan import inner_plan
from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.optimising.simulation import Simulation
from mnemonics_tf.memory.optimising.tasks import UnsuitableError
from mnemonics_tf.models.imprinting import imprinted
from mnemonics_tf.system import seeds

# Images of a class by which the head's weights are imprinted, and images that go through the network at once.
_IMPRINTED_BY, _AT_ONCE = 64, 256


def at_hand(
    wanted_by: str, exemplars: LabelledImages, data: LabelledImages, old: LabelledImages
) -> tuple[LabelledImages, int]:
    """The images that later phases are made of, with exemplars that stand for those of earlier classes at the end.

    Args:
      wanted_by: the setting that asks for such phases, for the message.
      exemplars: those that are learned.
      data: real images of the same classes.
      old: exemplars of the classes of earlier phases, decoded; those of other classes than `exemplars` have are used.

    Returns:
      The images, and how many of them are exemplars of earlier classes.

    Raises:
      UnsuitableError: there are not two classes.
    """
    old = old.take(~np.isin(old.labels, exemplars.labels))
    images = data.join(old) if len(old) else data
    if len(np.unique(images.labels)) < 2:
        raise UnsuitableError(f"{wanted_by} needs two classes at hand, of which one plays a new one, and there is one.")
    return images, len(old)


class PseudoPhases:
    """Simulated later phases of one network, each with other classes that play new ones.

    Args:
      simulation: the network in such a phase.
      pixel_range: normalisation.
      images: real images, and at their end exemplars of earlier classes, see `at_hand`.
      num_old: how many of these exemplars there are.
      seed: of all that is drawn.
      stage: its name, which is part of every draw.

    Attributes:
      simulation: the same.
      at_hand: the images.
    """

    def __init__(
        self,
        simulation: Simulation,
        pixel_range: PixelRange,
        images: LabelledImages,
        num_old: int,
        seed: int,
        stage: str,
    ):
        self.simulation, self.at_hand = simulation, images
        self._pixel_range, self._num_old = pixel_range, num_old
        self._seed, self._stage = seed, stage
        self._classes = np.unique(images.labels)
        self._imprints = self._imprinted() if simulation.phase.imprints else None

    def new_classes(self, draw: int) -> np.ndarray:
        """The classes that play new ones, `[num_new]` indices: consecutive draws go round all classes."""
        num_new = self.simulation.num_new
        rounds, place = divmod(draw, len(self._classes) // num_new)
        order = seeds.generator(self._seed, self._stage, "new_classes", rounds).permutation(self._classes)
        return order[place * num_new : (place + 1) * num_new]

    def start(self, draws: np.random.Generator) -> Params:
        """Where the training begins, once `Simulation.draw` knows the new classes: their head's weights are new."""
        return self.simulation.start(self._imprints if self._imprints is not None else self._drawn(draws))

    def training(
        self,
        images: tf.Tensor,
        labels: np.ndarray,
        new_classes: np.ndarray,
        transform: Callable[[tf.Tensor], tf.Tensor],
        num_steps: int,
        batch_size: int,
        draws: np.random.Generator,
        alternating: bool = False,
    ) -> tuple[tf.Tensor, np.ndarray, np.ndarray]:
        """What a network is trained on in such a phase: half of each batch memory of the classes that play old ones.

        Args:
          images: exemplars, normalised `[n, H, W, C]`.
          labels: class indices, `[n]`.
          new_classes: indices of those that play new ones.
          transform: augmentation of the real images.
          num_steps: steps of the training.
          batch_size: images of a step; half of them, at least one, are memory, and as many real images of new classes.
            Where there are fewer of a kind, a step has fewer of both.
          draws: source of randomness.
          alternating: memory and new images take turns in each batch, as many of one as of the other, so that pieces of
            even size have as many of both. False by default: memory comes first.

        Returns:
          Images with the exemplars first `[m, H, W, C]`, class indices `[m]`, and rows of them for each step,
          `[num_steps, b]`.
        """
        half, at_hand = max(1, batch_size // 2), self.at_hand

        def planned(members: np.ndarray) -> np.ndarray:
            return members[inner_plan(len(members), num_steps, half, draws)]

        # Rows: exemplars, then the images at hand, of which exemplars of old classes stand at the end.
        num_exemplars = len(labels)
        all_labels = np.concatenate([labels, at_hand.labels])
        rows, is_new = np.arange(len(all_labels)), np.isin(all_labels, new_classes)
        is_memory = (rows < num_exemplars) | (rows >= len(all_labels) - self._num_old)
        members = np.flatnonzero(is_memory & ~is_new), np.flatnonzero((rows >= num_exemplars) & is_new)
        half = min(half, *map(len, members))  # as many of one as of the other
        plan = np.concatenate([planned(each) for each in members], axis=1)
        if alternating:
            plan = plan.reshape(num_steps, 2, half).transpose(0, 2, 1).reshape(num_steps, 2 * half)
        # Only those that are used are read.
        shown = np.unique(plan[plan >= num_exemplars])
        plan = np.where(plan < num_exemplars, plan, num_exemplars + np.searchsorted(shown, plan))
        real = transform(self._normalised(at_hand.take(shown - num_exemplars)))
        return tf.concat([images, real], axis=0), np.concatenate([labels, all_labels[shown]]), plan

    def _normalised(self, data: LabelledImages) -> tf.Tensor:
        return pixels.normalise(in_memory(data).array, self._pixel_range)

    def _drawn(self, draws: np.random.Generator) -> np.ndarray:
        """Random weights of the head for all classes, as heads begin."""
        width, _ = self.simulation.kernel_shape
        return draws.uniform(-1, 1, self.simulation.kernel_shape) / np.sqrt(width)

    def _imprinted(self) -> np.ndarray:
        """Directions of the head's weights of all classes, imprinted by some images of each class at hand."""
        rows = np.concatenate([np.flatnonzero(self.at_hand.labels == each)[:_IMPRINTED_BY] for each in self._classes])
        features = []
        for start in range(0, len(rows), _AT_ONCE):
            images = self._normalised(self.at_hand.take(rows[start : start + _AT_ONCE]))
            features.append(self.simulation.features(images).numpy())
        width = self.simulation.columns_per_class
        columns = imprinted(np.concatenate(features), self.at_hand.labels[rows], self._classes, width).T
        # Classes that are not at hand never play new ones.
        directions = np.zeros(self.simulation.kernel_shape)
        directions[:, (self._classes[:, None] * width + np.arange(width)).ravel()] = columns
        return directions
