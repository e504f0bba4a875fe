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


def labelled_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images `[count, H, W, C]` float32 and class indices `[count]` int64."""
    images = np.random.default_rng(seed).standard_normal((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    return images, np.arange(count) % NUM_CLASSES
