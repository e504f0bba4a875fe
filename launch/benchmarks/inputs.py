"""What both frameworks work on: sizes, images and labels."""

from __future__ import annotations

import numpy as np

IMAGE_SIZE = 32
NUM_CLASSES = 50
RESNET20 = (3, 3, 3)
RESNET32 = (5, 5, 5)
WIDTHS = (16, 32, 64)

EXEMPLARS = 64
OUTER_BATCH = 128
INNER_RATE = 0.01

BATCH_NORMS = ("frozen", "batch")

# Whether both frameworks compute the same is seen on less, in double precision too.
CHECKED_DTYPES = ("float32", "float64")
CHECKED_EXEMPLARS = 16
CHECKED_OUTER_BATCH = 32
CHECKED_STEPS = 2  # the least with second derivatives after a step

TRAINING_BATCH = 128
TRAINING_STEPS = 10  # in one turn
TRAINING_RATE = 0.01
TRAINING_MOMENTUM = 0.9
TRAINING_DECAY = 5e-4


# Both sides of `numbers` know it by this name, in the heat's folder.
NUMBERS_FILE = "numbers.npz"

# A later phase of CIFAR-100 as its training steps see it: so many of a turn's images are exemplars of old classes.
OLD_CLASSES, NEW_CLASSES = 50, 10
OLD_IMAGES = 200
LUCIR_WEIGHT, LUCIR_MARGIN, LUCIR_NEGATIVES = 5.0, 0.5, 2
ICARL_WEIGHT, ICARL_TEMPERATURE = 0.5, 2.0

MATRIX_SIDE = 2048
MATRIX_REPEATS = 10

EVALUATED_IMAGES = 5000
EVALUATION_BATCH = 250  # as the project has it

HERDED_IMAGES, HERDED_CLASSES, EXEMPLARS_A_CLASS = 25_000, 50, 20

# A later phase of CIFAR-100 at its true number of images, 500 a class, but fewer epochs.
PHASE_EPOCHS = 1
IMAGES_A_CLASS, TEST_IMAGES_A_CLASS = 500, 100

CODED_IMAGES = 2000  # 100 classes of 20

# Phases that show what grows with the number of old classes: small images, so that their passes do not hide the rest.
RESNET8 = (1, 1, 1)
SMALL_SIDE, SMALL_IMAGES_A_CLASS, SMALL_TESTS_A_CLASS = 16, 100, 2

TRACED_EPOCHS = 3  # of which the first one traces
SHORT_EPOCHS = 8  # of configs/schedules/short.gin

FOLDER_CLASSES, FOLDER_IMAGES_A_CLASS, FOLDER_SIDE = 10, 100, 128


def pixels(count: int, seed: int, size: int = IMAGE_SIZE) -> np.ndarray:
    """Images `[count, size, size, 3]` uint8: smooth fields and a little noise, so that codecs find something to do."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (count, size // 4, size // 4, 3), dtype=np.uint8)
    noise = generator.integers(0, 55, (count, size, size, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2) + noise


def step_labels() -> np.ndarray:
    """Class indices `[count]` of a turn's training images in a later phase, in no order: new classes and old ones."""
    count = TRAINING_STEPS * TRAINING_BATCH
    labels = np.arange(count) % NEW_CLASSES + OLD_CLASSES
    labels[:OLD_IMAGES] = np.arange(OLD_IMAGES) % OLD_CLASSES
    return np.random.default_rng(3).permutation(labels)


def phase_images() -> dict[str, np.ndarray]:
    """`images` and `labels` that a later phase trains on, exemplars first, and `test_images`, `test_labels`."""
    old = np.arange(OLD_CLASSES * EXEMPLARS_A_CLASS) % OLD_CLASSES
    new = np.arange(NEW_CLASSES * IMAGES_A_CLASS) % NEW_CLASSES + OLD_CLASSES
    labels = np.concatenate([old, new])
    test = np.arange((OLD_CLASSES + NEW_CLASSES) * TEST_IMAGES_A_CLASS) % (OLD_CLASSES + NEW_CLASSES)
    return {
        "images": pixels(len(labels), 0),
        "labels": labels,
        "test_images": pixels(len(test), 1),
        "test_labels": test,
    }


def labelled_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images `[count, H, W, C]` float32 and class indices `[count]` int64."""
    images = np.random.default_rng(seed).standard_normal((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    return images, np.arange(count) % NUM_CLASSES
