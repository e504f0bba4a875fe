"""Images a second of the training step: the project's own loop against a bare Keras loop, taking turns in one run.

    python launch/benchmark_training.py [--rounds 5]

Both train ResNet-32 on 32x32 images in batches of 128 with SGD and momentum. The project's side is its real loop:
input pipeline with augmentation, strategy, weight decay, losses read once an epoch. The bare side is one tf.function on
one batch that never changes, with Keras's own layers. Only the ratio means something on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from mnemonics_tf import screen

with screen.quiet():
    import keras
    import numpy as np
    import tensorflow as tf

    from mnemonics_tf import runtime
    from mnemonics_tf.data.pipeline import Augmentation
    from mnemonics_tf.methods.lucir import LUCIR
    from mnemonics_tf.models.classifier import ClassifierFactory
    from mnemonics_tf.models.resnet import ResNet
    from mnemonics_tf.tracking import Tracker
    from mnemonics_tf.training.loop import Trainer
    from mnemonics_tf.training.model_level import ModelLevel
    from mnemonics_tf.types import LabelledImages, PixelRange

BATCH_SIZE = 128
NUM_CLASSES = 50
STEPS = 10


class EpochClock(Tracker):
    """Notes when each epoch of the project's loop ends."""

    def __init__(self):
        super().__init__()
        self.times: list[float] = []

    def phase_scalars(self, stage: str, values: dict, step: int) -> None:
        self.times.append(time.perf_counter())


def bare_loop() -> Callable[[], None]:
    """`STEPS` steps of plain Keras on one batch."""

    def conv_norm(x, width, kernel_size, strides):
        x = keras.layers.Conv2D(width, kernel_size, strides, padding="same", use_bias=False)(x)
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    inputs = x = keras.Input((32, 32, 3))
    x = keras.layers.ReLU()(conv_norm(x, 16, 3, 1))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(5):
            strides = 2 if stage and not block else 1
            shortcut = conv_norm(x, width, 1, strides) if strides == 2 else x
            y = conv_norm(keras.layers.ReLU()(conv_norm(x, width, 3, strides)), width, 3, 1)
            x = keras.layers.ReLU()(keras.layers.Add()([y, shortcut]))
    outputs = keras.layers.Dense(NUM_CLASSES)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    images = tf.random.stateless_normal([BATCH_SIZE, 32, 32, 3], [0, 0])
    labels = tf.random.stateless_uniform([BATCH_SIZE], [0, 1], 0, NUM_CLASSES, tf.int32)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def run():
        for _ in range(STEPS):
            loss = step()
        float(loss)

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    runtime.make_deterministic()
    runtime.seed_initial_weights(0)
    strategy = runtime.create_strategy()
    generator = np.random.default_rng(0)
    count = STEPS * BATCH_SIZE
    data = LabelledImages(
        generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), generator.integers(0, NUM_CLASSES, count)
    )
    with strategy.scope():
        model = ClassifierFactory(ResNet(), (32, 32, 3)).build(0, NUM_CLASSES)
    method = LUCIR()
    clock = EpochClock()
    trainer = Trainer(strategy, PixelRange((0.5,) * 3, (0.2,) * 3), Augmentation(4, True), clock)
    bare = bare_loop()
    ours_rates, bare_rates = [], []

    # Each call of fit traces anew, so its first epoch is a warm-up and the two after it count.
    for _ in range(rounds):
        settings = ModelLevel(epochs=3, batch_size=BATCH_SIZE, learning_rate=0.01)
        clock.times.clear()
        trainer.fit(
            model,
            lambda images, labels: method.losses(model(images, training=True), None, labels, 0),
            data,
            settings,
            "train_model",
            seed=0,
        )
        ours_rates.append(2 * count / (clock.times[2] - clock.times[0]))
        start = time.perf_counter()
        bare()
        bare()
        bare_rates.append(2 * count / (time.perf_counter() - start))
    ratios = [ours / other for ours, other in zip(ours_rates, bare_rates, strict=True)]
    for name, values in (("this project", ours_rates), ("bare Keras loop", bare_rates)):
        print(f"{name:16s} {statistics.median(values):6.1f} images/s ({min(values):.1f} to {max(values):.1f})")
    print(f"{'ratio':16s} {statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
