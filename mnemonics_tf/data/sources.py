"""Where images come from. Each source returns a whole `Dataset` as uint8 in memory."""

from __future__ import annotations

import os

import gin
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf import checks, tracking
from mnemonics_tf.types import Dataset, LabelledImages, PixelRange

# Per-channel statistics of the training images, as the published CIFAR-100 results use them.
_CIFAR100_PIXELS = PixelRange((0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023))


@gin.configurable
def digits(test_share: float = 0.25, split_seed: int = 0) -> Dataset:
    """The 1,797 handwritten digits that scikit-learn carries: 8x8, one channel, 10 classes. Needs no download.

    Args:
      test_share: share of every class that is held out for testing.
      split_seed: seed of that split.
    """
    from sklearn.datasets import load_digits  # a second of import that other sources need not pay

    checks.check_fraction(**{"digits.test_share": test_share})
    checks.check_non_negative_integer(**{"digits.split_seed": split_seed})
    raw = load_digits()
    images = np.rint(raw.images[..., None] * (255 / 16)).astype(np.uint8)  # published as 0..16
    labels = raw.target.astype(np.int64)
    is_test = np.zeros(len(labels), bool)
    generator = np.random.default_rng(split_seed)
    for class_id in range(10):
        members = generator.permutation(np.flatnonzero(labels == class_id))
        is_test[members[: round(len(members) * test_share)]] = True
    everything = LabelledImages(images, labels)
    return Dataset(
        name="digits",
        train=everything.take(~is_test),
        test=everything.take(is_test),
        class_names=tuple(str(class_id) for class_id in range(10)),
        horizontal_flip=False,
        crop_padding=1,
    )


@gin.configurable("tfds")
def tfds_source(
    name: str | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    horizontal_flip: bool = True,
    crop_padding: int = 4,
) -> Dataset:
    """Any image-classification set of TensorFlow Datasets that fits in memory.

    Args:
      name: its TFDS name, such as `cifar100`.
      data_dir: where TFDS keeps its data; None for the environment's TFDS_DATA_DIR, or TFDS's default.
      image_size: side of the square to which images are resized and cropped; needed where sizes differ.
      horizontal_flip: whether a mirrored image still shows its class.
      crop_padding: pixels of padding before the random crop of training images.

    Raises:
      UsageError: no such data set, no data and no way to download it, or a set without images and labels.
    """
    if not isinstance(name, str):
        raise checks.UsageError(f"tfds.name = {name!r}: expected the name of a data set, such as 'cifar100'.")
    if image_size is not None:
        checks.check_positive_integer(**{"tfds.image_size": image_size})
    checks.check_bool(**{"tfds.horizontal_flip": horizontal_flip})
    checks.check_non_negative_integer(**{"tfds.crop_padding": crop_padding})
    builder = _prepared_builder(name, data_dir)
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or not {"image", "label"} <= set(features):
        raise checks.UsageError(f"tfds.name = {name!r}: expected a data set with the features 'image' and 'label'.")
    if image_size is None and None in features["image"].shape:
        raise checks.UsageError(
            f"tfds.name = {name!r}: its images differ in size. Set tfds.image_size to the side they shall have."
        )
    test_split = next((split for split in ("test", "validation") if split in builder.info.splits), None)
    if test_split is None or "train" not in builder.info.splits:
        raise checks.UsageError(
            f"tfds.name = {name!r}: expected the splits 'train' and 'test' or 'validation', "
            f"found {', '.join(builder.info.splits) or 'none'}."
        )
    return Dataset(
        name=builder.name,
        train=_load_split(builder, "train", image_size),
        test=_load_split(builder, test_split, image_size),
        class_names=tuple(features["label"].names),
        horizontal_flip=horizontal_flip,
        crop_padding=crop_padding,
        pixel_range=_CIFAR100_PIXELS if builder.name == "cifar100" else None,
    )


def _prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    if data_dir is not None and not os.path.isdir(data_dir if isinstance(data_dir, str) else ""):
        raise checks.UsageError(f"tfds.data_dir = {data_dir!r}: there is no such folder.")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise checks.UsageError(
            f"tfds.name = {name!r}: TensorFlow Datasets has no such set.{checks.nearest(name, tfds.list_builders())}"
        ) from None
    except Exception as error:  # TFDS raises all kinds of them for names and versions that are not well formed
        raise checks.UsageError(f"tfds.name = {name!r}: {_first_line(error)}.") from error
    if not os.path.isdir(builder.data_dir):
        tracking.notice(f"Data set {name!r} is not at {builder.data_dir}: downloading and preparing it ...")
        try:
            builder.download_and_prepare()
        except Exception as error:  # TFDS raises whatever its downloaders raise
            raise checks.UsageError(
                f"Data set {name!r} is not at {builder.data_dir} and could not be downloaded ({_first_line(error)}). "
                "Prepare it "
                f"with 'tfds build {name}' on a machine with internet, then point the environment variable "
                "TFDS_DATA_DIR (or the binding tfds.data_dir) at its folder."
            ) from error
    return builder


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160].rstrip(".") if text else type(error).__name__


def _load_split(builder: tfds.core.DatasetBuilder, split: str, image_size: int | None) -> LabelledImages:
    def prepare(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = example["image"]
        return (image if image_size is None else _resize(image, image_size)), example["label"]

    batch_size = 500
    count = builder.info.splits[split].num_examples
    dataset = builder.as_dataset(split=split).map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    images, labels = [], []
    with tracking.progress(f"reading {builder.name} {split}", count, "images") as bar:
        try:
            for batch_images, batch_labels in dataset.prefetch(1).as_numpy_iterator():
                images.append(batch_images)
                labels.append(batch_labels)
                bar.update(len(batch_labels))
        except tf.errors.OpError as error:
            raise checks.UsageError(
                f"Data set {builder.name!r}: its {split} files in {builder.data_dir} cannot be read "
                f"({_first_line(error)}). Delete that folder to prepare them again."
            ) from error
    return LabelledImages(np.concatenate(images), np.concatenate(labels).astype(np.int64))


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Shorter side to `size`, then the centre square: `[h, w, C]` to `[size, size, C]`, uint8."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    ratio = size / tf.minimum(height, width)
    target = tf.maximum(tf.cast(tf.round(tf.stack([height, width]) * ratio), tf.int32), size)
    resized = tf.image.resize(image, target, antialias=True)
    cropped = tf.image.resize_with_crop_or_pad(resized, size, size)
    return tf.cast(tf.clip_by_value(tf.round(cropped), 0, 255), tf.uint8)
