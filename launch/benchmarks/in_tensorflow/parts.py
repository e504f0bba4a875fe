"""Where the time of LUCIR's step goes: its parts, one by one, each a traced function of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import inputs
import tensorflow as tf
from harness.turns import Turns

from in_tensorflow.training import AUGMENTATION, PIXEL_RANGE
from mnemonics_tf.data import pipeline, pixels
from mnemonics_tf.data.types import ClassGroups, LabelledImages
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.folding import Inference
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import seeds
from mnemonics_tf.training.sgd import SGD

# The backward pass cannot be called alone: it is what the step takes beyond the student's way forward and the updates.
PARTS = ("input", "teacher, forward", "student, forward", "losses and backward", "optimiser")


def parts_of_a_step(start: Callable[[], Turns]) -> None:
    """A turn tells the seconds a step of each of `PARTS`."""
    works = _works()
    start().serve(lambda: {"parts": _differences({name: _seconds_a_step(work) for name, work in works.items()})})


def _works() -> dict[str, Callable[[], tf.Tensor]]:
    """What is timed: input, teacher and updates on their own, then the student forward and its whole step."""
    seeds.seed_initial_weights(0)
    factory = ClassifierFactory(ResNet(inputs.RESNET32, inputs.WIDTHS), (inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3))
    teacher = factory.build(0, inputs.OLD_CLASSES)
    student = factory.grow(teacher, inputs.NEW_CLASSES)
    student.train_phase(False, old_head=False)
    method, groups = LUCIR(), ClassGroups((inputs.OLD_CLASSES, inputs.NEW_CLASSES))
    labels = inputs.step_labels()
    data = LabelledImages(inputs.pixels(len(labels), 0), labels)
    batches = iter(pipeline.training_batches(data, inputs.TRAINING_BATCH, 100_000, 0, AUGMENTATION))
    batch, batch_labels = next(batches)
    images = pixels.normalise(batch, PIXEL_RANGE)
    inference = Inference(teacher, tf.distribute.get_strategy())  # folded, as a phase's teacher is
    taught = inference(images)
    optimizer = SGD(inputs.TRAINING_RATE, momentum=inputs.TRAINING_MOMENTUM)
    optimizer.build(student.trainable_variables)
    values = [variable.value for variable in student.trainable_variables]

    def gradients() -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            losses = method.losses(student(images, training=True), taught, batch_labels, groups)
            total = tf.add_n(list(losses.values()))
        return tape.gradient(total, values)

    zeros = [tf.zeros_like(value) for value in values]

    @tf.function(autograph=False)
    def update() -> tf.Tensor:
        optimizer.apply(zeros, student.trainable_variables)
        return tf.constant(0.0)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        optimizer.apply(gradients(), student.trainable_variables)
        return tf.constant(0.0)

    return {
        "input": lambda: next(batches)[0],
        "teacher": tf.function(lambda: inference(images).features, autograph=False),
        "forward": tf.function(lambda: student(images, training=True).logits, autograph=False),
        "step": step,
        "update": update,
    }


def _seconds_a_step(work: Callable[[], tf.Tensor]) -> float:
    start = time.perf_counter()
    for _ in range(inputs.TRAINING_STEPS):
        result = work()
    result.numpy()
    return (time.perf_counter() - start) / inputs.TRAINING_STEPS


def _differences(seconds: dict[str, float]) -> dict[str, float]:
    values = (
        seconds["input"],
        seconds["teacher"],
        seconds["forward"],
        seconds["step"] - seconds["forward"] - seconds["update"],
        seconds["update"],
    )
    return dict(zip(PARTS, values, strict=True))
