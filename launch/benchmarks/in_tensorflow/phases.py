"""Whole phases of a learner, at sizes of CIFAR-100 and beyond, on images that are made up."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable

import inputs
import numpy as np
from harness.turns import Turns

from in_tensorflow.traced import TracingClock
from in_tensorflow.training import PIXEL_RANGE
from mnemonics_tf import Memory, ModelLevel
from mnemonics_tf.data.types import Arrival, ImageTraits, LabelledImages
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.settings import BalancedFinetune


class EpochTimes(Tracker):
    """Notes when each epoch of a training was over."""

    def __init__(self):
        super().__init__()
        self.ends: list[float] = []

    def phase_scalars(self, stage: str, values: dict, step: int) -> None:
        if stage == "train_model":
            self.ends.append(time.perf_counter())


def learner_of(blocks: tuple[int, ...], side: int, epochs: int, tracker: Tracker | None = None) -> IncrementalLearner:
    """A learner by LUCIR with herding, which knows no class yet; nothing of it is learned but the network."""
    settings = Settings(
        LUCIR(),
        ResNet(tuple(blocks), inputs.WIDTHS),
        Memory(strategy="herding", per_class=inputs.EXEMPLARS_A_CLASS, adjust=False),
        ModelLevel(
            epochs=epochs,
            batch_size=inputs.TRAINING_BATCH,
            learning_rate=inputs.TRAINING_RATE,
            milestones=(),
            weight_transfer="none",
        ),
        finetuning=BalancedFinetune(enabled=False),
        probe=Probe(enabled=False),
    )
    settings.check()
    traits = ImageTraits((side, side, 3), horizontal_flip=True, crop_padding=4)
    return IncrementalLearner.from_settings(settings, traits, PIXEL_RANGE, tracker=tracker)


def arrival_of(old: int, new: int, images_a_class: int, tests_a_class: int, side: int) -> Arrival:
    """New classes with images for training, and test images of all classes that are known by then."""
    labels, tested = (
        np.repeat(np.arange(first, old + new), count) for first, count in ((old, images_a_class), (0, tests_a_class))
    )
    train, test = (LabelledImages(inputs.pixels(len(each), old, side), each) for each in (labels, tested))
    return Arrival(tuple(range(old, old + new)), tuple(map(str, range(old, old + new))), train, test)


def later_phase(start: Callable[[], Turns]) -> None:
    """The first phase after that of 50 classes, anew in each turn: imprinting, training, herding, evaluation."""
    learner = learner_of(inputs.RESNET20, inputs.IMAGE_SIZE, inputs.PHASE_EPOCHS)
    # The phase before only has to be there: as many images as become exemplars.
    learner.advance(arrival_of(0, inputs.OLD_CLASSES, inputs.EXEMPLARS_A_CLASS, 1, inputs.IMAGE_SIZE))
    data = inputs.phase_images()
    new = data["labels"] >= inputs.OLD_CLASSES
    classes = range(inputs.OLD_CLASSES, inputs.OLD_CLASSES + inputs.NEW_CLASSES)
    train = LabelledImages(data["images"][new], data["labels"][new])
    test = LabelledImages(data["test_images"], data["test_labels"])
    arrival = Arrival(tuple(classes), tuple(map(str, classes)), train, test)
    # A phase leaves the learner that it begins with as it is, and a copy of it takes what it came to.
    start().serve(lambda: copy.copy(learner).advance(arrival))


def after_many_classes(start: Callable[[], Turns], old_classes: int) -> None:
    """A small phase of ten new classes after so many old ones; a turn tells how many images it looks at."""
    side, new = inputs.SMALL_SIDE, inputs.NEW_CLASSES
    learner = learner_of(inputs.RESNET8, side, 1)
    learner.advance(arrival_of(0, old_classes, inputs.EXEMPLARS_A_CLASS, 1, side))
    arrival = arrival_of(old_classes, new, inputs.SMALL_IMAGES_A_CLASS, inputs.SMALL_TESTS_A_CLASS, side)
    start().serve(lambda: copy.copy(learner).advance(arrival))


def many_phases(start: Callable[[], Turns], num_phases: int) -> None:
    """As many phases as 100 classes make after 50, with so little data that almost all of it is tracing.

    The first turn tells, of each phase after the first one: how many classes are known then, its seconds and those in
    which functions were traced, how many images an epoch of its training has, the seconds of such an epoch once it is
    traced, and resident memory after it.
    """
    tracker, clock, phases = EpochTimes(), TracingClock(), []
    new = (100 - inputs.OLD_CLASSES) // 25
    turn = start()
    learner = learner_of(inputs.RESNET20, inputs.IMAGE_SIZE, inputs.TRACED_EPOCHS, tracker)
    learner.advance(arrival_of(0, inputs.OLD_CLASSES, 3, 1, inputs.IMAGE_SIZE))
    for phase in range(num_phases - 1):
        known = inputs.OLD_CLASSES + phase * new
        arrival = arrival_of(known, new, inputs.TRAINING_BATCH // new, 1, inputs.IMAGE_SIZE)
        tracker.ends.clear()
        begun, traced = time.perf_counter(), clock.seconds
        learner.advance(arrival)
        seconds = time.perf_counter() - begun
        images = len(arrival.train) + len(learner.memory.images) - new * inputs.EXEMPLARS_A_CLASS
        epoch = (tracker.ends[-1] - tracker.ends[0]) / (len(tracker.ends) - 1)
        phases.append(
            {
                "classes": known + new,
                "seconds": seconds,
                "traced": clock.seconds - traced,
                "images": images,
                "seconds_of_an_epoch": epoch,
                "resident": resident_memory(),
            }
        )
    turn.done(phases=phases)


def resident_memory() -> int:
    """Bytes of resident memory of this process now, and not at most."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
