"""Reads the sets of TensorFlow Datasets: into memory, or as rows of files that are sorted by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from mnemonics_tf import checks
from mnemonics_tf.data import catalogue, class_files, framing, prepared, sharding, tfds_arrays
from mnemonics_tf.data.holding_out import hold_out_share
from mnemonics_tf.data.types import Dataset, PixelRange

# Per-channel statistics of the training images, as the published results use them, by the name of TFDS.
_PUBLISHED_PIXELS = {
    "cifar100": PixelRange((0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023)),
    "imagenet2012": PixelRange((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_SUBSET_NAMES = {"imagenet2012": "imagenet_subset"}  # as the field calls it
_MOST_MEMORY = 2e9  # bytes of images that are held there without being asked


def load(source: Any, may_sort: bool = True) -> Dataset:
    """The data of a source.

    Args:
      source: a `sources.TFDS`, which imports this module when it is asked for its data, and so cannot be imported here.
      may_sort: whether images that stay in files may be sorted by class, where they are not yet.

    Raises:
      UsageError: no such data set, no data and no way to download it, a set without images and classes, fewer classes
        than are to be drawn, or images that are to stay in files and cannot, or are not sorted and must not be.
    """
    if source.name is None:
        raise ValueError("A TFDS source without a name cannot have been made.")
    builder = prepared.prepared_builder(source.name, source.data_dir)
    features = catalogue.classification(builder)
    if source.image_size is None and None in features.image.shape[:2]:
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: its images differ in size. Set tfds.image_size to the side they shall have."
        )
    kept = prepared.kept_classes(features.label.names, source.num_classes_drawn, source.draw_seed)
    splits = [split for split in catalogue.splits(builder, features) if split]
    skipped: dict[str, str] = {}
    in_memory = source.in_memory
    if in_memory is None:
        in_memory = _num_bytes(builder, features, splits, len(kept), source.image_size) <= _MOST_MEMORY
    if in_memory:
        loader = tfds_arrays.Loader(builder, features, kept, source.image_size, source.resized_side)
        parts = [loader.load(split, skipped) for split in splits]
    elif source.image_size is None:
        raise checks.UsageError(
            "tfds.image_size = None: expected the side that images shall have which stay in files. Set it, or set "
            "tfds.in_memory = True if there is room for all of them."
        )
    else:
        folders = class_files.split_folders(builder, splits, source.shards_dir)
        if may_sort:
            sharding.build(builder, folders, kept)
        elif not all(set(kept.tolist()) <= folder.complete().keys() for folder in folders):
            raise checks.UsageError(f"{folders[0].dataset_path} does not have the images of all classes.")
        parts = [folder.open(kept, source.image_size, source.resized_side) for folder in folders]
    train, test = parts if len(parts) == 2 else hold_out_share(parts[0], source.test_share, source.split_seed)
    names, subset = features.label.names, _SUBSET_NAMES.get(builder.name, f"{builder.name}_subset")
    return Dataset(
        name=builder.name if source.num_classes_drawn is None else subset,
        train=train,
        test=test,
        class_names=tuple(names[class_id] for class_id in kept),
        horizontal_flip=source.horizontal_flip,
        crop_padding=framing.padding("tfds", source.crop_padding, source.resized_crop),
        pixel_range=_PUBLISHED_PIXELS.get(builder.name),
        resized_crop=source.resized_crop,
        resized_side=source.resized_side,
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
