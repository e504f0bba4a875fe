"""Where images come from. Each source returns a whole `Dataset`, as uint8 in memory or as rows of files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf import checks
from mnemonics_tf.data import class_files, prepared, sharding
from mnemonics_tf.data.class_order import index_of_id
from mnemonics_tf.data.decoding import centre_square
from mnemonics_tf.data.holding_out import hold_out
from mnemonics_tf.data.types import Dataset, LabelledImages, PixelRange
from mnemonics_tf.system import tracking

# Per-channel statistics of the training images, as the published results use them, by the name of TFDS.
_PUBLISHED_PIXELS = {
    "cifar100": PixelRange((0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023)),
    "imagenet2012": PixelRange((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_SUBSET_NAMES = {"imagenet2012": "imagenet_subset"}  # as the field calls it
_MOST_MEMORY = 2e9  # bytes of images that are held there without being asked


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


def tfds_source(
    name: str | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    resized_side: int | None = None,
    horizontal_flip: bool = True,
    crop_padding: int | None = None,
    resized_crop: bool = False,
    num_classes_drawn: int | None = None,
    draw_seed: int = 1993,
    in_memory: bool | None = None,
    shards_dir: str | None = None,
) -> Dataset:
    """Any image-classification set of TensorFlow Datasets, or some of its classes: in memory, or in files.

    What stays in files is sorted by class first, once, into a copy on disk (see `data.class_files`), so that a phase
    reads the images of its own classes and no others.

    Args:
      name: its TFDS name, such as `cifar100`.
      data_dir: where TFDS keeps its data; None for the environment's TFDS_DATA_DIR, or TFDS's default.
      image_size: side of the square to which images are resized and cropped; needed where sizes differ, and for images
        in files.
      resized_side: pixels to which the shorter side is brought before the centre square is cut out, at least
        `image_size`; None for `image_size`.
      horizontal_flip: whether a mirrored image still shows its class.
      crop_padding: pixels of padding before the random crop of training images; None for 4, or for 0 with
        `resized_crop`.
      resized_crop: train on random windows of images, resized, in the place of padding and cropping.
      num_classes_drawn: how many classes to draw by chance and keep; None for all. Images of others are never decoded.
      draw_seed: seed of the draw; 1993 in the literature.
      in_memory: whether all images are decoded at once and held in memory; None for yes if they take at most 2 GB.
      shards_dir: the folder of images that are sorted by class; None for `class_shards` among the data of TFDS.

    Raises:
      UsageError: no such data set, no data and no way to download it, a set without images and labels, fewer classes
        than are to be drawn, or images that are to stay in files and cannot.
    """
    if not isinstance(name, str):
        raise checks.UsageError(f"tfds.name = {name!r}: expected the name of a data set, such as 'cifar100'.")
    _check_sizes(image_size, resized_side)
    checks.check_bool(**{"tfds.horizontal_flip": horizontal_flip, "tfds.resized_crop": resized_crop})
    if in_memory is not None:
        checks.check_bool(**{"tfds.in_memory": in_memory})
    padding = _padding(crop_padding, resized_crop)
    prepared.check_draw(num_classes_drawn, draw_seed)
    builder = prepared.prepared_builder(name, data_dir)
    if image_size is None and None in builder.info.features["image"].shape:
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: its images differ in size. Set tfds.image_size to the side they shall have."
        )
    splits = ("train", prepared.evaluation_split(builder))
    kept = prepared.kept_classes(builder, num_classes_drawn, draw_seed)
    folders = class_files.split_folders(builder, splits, shards_dir)
    if _num_bytes(builder, splits, len(kept), image_size) <= _MOST_MEMORY if in_memory is None else in_memory:
        train, test = (_load_split(builder, split, image_size, resized_side, kept) for split in splits)
    elif image_size is None:
        raise checks.UsageError(
            "tfds.image_size = None: expected the side that images shall have which stay in files. Set it, or set "
            "tfds.in_memory = True if there is room for all of them."
        )
    else:
        sharding.build(builder, folders, kept)
        train, test = (folder.open(kept, image_size, resized_side) for folder in folders)
    names = builder.info.features["label"].names
    return Dataset(
        name=builder.name if num_classes_drawn is None else _SUBSET_NAMES.get(builder.name, f"{builder.name}_subset"),
        train=train,
        test=test,
        class_names=tuple(names[class_id] for class_id in kept),
        horizontal_flip=horizontal_flip,
        crop_padding=padding,
        pixel_range=_PUBLISHED_PIXELS.get(builder.name),
        resized_crop=resized_crop,
    )


def _check_sizes(image_size: int | None, resized_side: int | None) -> None:
    if image_size is not None:
        checks.check_positive_integer(**{"tfds.image_size": image_size})
    if resized_side is not None:
        checks.check_positive_integer(**{"tfds.resized_side": resized_side})
        if image_size is None or resized_side < image_size:
            raise checks.UsageError(
                f"tfds.resized_side = {resized_side} with tfds.image_size = {image_size}: expected at least the size "
                "of the square that is cut out. Set both."
            )


def _padding(crop_padding: int | None, resized_crop: bool) -> int:
    if crop_padding is None:
        return 0 if resized_crop else 4
    checks.check_non_negative_integer(**{"tfds.crop_padding": crop_padding})
    if crop_padding and resized_crop:
        raise checks.UsageError(
            f"tfds.crop_padding = {crop_padding} with tfds.resized_crop = True: random windows take the place of "
            "padding and cropping. Leave crop_padding out."
        )
    return crop_padding


def _num_bytes(
    builder: tfds.core.DatasetBuilder, splits: Sequence[str], num_classes: int, image_size: int | None
) -> float:
    """What the images of some classes take in memory; exact where classes have equally many."""
    features = builder.info.features
    shape = features["image"].shape
    size = math.prod(shape) if image_size is None else image_size**2 * shape[-1]
    num_images = sum(builder.info.splits[split].num_examples for split in splits)
    return num_images * num_classes / features["label"].num_classes * size


def _load_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int | None, resized_side: int | None, kept: np.ndarray
) -> LabelledImages:
    """Images of the classes `kept`; a label is a class's place among them."""
    features = builder.info.features
    num_classes = features["label"].num_classes
    new_ids = tf.constant(index_of_id(kept, num_classes))

    def is_kept(example: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.gather(new_ids, example["label"]) >= 0

    def prepare(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = features["image"].decode_example(example["image"])
        image = image if image_size is None else centre_square(image, image_size, resized_side)
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
            raise prepared.unreadable(builder, split, prepared.first_line(error)) from error
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
