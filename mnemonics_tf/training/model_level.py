"""The model level: training the network of a phase on new data and old exemplars (Eq. 5-6, or 12-14)."""

from __future__ import annotations

import dataclasses

import gin
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory, imprint
from mnemonics_tf.models.layers import SCALE_FORMS
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.sgd import SGDSettings
from mnemonics_tf.types import LabelledImages, Phase

WEIGHT_TRANSFERS = ("none", *SCALE_FORMS)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ModelLevel(SGDSettings):
    """Section 7.1 of the paper, for CIFAR-100.

    Attributes:
      weight_transfer: what phases after the first train: `none` trains every weight; `per_neuron` (Eq. 11) and
        `per_kernel` train scale and shift of frozen weights, batch norm and the head.
    """

    epochs: int = 160
    batch_size: int = 128
    learning_rate: float = 0.1
    milestones: tuple[int, ...] = (80, 120)
    decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_transfer: str = "per_neuron"

    def __post_init__(self):
        super().__post_init__()
        checks.check_choice("ModelLevel.weight_transfer", self.weight_transfer, WEIGHT_TRANSFERS)

    @property
    def scale_form(self) -> str | None:
        """The form of scale and shift that the network must be built with."""
        return None if self.weight_transfer == "none" else self.weight_transfer


def train_model(
    previous: Classifier | None,
    phase: Phase,
    exemplars: LabelledImages | None,
    factory: ClassifierFactory,
    method: LUCIR,
    settings: ModelLevel,
    trainer: Trainer,
    seed: int,
) -> Classifier:
    """Trains the network of a phase, Θ_i, from Θ_{i-1} on D_i and E_{0:i-1} (line 4 or 8 of Algorithm 1).

    Args:
      previous: Θ_{i-1}, which becomes the teacher and is not changed; None in phase 0.
      phase: the new classes and their images, D_i.
      exemplars: E_{0:i-1}; None in phase 0.
      factory: builds the network.
      method: its losses.
      settings: length and rates.
      trainer: trains it.
      seed: of this stage.

    Returns:
      Θ_i, folded (Eq. 14) and with every weight trainable again.
    """
    with trainer.strategy.scope():
        if previous is None:
            model = factory.build(0, phase.num_new_classes)
        else:
            model = factory.grow(previous, phase.num_new_classes)
    if previous is not None and method.imprint_weights:
        predictor = Predictor(previous, trainer.pixel_range, trainer.tracker)
        imprint(model.head, predictor.features(phase.train, "imprint_weights"), phase.train.labels)
    transferring = previous is not None and settings.scale_form is not None
    model.train_phase(transferring, old_head=method.trains_old_head)

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        teacher_outputs = None if previous is None else previous(images, training=False)
        return method.losses(model(images, training=True), teacher_outputs, labels, phase.num_old_classes)

    data = phase.train if exemplars is None else phase.train.join(exemplars)
    trainer.fit(model, batch_losses, data, settings, "train_model", seed)
    model.fold()
    model.train_all()
    return model
