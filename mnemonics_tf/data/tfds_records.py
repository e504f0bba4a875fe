"""Encoded images and labels of a split of TFDS, in the order of `as_dataset`, parsed a batch at a time.

TFDS parses one example at a time, which for small images takes longer than to decode them.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf.data.catalogue import Classification

# How many files TFDS reads in turn, and how many examples of each, unless it is told otherwise.
_FILES_IN_TURN, _EXAMPLES_IN_TURN = 16, 16
_PARSED_HERE = (tfds.core.FileFormat.TFRECORD,)


def batches(builder: tfds.core.DatasetBuilder, features: Classification, split: str, size: int) -> tf.data.Dataset:
    """A dataset of `(encoded images [b] of strings, labels [b] int64)`, `b = size` but for the last batch.

    It fails (tf.errors.OpError) where files are missing or damaged, or do not hold as many examples as TFDS wrote.

    Args:
      builder: the data set, prepared.
      features: its image and its class; other features are not even parsed.
      split: name of a split.
      size: of the batches.
    """
    info = builder.info
    spec = {features.image_key: features.image, features.label_key: features.label}
    stored = {name: feature.get_serialized_info() for name, feature in spec.items()}
    is_plain = all(isinstance(each, tfds.features.TensorInfo) and each.shape == () for each in stored.values())
    if info.file_format not in _PARSED_HERE or not is_plain:
        examples = builder.as_dataset(split=split, decoders=features.partial)
        return examples.map(lambda example: (example[features.image_key], example[features.label_key])).batch(size)
    files = [str(each.filename) for each in info.splits[split].file_instructions]
    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=1 if info.disable_shuffling else _FILES_IN_TURN,
        block_length=_EXAMPLES_IN_TURN,
    )
    records = records.apply(tf.data.experimental.assert_cardinality(info.splits[split].num_examples))
    parsed = {
        features.image_key: tf.io.FixedLenFeature([], tf.string),
        features.label_key: tf.io.FixedLenFeature([], tf.int64),
    }

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        examples = tf.io.parse_example(serialized, parsed)
        return examples[features.image_key], examples[features.label_key]

    return records.batch(size).map(parse)
