"""A small data set of TFDS in several files, and what its class files have to hold. Shared by tests of TFDS."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf.data import class_files, sharding

_CIFAR100_FOLDER = os.path.join(os.environ.get("TFDS_DATA_DIR", ""), "cifar100")
needs_cifar100 = pytest.mark.skipif(
    not os.path.isdir(_CIFAR100_FOLDER), reason="TFDS_DATA_DIR names no folder that holds cifar100"
)

NAMES = ("hen", "owl", "kea", "emu")
NUM_SHARDS = 3  # of each split
SPLITS = ("train", "test")
ALL = np.arange(4)  # class ids

Examples = list[tuple[bytes, int]]


def _jpegs(count: int, seed: int) -> Examples:
    """JPEG images of different sizes, no two alike, with classes by chance."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, len(NAMES), count).tolist()
    shapes = generator.integers(3, 12, (count, 2)).tolist()
    images = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    return [(tf.io.encode_jpeg(image).numpy(), label) for image, label in zip(images, labels, strict=True)]


EXAMPLES = {"train": _jpegs(60, seed=0), "test": _jpegs(25, seed=1)}


def store(folder: Path, splits: dict[str, Examples], name: str = "birds", channels: int = 3):
    """Prepares a data set for TFDS, each split in three files, and returns its builder."""
    datasets = {
        split: tf.data.Dataset.from_tensor_slices(
            {"image": [image for image, _ in examples], "label": [label for _, label in examples]}
        )
        for split, examples in splits.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=folder,
        split_datasets=datasets,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, channels)),
                "label": tfds.features.ClassLabel(names=list(NAMES)),
            }
        ),
        download_config=tfds.download.DownloadConfig(num_shards=NUM_SHARDS),
    )
    return tfds.builder(name, data_dir=folder)


def store_pixels(folder, name, splits, features, version="1.0.0"):
    """Prepares a data set for TFDS in `folder`. `splits` maps a split to its list of examples, images as pixels."""
    signature = {
        "image": tf.TensorSpec([None, None, features["image"].shape[-1]], tf.uint8),
        "label": tf.TensorSpec([], tf.int64),
        "file_name": tf.TensorSpec([], tf.string),
    }
    datasets = {
        split: tf.data.Dataset.from_generator(
            lambda examples=examples: iter(examples), output_signature={key: signature[key] for key in features}
        )
        for split, examples in splits.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        data_dir=folder,
        split_datasets=datasets,
        features=tfds.features.FeaturesDict(features),
    )


def features(shape, names=("hen", "owl", "kea")):
    """Images of a shape with the class of each."""
    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=list(names))}


def painted(height, width, value):
    """An image of one shade, `[height, width, 3]` uint8."""
    return np.full((height, width, 3), value, np.uint8)


def in_tfds_order(builder, split: str) -> Examples:
    """What TFDS reads of a split, file after file."""
    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        shuffle_files=False,
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
    )
    return [(example["image"], int(example["label"])) for example in examples.as_numpy_iterator()]


def of_class(examples: Examples, class_id: int) -> list[bytes]:
    return [image for image, label in examples if label == class_id]


def records(path: str) -> list[bytes]:
    """The records of a file as TensorFlow reads them, which checks all checksums."""
    return list(tf.data.TFRecordDataset(path).as_numpy_iterator())


def shard_files(folder: class_files.SplitFolder) -> list[str]:
    return sorted(file for file in os.listdir(folder.path) if file.endswith(".tfrecord"))


def check_classes(builder, folders, class_ids) -> None:
    """Compares the files of some classes with what TFDS reads, and the rows of a run with both."""
    for folder in folders:
        examples = in_tfds_order(builder, folder.split)
        rows = folder.open(np.asarray(class_ids), image_size=4, resized_side=None)
        expected = []
        for place, class_id in enumerate(class_ids):
            images = of_class(examples, class_id)
            assert records(folder.class_file(class_id)) == images
            expected += [(image, place) for image in images]
        contents = [rows.images.content(row) for row in range(len(rows))]
        assert list(zip(contents, rows.labels.tolist(), strict=True)) == expected


def pieces_read(builder, monkeypatch) -> list[str]:
    """A list to which every piece of the data set is added that is read from now on."""
    read = []
    original = builder.as_dataset

    def as_dataset(split, **kwargs):
        read.append(split)
        return original(split=split, **kwargs)

    monkeypatch.setattr(builder, "as_dataset", as_dataset)
    return read


def build_until(builder, folders, class_ids, piece: str) -> None:
    """A build that is killed before it reads a piece of the data set."""
    original = builder.as_dataset

    def as_dataset(split, **kwargs):
        if split == piece:
            raise KeyboardInterrupt
        return original(split=split, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "as_dataset", as_dataset)
        with pytest.raises(KeyboardInterrupt):
            sharding.build(builder, folders, class_ids)


def shorten(path: Path) -> None:
    """Takes the last byte of a file away."""
    os.truncate(path, path.stat().st_size - 1)
