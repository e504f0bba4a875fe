"""One case of the benchmark in TensorFlow, in a process of its own; turns.py says how it is talked to."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import inputs
import numpy as np
import turns

# Read when TensorFlow is imported; the default on some processors and systems only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from mnemonics_tf.system import screen

with screen.quiet():
    import keras
    import tensorflow as tf

    from mnemonics_tf import losses
    from mnemonics_tf.data.pipeline import Augmentation
    from mnemonics_tf.data.types import LabelledImages, PixelRange
    from mnemonics_tf.memory.optimising import objectives
    from mnemonics_tf.memory.optimising.settings import ExemplarLevel
    from mnemonics_tf.methods.lucir import LUCIR
    from mnemonics_tf.models.classifier import Classifier
    from mnemonics_tf.models.functional import functional_call, parameters
    from mnemonics_tf.models.resnet import ResNet
    from mnemonics_tf.system import devices, seeds
    from mnemonics_tf.system.tracking import Tracker
    from mnemonics_tf.training.loop import Trainer
    from mnemonics_tf.training.settings import ModelLevel


def build(blocks: tuple[int, ...], strategy: tf.distribute.Strategy, dtype: str = "float32") -> Classifier:
    """A classifier with random weights, all of which are trained."""
    seeds.seed_initial_weights(0)
    with strategy.scope():
        backbone = ResNet(tuple(blocks), inputs.WIDTHS).build((inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3), dtype=dtype)
        model = Classifier(backbone, 0, inputs.NUM_CLASSES)
    model.train_all()
    return model


def batch(count: int, seed: int, dtype: str = "float32") -> tuple[tf.Tensor, tf.Tensor]:
    """Normalised images `[count, H, W, C]` and class indices `[count]`."""
    images, labels = inputs.labelled_images(count, seed)
    return tf.constant(images, dtype), tf.constant(labels)


def meta_gradient(
    model: Classifier,
    strategy: tf.distribute.Strategy,
    exemplars: tuple[tf.Tensor, tf.Tensor],
    outer: tuple[tf.Tensor, tf.Tensor],
    inner_steps: int,
    **switches: str | int | None,
) -> Callable[[], tuple[float, np.ndarray]]:
    """A function that gives the outer loss and its gradient with respect to the exemplars, computed as in a run.

    Args:
      model: where the temporary training starts.
      strategy: the model's.
      exemplars: images and labels; every inner step takes all.
      outer: images and labels that validate.
      inner_steps: T.
      switches: further fields of `ExemplarLevel`.
    """
    count = len(exemplars[0])
    settings = ExemplarLevel(
        inner_steps=inner_steps, inner_batch_size=count, inner_learning_rate=inputs.INNER_RATE, **switches
    )
    objective = objectives.objective_for(model, settings)
    compute, params = objectives.compiled(objective, settings, strategy), objective.start()
    plan = np.tile(np.arange(count), (inner_steps, 1))

    def work() -> tuple[float, np.ndarray]:
        result = compute(params, *exemplars, plan, *outer)
        return float(result.loss), result.exemplars.numpy()

    return work


def meta_step(
    start: Callable[[], turns.Turns],
    inner_steps: int,
    blocks: tuple[int, ...] = inputs.RESNET20,
    repeats: int = 1,
    **switches: str | int | None,
) -> None:
    """One gradient with respect to the exemplars a turn."""
    strategy = devices.Devices().create_strategy()
    exemplars, outer = batch(inputs.EXEMPLARS, seed=0), batch(inputs.OUTER_BATCH, seed=1)
    work = meta_gradient(build(blocks, strategy), strategy, exemplars, outer, inner_steps, **switches)
    start().serve(work, repeats)


def gradient(start: Callable[[], turns.Turns], count: int, batch_norm: str = "frozen", repeats: int = 1) -> None:
    """The gradient of a batch of `count` with respect to the parameters."""
    model = build(inputs.RESNET20, tf.distribute.get_strategy())
    params = parameters(model)
    images, labels = batch(count, seed=0)

    @tf.function
    def step(params: list[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            logits = functional_call(model, params, images, batch_norm).logits
            loss = tf.reduce_mean(losses.cross_entropy(logits, labels))
        return tape.gradient(loss, params)

    def work() -> None:
        step(params, images, labels)[-1].numpy()

    start().serve(work, repeats)


class TurnTracker(Tracker):
    """Ends a turn with each epoch of the project's loop, which then waits for the next turn.

    Meanwhile the input pipeline prepares two batches; that is under 1 % of a turn.
    """

    def __init__(self, turn: turns.Turns):
        super().__init__()
        self._turn = turn

    def phase_scalars(self, stage: str, values: dict, step: int) -> None:
        self._turn.done()


def project_training(start: Callable[[], turns.Turns]) -> None:
    """The project's real loop: input pipeline with augmentation, strategy, weight decay, losses read once an epoch."""
    strategy = devices.Devices().create_strategy()
    count = inputs.TRAINING_STEPS * inputs.TRAINING_BATCH
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3), dtype=np.uint8)
    data = LabelledImages(images, generator.integers(0, inputs.NUM_CLASSES, count))
    model, method = build(inputs.RESNET32, strategy), LUCIR()
    settings = ModelLevel(
        epochs=1000,  # the turns end before
        batch_size=inputs.TRAINING_BATCH,
        learning_rate=inputs.TRAINING_RATE,
        momentum=inputs.TRAINING_MOMENTUM,
        weight_decay=inputs.TRAINING_DECAY,
    )
    tracker = TurnTracker(start())
    trainer = Trainer(strategy, PixelRange((0.5,) * 3, (0.2,) * 3), Augmentation(4, True), tracker)
    trainer.fit(
        model,
        lambda images, labels: method.losses(model(images, training=True), None, labels, 0),
        data,
        settings,
        "train_model",
        seed=0,
    )


def keras_training(start: Callable[[], turns.Turns]) -> None:
    """A bare loop: Keras's own layers, one tf.function, one batch that never changes."""

    def conv_norm(x, width, kernel_size, strides):
        x = keras.layers.Conv2D(width, kernel_size, strides, padding="same", use_bias=False)(x)
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    pixels = x = keras.Input((inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3))
    x = keras.layers.ReLU()(conv_norm(x, inputs.WIDTHS[0], 3, 1))
    for stage, (blocks, width) in enumerate(zip(inputs.RESNET32, inputs.WIDTHS, strict=True)):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            shortcut = conv_norm(x, width, 1, strides) if strides == 2 else x
            y = conv_norm(keras.layers.ReLU()(conv_norm(x, width, 3, strides)), width, 3, 1)
            x = keras.layers.ReLU()(keras.layers.Add()([y, shortcut]))
    logits = keras.layers.Dense(inputs.NUM_CLASSES)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(pixels, logits)
    optimizer = keras.optimizers.SGD(inputs.TRAINING_RATE, momentum=inputs.TRAINING_MOMENTUM)
    optimizer.build(model.trainable_variables)
    images, labels = batch(inputs.TRAINING_BATCH, seed=0)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(losses.cross_entropy(model(images, training=True), labels))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def work() -> None:
        for _ in range(inputs.TRAINING_STEPS):
            loss = step()
        float(loss)

    start().serve(work, 1)


def same_numbers(start: Callable[[], turns.Turns], file: str) -> None:
    """Leaves weights, outer losses and meta-gradients in `file`, for the PyTorch side to compute them once more."""
    strategy = devices.Devices().create_strategy()
    model = build(inputs.RESNET20, strategy)
    generator = np.random.default_rng(2)
    for variable in model.variables:
        # A new network has ones and zeros there, which would hide a value at the wrong place.
        if variable.path.endswith(("gamma", "moving_variance", "eta")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean")):
            variable.assign(generator.normal(0.0, 0.1, variable.shape))
    turn = start()
    arrays = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    for dtype in inputs.CHECKED_DTYPES:
        copy = build(inputs.RESNET20, strategy, dtype)
        copy.set_weights(model.get_weights())
        exemplars = batch(inputs.CHECKED_EXEMPLARS, 0, dtype)
        outer = batch(inputs.CHECKED_OUTER_BATCH, 1, dtype)
        for batch_norm in inputs.BATCH_NORMS:
            compute = meta_gradient(
                copy, strategy, exemplars, outer, inputs.CHECKED_STEPS, engine="adjoint", batch_norm=batch_norm
            )
            loss, by_exemplars = compute()
            arrays |= {f"{dtype}/{batch_norm}/loss": loss, f"{dtype}/{batch_norm}/gradient": by_exemplars}
    np.savez(file, **arrays)
    turn.done()


def about() -> dict[str, str | int]:
    """Versions, and the number of threads."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "threads": threads,
    }


if __name__ == "__main__":
    seeds.make_deterministic()
    turns.run_case(
        {
            "meta_step": meta_step,
            "gradient": gradient,
            "project_training": project_training,
            "keras_training": keras_training,
            "same_numbers": same_numbers,
        },
        about,
    )
