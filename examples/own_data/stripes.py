"""A source of data of one's own: stripes, whose angle is the class."""

import numpy as np

from mnemonics_tf.data.types import Dataset, LabelledImages


def stripes(num_classes: int = 6, images_per_class: int = 30, side: int = 12) -> Dataset:
    """Noisy stripes at `num_classes` angles: uint8 images `[n, side, side, 1]` with class ids."""
    generator = np.random.default_rng(0)
    down, right = np.mgrid[:side, :side]

    def images(count: int) -> LabelledImages:
        labels = np.repeat(np.arange(num_classes), count)
        angles = (labels * np.pi / num_classes)[:, None, None]
        waves = np.sin(down * np.sin(angles) + right * np.cos(angles) + generator.uniform(0, 6, (len(labels), 1, 1)))
        pixels = 128 + 80 * waves + generator.normal(0, 15, waves.shape)
        return LabelledImages(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], labels.astype(np.int64))

    return Dataset(
        name="stripes",
        train=images(images_per_class),
        test=images(10),
        class_names=tuple(f"{180 * each // num_classes} degrees" for each in range(num_classes)),
        horizontal_flip=False,  # mirrored stripes have another angle
        crop_padding=1,
    )
