"""A data set of CIFAR-100's size, made up in memory, so that a start can be measured where CIFAR-100 is not."""

import numpy as np

from mnemonics_tf.data.types import Dataset, LabelledImages


def cifar_sized(num_classes: int = 100, images_per_class: int = 500, tests_per_class: int = 100) -> Dataset:
    """Noise: uint8 images `[n, 32, 32, 3]` with class ids."""
    generator = np.random.default_rng(0)

    def images(count: int) -> LabelledImages:
        labels = np.repeat(np.arange(num_classes), count)
        return LabelledImages(generator.integers(0, 256, (len(labels), 32, 32, 3), np.uint8), labels)

    return Dataset(
        name="cifar_sized",
        train=images(images_per_class),
        test=images(tests_per_class),
        class_names=tuple(map(str, range(num_classes))),
        horizontal_flip=True,
        crop_padding=4,
    )
