"""Where images come from. Each source returns a whole `Dataset`, as uint8 in memory or as rows of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from mnemonics_tf import checks
from mnemonics_tf.data import catalogue, class_files, framing, prepared, sharding, tfds_arrays
from mnemonics_tf.data.holding_out import hold_out, hold_out_share
from mnemonics_tf.data.types import Dataset, LabelledImages, PixelRange

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
    test_share: float = framing.TEST_SHARE,
    split_seed: int = framing.SPLIT_SEED,
) -> Dataset:
    """Any image-classification set of TensorFlow Datasets, or some of its classes: in memory, or in files.

    Images are the feature `image`, or the only one that is an image; classes the feature `label`, or the only one that
    is a class. Of 16 bits the upper 8 are kept; an unknown number of channels becomes RGB. A run tests on the split
    `test`, or on `validation` where there is none or its labels are secret, or else on a share of `train` that it holds
    out.

    What stays in files is sorted by class first, once, into a copy on disk (see `data.class_files`), so that a phase
    reads the images of its own classes and no others.

    Args:
      name: its TFDS name, such as `cifar100`.
      data_dir: where TFDS keeps its data; None for the environment's TFDS_DATA_DIR, or TFDS's default. A run may go on
        with another folder if the data there are the same.
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
      test_share: share of every class that is held out for testing where the data set has no test images with labels;
        at least one image.
      split_seed: seed of that split.

    Raises:
      UsageError: no such data set, no data and no way to download it, a set without images and classes, fewer classes
        than are to be drawn, or images that are to stay in files and cannot.
    """
    if not isinstance(name, str):
        raise checks.UsageError(f"tfds.name = {name!r}: expected the name of a data set, such as 'cifar100'.")
    framing.check_sides("tfds", image_size, resized_side)
    framing.check_split("tfds", test_share, split_seed)
    checks.check_bool(**{"tfds.horizontal_flip": horizontal_flip, "tfds.resized_crop": resized_crop})
    if in_memory is not None:
        checks.check_bool(**{"tfds.in_memory": in_memory})
    padding = framing.padding("tfds", crop_padding, resized_crop)
    prepared.check_draw(num_classes_drawn, draw_seed)
    builder = prepared.prepared_builder(name, data_dir)
    features = catalogue.classification(builder)
    if image_size is None and None in features.image.shape[:2]:
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: its images differ in size. Set tfds.image_size to the side they shall have."
        )
    kept = prepared.kept_classes(features.label.names, num_classes_drawn, draw_seed)
    splits = [split for split in catalogue.splits(builder, features) if split]
    skipped: dict[str, str] = {}
    if _num_bytes(builder, features, splits, len(kept), image_size) <= _MOST_MEMORY if in_memory is None else in_memory:
        loader = tfds_arrays.Loader(builder, features, kept, image_size, resized_side)
        parts = [loader.load(split, skipped) for split in splits]
    elif image_size is None:
        raise checks.UsageError(
            "tfds.image_size = None: expected the side that images shall have which stay in files. Set it, or set "
            "tfds.in_memory = True if there is room for all of them."
        )
    else:
        folders = class_files.split_folders(builder, splits, shards_dir)
        sharding.build(builder, folders, kept)
        parts = [folder.open(kept, image_size, resized_side) for folder in folders]
    train, test = parts if len(parts) == 2 else hold_out_share(parts[0], test_share, split_seed)
    names = features.label.names
    return Dataset(
        name=builder.name if num_classes_drawn is None else _SUBSET_NAMES.get(builder.name, f"{builder.name}_subset"),
        train=train,
        test=test,
        class_names=tuple(names[class_id] for class_id in kept),
        horizontal_flip=horizontal_flip,
        crop_padding=padding,
        pixel_range=_PUBLISHED_PIXELS.get(builder.name),
        resized_crop=resized_crop,
        skipped=skipped,
    )


def _num_bytes(
    builder: tfds.core.DatasetBuilder,
    features: catalogue.Classification,
    splits: Sequence[str],
    num_classes: int,
    image_size: int | None,
) -> float:
    """What the images of some classes take in memory; exact where classes have equally many."""
    height, width = features.image.shape[:2] if image_size is None else (image_size, image_size)
    num_images = sum(builder.info.splits[split].num_examples for split in splits)
    return num_images * num_classes / features.num_classes * height * width * features.num_channels
