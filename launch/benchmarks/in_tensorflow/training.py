"""Training steps of the model level: the project's real code, turn by turn."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import numpy as np
from harness.turns import Turns

from in_tensorflow.networks import build
from mnemonics_tf import methods
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase, PixelRange
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices, seeds
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import train_model
from mnemonics_tf.training.settings import ModelLevel

PIXEL_RANGE = PixelRange((0.5,) * 3, (0.2,) * 3)
AUGMENTATION = Augmentation(4, True)


class TurnTracker(Tracker):
    """Ends a turn with each epoch of the project's loop, which then waits for the next turn.

    Meanwhile the input pipeline prepares two batches; that is under 1 % of a turn.
    """

    def __init__(self, turn: Turns):
        super().__init__()
        self._turn = turn

    def phase_scalars(self, stage: str, values: dict, step: int) -> None:
        self._turn.done()


def level(weight_transfer: str = "none") -> ModelLevel:
    """Settings of a training that goes on as long as it is given turns: the turns end before the epochs."""
    return ModelLevel(
        epochs=1000,
        batch_size=inputs.TRAINING_BATCH,
        learning_rate=inputs.TRAINING_RATE,
        momentum=inputs.TRAINING_MOMENTUM,
        weight_decay=inputs.TRAINING_DECAY,
        weight_transfer=weight_transfer,
    )


def plain_step(start: Callable[[], Turns]) -> None:
    """The project's loop without a teacher: input with augmentation, weight decay, losses read once an epoch."""
    strategy = devices.Devices().create_strategy()
    count = inputs.TRAINING_STEPS * inputs.TRAINING_BATCH
    data = LabelledImages(inputs.pixels(count, 0), np.arange(count) % inputs.NUM_CLASSES)
    model, method, groups = build(inputs.RESNET32, strategy), LUCIR(), ClassGroups((inputs.NUM_CLASSES,))
    Trainer(strategy, PIXEL_RANGE, AUGMENTATION, TurnTracker(start())).fit(
        model,
        lambda images, labels: method.losses(model(images, training=True), None, labels, groups),
        data,
        level(),
        "train_model",
        seed=0,
    )


def method_step(start: Callable[[], Turns], method: str, weight_transfer: str = "none") -> None:
    """A later phase's training as `train_model` does it: teacher, student, the method's losses, one optimiser.

    Args:
      start: tells that the process is ready.
      method: name of a base method.
      weight_transfer: as in `ModelLevel`.
    """
    strategy, own = devices.Devices().create_strategy(), methods.available()[method]()
    settings = level(weight_transfer)
    factory = ClassifierFactory(
        ResNet(inputs.RESNET32, inputs.WIDTHS),
        (inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3),
        settings.scale_form,
        own.head,
        own.corrects_bias,
        own.tells_maps,
    )
    seeds.seed_initial_weights(0)
    with strategy.scope():
        before = factory.build(0, inputs.OLD_CLASSES)
    before.train_all()
    labels = inputs.step_labels()
    images, is_new = inputs.pixels(len(labels), 0), labels >= inputs.OLD_CLASSES
    phase = Phase(
        1,
        ClassGroups((inputs.OLD_CLASSES, inputs.NEW_CLASSES)),
        LabelledImages(images[is_new], labels[is_new]),
    )
    trainer = Trainer(strategy, PIXEL_RANGE, AUGMENTATION, TurnTracker(start()))
    train_model(
        trainer.predictor(before),
        phase,
        LabelledImages(images[~is_new], labels[~is_new]),
        factory,
        own,
        settings,
        trainer,
        seed=0,
    )
