"""A training loop as Keras's own documentation writes it, without this package: what its loop is compared with."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import keras
import tensorflow as tf
from harness.turns import Turns

from in_tensorflow.networks import batch
from mnemonics_tf import losses


def training_step(start: Callable[[], Turns]) -> None:
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

    start().serve(work)
