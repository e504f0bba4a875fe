"""How good a set of exemplars is: train on nothing else, and look at held-out real images.

Two probes. *Fine-tuned* starts from a network Θ_i, as the temporary model does: what does training on the exemplars
cost it, or give it? *From scratch* starts from random weights: how much of the classes do exemplars hold by themselves?
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from scipy import special

from mnemonics_tf import checks
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.system import seeds
from mnemonics_tf.training.balanced_finetune import cross_entropy_of, finetune_balanced
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.sgd import SGDSettings


@dataclasses.dataclass(frozen=True)
class Probe:
    """Length and rates of the probes.

    Attributes:
      enabled: whether runs probe the exemplars of each phase's new classes.
      repeats: trainings of each kind, with other batches (and other weights from scratch); the intervals need two.
      batch_size: exemplars in a step.
      epochs: of fine-tuning, by plain gradient descent with frozen batch norm and without augmentation.
      learning_rate: likewise.
      scratch_epochs: of training from scratch, with momentum 0.9 and the run's augmentation; 0 leaves that probe out,
        and so does a single class, which takes no training.
      scratch_learning_rate: likewise; a tenth of it in the last quarter.
    """

    enabled: bool = True
    repeats: int = 3
    batch_size: int = 128
    epochs: int = 5
    learning_rate: float = 0.01
    scratch_epochs: int = 40
    scratch_learning_rate: float = 0.05

    def __post_init__(self):
        checks.check_bool(**{"Probe.enabled": self.enabled})
        checks.check_positive_integer(
            **{"Probe.repeats": self.repeats, "Probe.batch_size": self.batch_size, "Probe.epochs": self.epochs}
        )
        checks.check_non_negative_integer(**{"Probe.scratch_epochs": self.scratch_epochs})
        checks.check_positive(
            **{"Probe.learning_rate": self.learning_rate, "Probe.scratch_learning_rate": self.scratch_learning_rate}
        )

    @property
    def finetuning(self) -> SGDSettings:
        """Of the fine-tuned probe."""
        return SGDSettings(self.epochs, self.batch_size, self.learning_rate, (), 0.1, 0.0, 0.0)

    @property
    def training(self) -> SGDSettings:
        """Of the probe from scratch."""
        milestone = math.ceil(self.scratch_epochs * 3 / 4)
        return SGDSettings(
            self.scratch_epochs, self.batch_size, self.scratch_learning_rate, (milestone,), 0.1, 0.9, 5e-4
        )


def probe_exemplars(
    model: Classifier,
    exemplars: LabelledImages,
    held_out: LabelledImages,
    factory: ClassifierFactory,
    trainer: Trainer,
    settings: Probe,
    seed: int,
) -> dict[str, float]:
    """Both probes.

    Args:
      model: Θ_i; not changed.
      exemplars: decoded, with class indices that `model` knows.
      held_out: real images of the same classes, which nothing was trained on.
      factory: built `model`.
      trainer: trains the copies.
      settings: length and rates.
      seed: of everything random.

    Returns:
      `network_loss` and `network_accuracy` of Θ_i itself on the held-out images; `finetuned_loss`,
      `finetuned_accuracy`, `scratch_loss` and `scratch_accuracy`: means over the repeats; each with `_interval`, half
      the width of the 95 % confidence interval (Student's t), if there are at least two. Losses in nats, accuracies in
      percent.
    """
    with trainer.strategy.scope():
        copy = factory.build(model.head.num_old_classes, model.head.num_new_classes)
    predictor = trainer.predictor(copy)
    plain = dataclasses.replace(trainer, augmentation=Augmentation())

    def finetuned(repeat: int) -> tuple[float, float]:
        copy.set_weights(model.get_weights())
        stage = f"probe_finetuned{repeat + 1}"
        batch_seed = seeds.stage_seed(seed, stage)
        finetune_balanced(copy, cross_entropy_of(copy), exemplars, settings.finetuning, plain, batch_seed, stage)
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
    """The probe that trains new networks for the classes of the exemplars alone. See `probe_exemplars`."""
    classes = np.unique(exemplars.labels)
    exemplars, held_out = _renumbered(exemplars, classes), _renumbered(held_out, classes)

    def from_scratch(repeat: int) -> tuple[float, float]:
        stage = f"probe_scratch{repeat + 1}"
        seeds.seed_initial_weights(seeds.stage_seed(seed, stage))
        with trainer.strategy.scope():
            model = factory.build(0, len(classes))
        batch_losses = cross_entropy_of(model, training=True)
        trainer.fit(model, batch_losses, exemplars, settings.training, stage, seeds.stage_seed(seed, stage))
        return _score(trainer.predictor(model), held_out, stage)

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
