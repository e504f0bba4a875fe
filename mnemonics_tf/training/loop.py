"""The training loop that the model level and the balanced fine-tuning share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from mnemonics_tf import checks, runtime
from mnemonics_tf.data import pipeline, pixels
from mnemonics_tf.data.batches import images_per_epoch, num_batches
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.methods.gradient_noise import GradientNoise
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loss_scale import LossScale
from mnemonics_tf.training.progress import EpochObserver, Progress
from mnemonics_tf.training.rehearsal import PhaseRehearsal
from mnemonics_tf.training.settings import SGDSettings
from mnemonics_tf.training.sgd import SGD
from mnemonics_tf.training.weight_average import WeightAverage

# Maps normalised images `[B, H, W, C]` and labels (`[B]`, or soft ones `[B, K + M]`) to named losses (shares of global
# means), whose sum depends on every variable that is trained: a ValueError names those that it does not depend on.
BatchLosses = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]

_Gradients = Callable[[tf.Tensor, tf.Tensor], tuple[dict[str, tf.Tensor], list[tf.Tensor]]]


@dataclasses.dataclass
class CompiledStep:
    """The step of a training, kept for others of the same network, losses and settings: they trace nothing.

    Each of them begins anew: only what was compiled is taken over. Give an empty one to the first of them.
    """

    optimizer: keras.optimizers.Optimizer | None = None
    spec: tf.TypeSpec | None = None
    step: Callable[[tuple[tf.Tensor, tf.Tensor]], dict[str, tf.Tensor]] | None = None

    def optimizer_anew(self) -> keras.optimizers.Optimizer | None:
        """The optimizer as it was before its first step, but for the rate, which each epoch sets; None at first."""
        if self.optimizer is not None:
            for variable in self.optimizer.variables:
                variable.assign(tf.zeros_like(variable))
        return self.optimizer


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains the networks of a run. It holds what stays the same from stage to stage.

    Attributes:
      strategy: the replicas that share each batch, and in whose scope networks are built.
      pixel_range: how pixels 0..255 are normalised to be the network's input.
      augmentation: random changes of the training images, before normalisation.
      tracker: shows progress, and is told mean losses and the learning rate after each epoch.
      after_epoch: is told the network, the stage and the number of epochs that are over; None, the default, for nobody.
      snapshots: where the state of a training goes on the way, and from where it goes on; by default nowhere.
    """

    strategy: tf.distribute.Strategy
    pixel_range: PixelRange
    augmentation: pipeline.Augmentation
    tracker: Tracker
    after_epoch: EpochObserver | None = None
    snapshots: Snapshots = dataclasses.field(default_factory=Snapshots, compare=False)

    def predictor(self, model: Classifier) -> Predictor:
        """A predictor that runs `model` on this trainer's devices, with its normalisation and without augmentation."""
        return Predictor(model, self.pixel_range, self.tracker, self.strategy, self.snapshots)

    def fit(
        self,
        model: Classifier,
        batch_losses: BatchLosses,
        data: LabelledImages,
        settings: SGDSettings,
        stage: str,
        seed: int,
        noise: GradientNoise | None = None,
        rehearsal: PhaseRehearsal | None = None,
        compiled: CompiledStep | None = None,
        xla: bool = False,
    ) -> None:
        """Trains the model's trainable variables in place by SGD. The step is traced once.

        Args:
          model: the network, built in the strategy's scope.
          batch_losses: calls the model on normalised images and returns losses by name, whose sum is minimised.
          data: training images with class indices, or soft labels where they have them.
          settings: epochs, batch size and rates.
          stage: what progress bars, TensorBoard and errors call this training.
          seed: the same seed repeats the order of images, their augmentation and the noise.
          noise: is added to the gradients; None for no noise.
          rehearsal: changes batches, rates and the final weights; None, as in phase 0, leaves them to `settings`.
          compiled: what a call with the same `model`, `batch_losses` and `settings` has left there; None for nothing.
          xla: whether XLA compiles losses and gradients, on one device.

        Raises:
          DivergedError: the mean of a loss over an epoch is NaN or infinite.
        """
        kept = _usable(compiled, model, noise, rehearsal)
        optimizer, loss_scale, average = self._variables(model, settings, rehearsal, kept)
        steps_per_epoch, total = self._num_steps(len(data), settings, rehearsal)
        progress = Progress(model, optimizer, loss_scale, average, self.after_epoch)
        work = self.snapshots.stage(steps_of(stage), progress.take, images=len(data), steps=total)
        batches = self._batches(data, settings, seed, rehearsal, progress.step)
        add_noise = functools.partial(noise.add, step=optimizer.iterations, seed=seed) if noise else list
        found = _losses_and_gradients(model, batch_losses, self.pixel_range, loss_scale, xla)
        replica_step = _replica_step(model, found, optimizer, settings.weight_decay, add_noise, loss_scale, average)
        step = self._step(replica_step, batches.element_spec, kept)
        with self.tracker.progress(stage, total, "steps") as bar, work:
            bar.update(progress.step)
            iterator = iter(batches)
            while progress.step < total:
                epoch, place = divmod(progress.step, steps_per_epoch)
                learning_rate = _learning_rate_at(epoch, settings, rehearsal)
                if not place:
                    optimizer.learning_rate.assign(learning_rate)
                progress.losses.append(step(next(iterator)))
                progress.step += 1
                bar.update()
                if place + 1 == steps_per_epoch:
                    means = progress.epoch_means()
                    bar.set_postfix(epoch=epoch + 1, loss=f"{sum(means.values()):.3f}", refresh=False)
                    self._end_epoch(model, stage, (epoch + 1, settings.epochs), means, learning_rate)
                work.after_step(progress.arrays)
            work.finish(progress.arrays)
        runtime.average_over_replicas(self.strategy, model.non_trainable_variables)
        if average is not None:
            average.apply()

    def _step(
        self, replica_step: BatchLosses, spec: tf.TypeSpec, kept: CompiledStep | None = None
    ) -> Callable[[tuple[tf.Tensor, tf.Tensor]], dict[str, tf.Tensor]]:
        """The compiled step of all replicas: a batch to losses by name."""
        if kept is not None and kept.step is not None and kept.spec == spec:
            return kept.step

        # Without autograph, as everywhere: it takes a fifth of the time of tracing, and seconds when it is first used.
        @tf.function(input_signature=[spec], autograph=False)
        def step(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
            shares = self.strategy.run(replica_step, args=batch)
            return {name: self.strategy.reduce("SUM", share, axis=None) for name, share in shares.items()}

        if kept is not None:
            kept.step, kept.spec = step, spec
        return step

    def _end_epoch(
        self, model: Classifier, stage: str, epochs: tuple[int, int], means: dict[str, float], learning_rate: float
    ) -> None:
        """Says that so many epochs of so many are over, and what the last one came to."""
        epoch, of = epochs
        checks.check_finite_losses(stage, means, f"epoch {epoch} of {of}")
        self.tracker.phase_scalars(stage, {**means, "learning_rate": learning_rate}, epoch)
        if self.after_epoch is not None:
            self.after_epoch(model, stage, epoch)

    def _variables(
        self,
        model: Classifier,
        settings: SGDSettings,
        rehearsal: PhaseRehearsal | None,
        kept: CompiledStep | None = None,
    ) -> tuple[keras.optimizers.Optimizer, LossScale | None, WeightAverage | None]:
        """What a training keeps beside the network, in the strategy's scope; the scale and the mean where wanted."""
        with self.strategy.scope():
            optimizer = None if kept is None else kept.optimizer_anew()
            if optimizer is None:
                optimizer = SGD(settings.learning_rate, momentum=settings.momentum)
                optimizer.build(model.trainable_variables)
            if kept is not None:
                kept.optimizer = optimizer
            loss_scale = LossScale() if model.backbone.output.dtype == "float16" else None
            return optimizer, loss_scale, _average_of(model, rehearsal)

    def _batches(
        self, data: LabelledImages, settings: SGDSettings, seed: int, rehearsal: PhaseRehearsal | None, first: int
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        mixture, jittered = (None, None) if rehearsal is None else (rehearsal.mixture, rehearsal.jittered)
        return runtime.distribute(
            self.strategy,
            lambda share: pipeline.training_batches(
                data, settings.batch_size, settings.epochs, seed, self.augmentation, share, mixture, jittered, first
            ),
        )

    def _num_steps(self, num_images: int, settings: SGDSettings, rehearsal: PhaseRehearsal | None) -> tuple[int, int]:
        """Steps of an epoch, and of the training."""
        used = images_per_epoch(num_images, settings.batch_size, self.strategy.num_replicas_in_sync)
        plain = num_batches(used, settings.batch_size)
        in_epoch = plain if rehearsal is None else rehearsal.mixture.steps(plain)
        return in_epoch, settings.epochs * in_epoch


def steps_of(stage: str) -> str:
    """What the snapshots of a training are called."""
    return f"{stage}_steps"


def _usable(
    compiled: CompiledStep | None, model: Classifier, noise: GradientNoise | None, rehearsal: PhaseRehearsal | None
) -> CompiledStep | None:
    """What may be compiled for further trainings; None if this one has more than an optimizer that begins anew."""
    # Noise has its seed in the trace; a rehearsal and float16 have state of their own.
    is_plain = noise is None and rehearsal is None and model.backbone.output.dtype != "float16"
    return compiled if is_plain else None


def _learning_rate_at(epoch: int, settings: SGDSettings, rehearsal: PhaseRehearsal | None) -> float:
    if rehearsal is None:
        return settings.learning_rate_at(epoch)
    return rehearsal.settings.learning_rate_at(epoch, settings)


def _average_of(model: Classifier, rehearsal: PhaseRehearsal | None) -> WeightAverage | None:
    """The mean of the model's weights over its steps, where it is wanted."""
    if rehearsal is None or not rehearsal.settings.weight_average:
        return None
    # Frozen weights stay what they are, to the last bit.
    statistics = [variable for variable in model.non_trainable_variables if variable.name.startswith("moving_")]
    return WeightAverage([*model.trainable_variables, *statistics], rehearsal.settings.weight_average)


def _losses_and_gradients(
    model: Classifier, batch_losses: BatchLosses, pixel_range: PixelRange, loss_scale: LossScale | None, xla: bool
) -> _Gradients:
    """Maps a batch to its losses, and to gradients of all trained variables; of the scaled loss if there is a scale."""
    variables = model.trainable_variables

    def found(images: tf.Tensor, labels: tf.Tensor) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        # Watched by name: on its own a tape passes over variables that were not trainable when they were made, as the
        # scale and shift of weight transfer were not.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            losses = batch_losses(pixels.normalise(images, pixel_range), labels)
            total = tf.add_n(list(losses.values()))
            total = total if loss_scale is None else loss_scale.scaled(total)
        gradients = tape.gradient(total, [variable.value for variable in variables])
        missing = [variable.path for variable, gradient in zip(variables, gradients, strict=True) if gradient is None]
        if missing:
            raise ValueError(f"The loss does not depend on the trained variables {', '.join(missing)}.")
        return losses, gradients

    # What replicas tell one another stays outside: XLA cannot wait for others.
    return tf.function(found, autograph=False, jit_compile=True) if xla else found


def _replica_step(
    model: Classifier,
    found: _Gradients,
    optimizer: keras.optimizers.Optimizer,
    weight_decay: float,
    add_noise: Callable[[list[tf.Tensor]], list[tf.Tensor]],
    loss_scale: LossScale | None,
    average: WeightAverage | None,
) -> BatchLosses:
    variables = model.trainable_variables
    undecayed = {
        id(variable) for layer in model.scale_shift_layers if layer.transferring for variable in layer.transfer_weights
    }

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        losses, gradients = found(images, labels)
        gradients = gradients if loss_scale is None else loss_scale.unscaled(gradients)
        # Gradients are added up over replicas, so each adds its share of the penalty.
        decay = tf.constant(weight_decay / runtime.num_replicas())
        decayed = [
            gradient if id(variable) in undecayed or not weight_decay else gradient + decay * variable.value
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        optimizer.apply(add_noise(decayed), variables)
        if average is not None:
            average.add()
        return losses

    return replica_step
