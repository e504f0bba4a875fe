"""Where images come from. Each source returns a whole `Dataset` as uint8 in memory."""

from __future__ import annotations

import os

import gin
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf import checks, tracking
from mnemonics_tf.data.class_order import index_of_id
from mnemonics_tf.data.decoding import centre_square
from mnemonics_tf.data.holding_out import hold_out
from mnemonics_tf.types import Dataset, LabelledImages, PixelRange

# Per-channel statistics of the training images, as the published results use them, by the name of TFDS.
_PUBLISHED_PIXELS = {
    "cifar100": PixelRange((0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023)),
    "imagenet2012": PixelRange((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_SUBSET_NAMES = {"imagenet2012": "imagenet_subset"}  # as the field calls it


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
    everything = LabelledImages(images, raw.target.astype(np.int64))
    train, test = hold_out(everything, lambda size: round(size * test_share), np.random.default_rng(split_seed))
    return Dataset(
        name="digits",
        train=train,
        test=test,
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
    num_classes_drawn: int | None = None,
    draw_seed: int = 1993,
) -> Dataset:
    """Any image-classification set of TensorFlow Datasets that fits in memory, or some of its classes.

    Args:
      name: its TFDS name, such as `cifar100`.
      data_dir: where TFDS keeps its data; None for the environment's TFDS_DATA_DIR, or TFDS's default.
      image_size: side of the square to which images are resized and cropped; needed where sizes differ.
      horizontal_flip: whether a mirrored image still shows its class.
      crop_padding: pixels of padding before the random crop of training images.
      num_classes_drawn: how many classes to draw by chance and keep; None for all. Images of others are never decoded.
      draw_seed: seed of the draw; 1993 in the literature.

    Raises:
      UsageError: no such data set, no data and no way to download it, a set without images and labels, or fewer
        classes than are to be drawn.
    """
    if not isinstance(name, str):
        raise checks.UsageError(f"tfds.name = {name!r}: expected the name of a data set, such as 'cifar100'.")
    if image_size is not None:
        checks.check_positive_integer(**{"tfds.image_size": image_size})
    checks.check_bool(**{"tfds.horizontal_flip": horizontal_flip})
    checks.check_non_negative_integer(**{"tfds.crop_padding": crop_padding})
    _check_draw(num_classes_drawn, draw_seed)
    builder = _prepared_builder(name, data_dir)
    _check_features(builder, image_size)
    test_split = _test_split(builder)
    names = builder.info.features["label"].names
    kept = np.arange(len(names)) if num_classes_drawn is None else _drawn(names, num_classes_drawn, draw_seed)
    return Dataset(
        name=builder.name if num_classes_drawn is None else _SUBSET_NAMES.get(builder.name, f"{builder.name}_subset"),
        train=_load_split(builder, "train", image_size, kept),
        test=_load_split(builder, test_split, image_size, kept),
        class_names=tuple(names[class_id] for class_id in kept),
        horizontal_flip=horizontal_flip,
        crop_padding=crop_padding,
        pixel_range=_PUBLISHED_PIXELS.get(builder.name),
    )


def _check_draw(num_classes_drawn: int | None, draw_seed: int) -> None:
    if num_classes_drawn is not None:
        checks.check_positive_integer(**{"tfds.num_classes_drawn": num_classes_drawn})
    checks.check_legacy_seed(**{"tfds.draw_seed": draw_seed})


def _drawn(names: list[str], count: int, seed: int) -> np.ndarray:
    """Ids of `count` classes drawn by chance, `[count]` int64, in the order of their names.

    The script that made the published ImageNet-Subset drew from the sorted names of class folders and copied those
    folders; training then listed the copies, sorted again, and shuffled *that* list into the class order. So the order
    of the draw is forgotten: ids 0 to count - 1 go by name, and `Protocol` shuffles them.
    """
    if count > len(names):
        raise checks.UsageError(
            f"tfds.num_classes_drawn = {count}: the data set has {len(names)} classes. Draw at most as many."
        )
    by_name = np.array(sorted(range(len(names)), key=lambda class_id: names[class_id]), np.int64)
    return by_name[np.sort(np.random.RandomState(seed).choice(len(names), count, replace=False))]


def _check_features(builder: tfds.core.DatasetBuilder, image_size: int | None) -> None:
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or not {"image", "label"} <= set(features):
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: expected a data set with the features 'image' and 'label'."
        )
    if image_size is None and None in features["image"].shape:
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: its images differ in size. Set tfds.image_size to the side they shall have."
        )


def _test_split(builder: tfds.core.DatasetBuilder) -> str:
    """The split to test on: `test`, or else `validation`."""
    # The labels of ImageNet's test images are secret; everyone tests on the validation images.
    candidates = ("validation",) if builder.name == "imagenet2012" else ("test", "validation")
    found = next((split for split in candidates if split in builder.info.splits), None)
    if found is None or "train" not in builder.info.splits:
        expected = " or ".join(repr(split) for split in candidates)
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: expected the splits 'train' and {expected}, "
            f"found {', '.join(builder.info.splits) or 'none'}."
        )
    return found


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
            by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
            raise checks.UsageError(
                f"Data set {name!r} is not at {builder.data_dir} and could not be downloaded ({_first_line(error)}"
                f"{' ' * bool(by_hand)}{by_hand.rstrip('.')}). "
                "Prepare it "
                f"with 'tfds build {name}' on a machine with internet, then point the environment variable "
                "TFDS_DATA_DIR (or the binding tfds.data_dir) at its folder."
            ) from error
    return builder


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160].rstrip(".") if text else type(error).__name__


def _load_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int | None, kept: np.ndarray
) -> LabelledImages:
    """Images of the classes `kept`; a label is a class's place among them."""
    features = builder.info.features
    num_classes = features["label"].num_classes
    new_ids = tf.constant(index_of_id(kept, num_classes))

    def is_kept(example: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.gather(new_ids, example["label"]) >= 0

    def prepare(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = features["image"].decode_example(example["image"])
        image = image if image_size is None else centre_square(image, image_size)
        return image, tf.gather(new_ids, example["label"])

    # Images stay encoded until it is known that their class is kept: decoding is what takes the time.
    examples = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}).filter(is_kept)
    batches = examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(500).prefetch(1)
    # Exact where classes have equally many images.
    count = round(builder.info.splits[split].num_examples * len(kept) / num_classes)
    images, labels = [], []
    with tracking.progress(f"reading {builder.name} {split}", count, "images") as bar:
        try:
            for batch_images, batch_labels in batches.as_numpy_iterator():
                images.append(batch_images)
                labels.append(batch_labels)
                bar.update(len(batch_labels))
        except tf.errors.OpError as error:
            raise checks.UsageError(
                f"Data set {builder.name!r}: its {split} files in {builder.data_dir} cannot be read "
                f"({_first_line(error)}). Delete that folder to prepare them again."
            ) from error
    if not images:
        raise checks.UsageError(f"Data set {builder.name!r}: no {split} image of the {len(kept)} classes asked for.")
    return LabelledImages(_joined(images), np.concatenate(labels))


def _joined(batches: list[np.ndarray]) -> np.ndarray:
    """The batches one after the other. Empties the list as it goes, so that memory never holds all of them twice."""
    joined = np.empty((sum(map(len, batches)), *batches[0].shape[1:]), batches[0].dtype)
    end = len(joined)
    while batches:
        batch = batches.pop()
        joined[end - len(batch) : end] = batch
        end -= len(batch)
    return joined
