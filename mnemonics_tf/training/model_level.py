"""The model level: training the network of a phase on new data and old exemplars (Eq. 5-6, or 12-14)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.folding import Inference
from mnemonics_tf.models.imprinting import imprint
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.system import seeds
from mnemonics_tf.training.loop import BatchLosses, Trainer
from mnemonics_tf.training.rehearsal import PhaseRehearsal, Rehearsal
from mnemonics_tf.training.settings import ModelLevel

_AS_PUBLISHED = Rehearsal()


def train_model(
    previous: Predictor | None,
    phase: Phase,
    exemplars: LabelledImages | None,
    factory: ClassifierFactory,
    method: Method,
    settings: ModelLevel,
    trainer: Trainer,
    seed: int,
    rehearsal: Rehearsal = _AS_PUBLISHED,
    stage: str = "train_model",
) -> tuple[Classifier, Predictor]:
    """Trains the network of a phase, Θ_i, from Θ_{i-1} on D_i and E_{0:i-1} (line 4 or 8 of Algorithm 1).

    Args:
      previous: runs Θ_{i-1}, which becomes the teacher and is not changed; None in phase 0.
      phase: the classes and images that arrive, D_i; images of known classes alone leave the head as wide as it is.
      exemplars: E_{0:i-1}, decoded; None if there are none.
      factory: builds the network, in the precision of everything outside this stage.
      method: the base method: its losses, the data it trains on, and what it does to the trained network.
      settings: epochs, rates, weight transfer, distillation and precision.
      trainer: runs the training on the devices.
      seed: fixes everything random here but the initial weights, which follow Keras's global seed.
      rehearsal: how memory is used; it changes nothing in phase 0. By default nothing at all.
      stage: what progress bars, TensorBoard and errors call the training.

    Returns:
      Θ_i, folded (Eq. 14) and with every weight trainable again, and the predictor that runs it.

    Raises:
      DivergedError: a loss became NaN or infinite.
    """
    model, teacher = _networks(previous, phase, factory, method, settings, trainer)
    is_grown = previous is None or previous.model.num_classes < phase.num_classes
    if previous is not None and is_grown and method.imprints:
        imprint(model.head, previous.features(phase.train, "imprint_weights"), phase.train.labels)
    transferring = previous is not None and settings.scale_form is not None
    model.train_phase(transferring, old_head=method.trains_old_head)
    data, held_out = method.training_data(phase, exemplars, seeds.generator(seed, "training_data"))
    rehearsing = None
    if previous is not None and rehearsal != _AS_PUBLISHED:
        used = rehearsal if is_grown else rehearsal.without_new_classes()
        rehearsing = PhaseRehearsal(used, data.labels, phase.groups)
    offsets = rehearsing.offsets(settings.batch_size) if rehearsing else None
    inference = None if teacher is None else Inference(teacher, trainer.strategy)
    batch_losses = _losses_of(method, model, inference, phase.groups, offsets)
    noise = method.gradient_noise
    trainer.fit(model, batch_losses, data, settings, stage, seed, noise, rehearsing, xla=settings.xla)
    model.fold()
    if settings.precision != factory.precision:
        with trainer.strategy.scope():
            model = factory.same(model)
    model.train_all()
    predictor = trainer.predictor(model)
    if previous is not None and phase.num_old_classes:
        method.complete(model, predictor, held_out, phase.groups)
    return model, predictor


def _networks(
    previous: Predictor | None,
    phase: Phase,
    factory: ClassifierFactory,
    method: Method,
    settings: ModelLevel,
    trainer: Trainer,
) -> tuple[Classifier, Classifier | None]:
    """The network that is to be trained, and its teacher if there is one, both in the precision of the model level."""
    trained_by = dataclasses.replace(factory, precision=settings.precision)
    teacher = None
    if previous is not None and phase.num_old_classes and settings.distillation and method.distils:
        teacher = previous.model
    with trainer.strategy.scope():
        if previous is None:
            model = trained_by.start(phase.num_new_classes)
        elif previous.model.num_classes < phase.num_classes:
            model = trained_by.grow(previous.model, phase.num_new_classes)
        else:
            model = trained_by.same(previous.model)
        if teacher is not None and settings.precision != factory.precision:
            teacher = trained_by.same(teacher)
    return model, teacher


def _losses_of(
    method: Method,
    model: Classifier,
    teacher: Inference | None,
    groups: ClassGroups,
    offsets: Callable[[tf.Tensor], tf.Tensor] | None,
) -> BatchLosses:
    """The losses of a batch at the model level, teacher included; `offsets` of logits follow from labels."""

    def batch_losses(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        # Called inside the traced step: the teacher is traced with it, once.
        outputs = None if teacher is None else teacher(images)
        if outputs is not None and outputs.logits.shape[1] > groups.num_old_classes:
            # Where only more images of known classes come it knows the last group too, and methods expect K classes.
            old = slice(groups.num_old_classes)
            outputs = outputs._replace(logits=outputs.logits[:, old], scores=outputs.scores[:, old])
        own = model(images, training=True)
        if offsets is not None:
            own = own._replace(offsets=offsets(labels))
        return _checked(method, method.losses(own, outputs, labels, groups))

    return batch_losses


def _checked(method: Method, found: Losses) -> Losses:
    """The losses of a method. Raises UsageError, while the step is traced, unless they are scalars by name."""
    if not isinstance(found, dict) or not found:
        raise checks.UsageError(
            f"{type(method).__name__}.losses returned {type(found).__name__}: expected scalar losses by name, such as "
            "{'cross_entropy': runtime.global_mean(...)}."
        )
    for name, loss in found.items():
        shape = getattr(loss, "shape", None)
        if shape is None or shape.rank != 0:
            raise checks.UsageError(
                f"{type(method).__name__}.losses returned {name!r} of shape {shape}: expected a scalar, such as "
                "runtime.global_mean(...) of the losses [B]."
            )
    return found
