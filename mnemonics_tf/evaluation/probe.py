"""How good a set of exemplars is: train on nothing else, and look at held-out real images.

Two probes. *Fine-tuned* starts from a network Θ_i, as the temporary model does: what does training on the exemplars
cost it, or give it? *From scratch* starts from random weights: how much of the classes do exemplars hold by themselves?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import special

from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.system import seeds
from mnemonics_tf.training.finetuning import cross_entropy_of
from mnemonics_tf.training.loop import CompiledStep, Trainer


def probe_exemplars(
    model: Classifier,
    exemplars: LabelledImages,
    held_out: LabelledImages,
    factory: ClassifierFactory,
    trainer: Trainer,
    settings: Probe,
    seed: int,
) -> dict[str, float]:
    """Runs both probes on a set of exemplars.

    Args:
      model: Θ_i. The probes train copies and leave it as it is.
      exemplars: decoded images, with class indices that `model` knows.
      held_out: real images of the same classes, which nothing was trained on.
      factory: the factory that built `model`; it builds the copies.
      trainer: trains the copies; the fine-tuned probe leaves its augmentation out.
      settings: repeats, epochs and rates of both probes.
      seed: fixes batches, augmentation and initial weights; the same seed repeats the result.

    Returns:
      Figures on the held-out images by name, losses in nats (mean cross-entropy) and accuracies in percent.
      `network_loss` and `network_accuracy` are those of Θ_i itself; `finetuned_loss`, `finetuned_accuracy`,
      `scratch_loss` and `scratch_accuracy` are means over the repeats. With two repeats or more each mean has another
      entry, its name with `_interval` appended: half the width of its 95 % confidence interval (Student's t). Without
      the probe from scratch, its entries are missing.

    Raises:
      DivergedError: a loss became NaN or infinite.
    """
    with trainer.strategy.scope():
        copy = factory.build(model.head.num_old_classes, model.head.num_new_classes)
    predictor, compiled = trainer.predictor(copy), CompiledStep()
    plain = dataclasses.replace(trainer, augmentation=Augmentation())

    def finetuned(repeat: int) -> tuple[float, float]:
        copy.set_weights(model.get_weights())
        stage = f"probe_finetuned{repeat + 1}"
        batch_seed = seeds.stage_seed(seed, stage)
        plain.fit(copy, cross_entropy_of(copy), exemplars, settings.finetuning, stage, batch_seed, compiled=compiled)
        return _score(predictor, held_out, stage)

    copy.set_weights(model.get_weights())
    loss, accuracy = _score(predictor, held_out, "probe_network")
    results = {"network_loss": loss, "network_accuracy": accuracy}
    results |= _estimates("finetuned", finetuned, settings.repeats)
    if settings.scratch_epochs and len(np.unique(exemplars.labels)) > 1:
        results |= probe_from_scratch(exemplars, held_out, factory, trainer, settings, seed)
    return results


def probe_from_scratch(
    exemplars: LabelledImages,
    held_out: LabelledImages,
    factory: ClassifierFactory,
    trainer: Trainer,
    settings: Probe,
    seed: int,
) -> dict[str, float]:
    """Runs the probe from scratch: trains new networks, with random weights, for the classes of the exemplars alone.

    Args:
      exemplars: decoded images of at least two classes.
      held_out: real images of the same classes, which nothing was trained on.
      factory: builds the networks.
      trainer: trains them, with its augmentation.
      settings: repeats, epochs and rate.
      seed: fixes initial weights, batches and augmentation.

    Returns:
      `scratch_loss` (nats) and `scratch_accuracy` (percent) on the held-out images, means over the repeats; with two
      repeats or more also `scratch_loss_interval` and `scratch_accuracy_interval`, see `probe_exemplars`.

    Raises:
      DivergedError: a loss became NaN or infinite.
    """
    classes = np.unique(exemplars.labels)
    exemplars, held_out = _renumbered(exemplars, classes), _renumbered(held_out, classes)
    model, predictor, compiled = None, None, CompiledStep()

    def from_scratch(repeat: int) -> tuple[float, float]:
        nonlocal model, predictor
        stage = f"probe_scratch{repeat + 1}"
        seeds.seed_initial_weights(seeds.stage_seed(seed, stage))
        with trainer.strategy.scope():
            fresh = factory.build(0, len(classes))
        if model is None or predictor is None:
            model, predictor = fresh, trainer.predictor(fresh)
        else:
            # What was traced for the first network trains the others: all that a network has is in its variables.
            for variable, start in zip(model.variables, fresh.variables, strict=True):
                variable.assign(start.numpy())
        batch_losses, batch_seed = cross_entropy_of(model, training=True), seeds.stage_seed(seed, stage)
        trainer.fit(model, batch_losses, exemplars, settings.training, stage, batch_seed, compiled=compiled)
        return _score(predictor, held_out, stage)

    return _estimates("scratch", from_scratch, settings.repeats)


def _estimates(name: str, train: Callable[[int], tuple[float, float]], repeats: int) -> dict[str, float]:
    scores = [train(repeat) for repeat in range(repeats)]
    results = {}
    for kind, values in zip(("loss", "accuracy"), zip(*scores, strict=True), strict=True):
        results[f"{name}_{kind}"] = float(np.mean(values))
        if repeats > 1:
            results[f"{name}_{kind}_interval"] = metrics.confidence_interval(values)
    return results


def _score(predictor: Predictor, data: LabelledImages, stage: str) -> tuple[float, float]:
    """Mean cross-entropy in nats, and accuracy in percent."""
    _, logits = predictor(data, stage)
    logits = logits.astype(np.float64)
    nats = special.logsumexp(logits, axis=1) - logits[np.arange(len(data)), data.labels]
    return float(nats.mean()), float(100 * (logits.argmax(axis=1) == data.labels).mean())


def _renumbered(data: LabelledImages, classes: np.ndarray) -> LabelledImages:
    """The data with `classes` as class indices 0, 1, ...; soft labels keep those classes only."""
    soft = data.soft_labels
    if soft is not None:
        soft = soft[:, classes] / soft[:, classes].sum(axis=1, keepdims=True)
    return LabelledImages(data.images, np.searchsorted(classes, data.labels), soft)
