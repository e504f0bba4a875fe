"""Batches of encoded images come in the order in which TFDS gives its examples."""

from __future__ import annotations

import numpy as np
from birds import EXAMPLES, store

from mnemonics_tf.data import catalogue, tfds_records


def _read(builder, features) -> list[tuple[bytes, int]]:
    batches = list(tfds_records.batches(builder, features, "train", 25).as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [25, 25, 10]
    contents, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return list(zip(contents.tolist(), labels.tolist(), strict=True))


def test_batches_of_several_files_are_in_the_order_of_as_dataset(tmp_path, monkeypatch):
    builder = store(tmp_path, EXAMPLES)
    features = catalogue.classification(builder)
    expected = [
        (example["image"], int(example["label"]))
        for example in builder.as_dataset(split="train", decoders=features.partial).as_numpy_iterator()
    ]
    # 20 examples a file, of which TFDS takes 16 in turn.
    assert expected != EXAMPLES["train"]
    assert _read(builder, features) == expected
    # What is stored in another way is read by TFDS itself, one example at a time.
    monkeypatch.setattr(tfds_records, "_PARSED_HERE", ())
    assert _read(builder, features) == expected
