"""Which features and splits of a TFDS set a run uses, and what it refuses before it reads anything large."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from birds import features, painted, store_pixels
from pictures import as_pillow_reads, damaged_jpeg, encoded, waves

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import catalogue, sources
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stream import ClassStream

_NUMBER = itertools.count()
_IMAGE = tfds.features.Image(shape=(2, 2, 3))
_CLASS = tfds.features.ClassLabel(names=["hen", "owl"])


def _named(*labels: int) -> list[dict]:
    return [{"image": painted(2, 2, 10 * number), "label": label} for number, label in enumerate(labels)]


def _load(folder, splits: dict[str, list[dict]], kinds=None, **settings):
    name = f"field_birds{next(_NUMBER)}"
    store_pixels(folder, name, splits, kinds or features((2, 2, 3), ("hen", "owl")))
    return sources.tfds_source(name, data_dir=str(folder), **settings)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": (0, 1), "validation": (0, 1, 1), "test": (-1, -1)}, (2, 3)),  # secret
        ({"train": (0, 1), "test": (0, 1, 1), "validation": (0, 1)}, (2, 3)),
        ({"train": (0, 1), "val": (0, 1, 1), "extra": (0,)}, (2, 3)),
        ({"training": (0, 1), "dev": (0, 1, 1)}, (2, 3)),
        # A fifth of each class of five is one; of ten two.
        ({"train": (0,) * 5 + (1,) * 10}, (12, 3)),
        ({"test": (0,) * 5 + (1,) * 10}, (12, 3)),
        ({"train": (0,) * 5 + (1,) * 10, "unlabelled": (-1, -1)}, (12, 3)),
        ({"train": (0,) * 5 + (1,) * 10, "test": (-1, -1)}, (12, 3)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("held", [True, False])
def test_splits_with_labels_are_used_and_a_share_held_out_where_there_is_one(splits, expected, held, tmp_path):
    stored = {split: _named(*labels) for split, labels in splits.items()}
    data = _load(tmp_path, stored, image_size=2, in_memory=held)
    assert (len(data.train), len(data.test)) == expected
    assert set(data.train.labels) == set(data.test.labels) == {0, 1}
    shades = [in_memory(part).array[:, 0, 0, 0].tolist() for part in (data.train, data.test)]
    if len(splits) == 1:
        assert sorted(shades[0] + shades[1]) == [10 * number for number in range(15)]


def test_share_follows_its_seed(tmp_path):
    store_pixels(tmp_path, "seeded_birds", {"train": _named(*[0, 1] * 10)}, features((2, 2, 3), ("hen", "owl")))
    shown = [
        sources.tfds_source("seeded_birds", str(tmp_path), test_share=0.5, split_seed=seed)
        .test.array[:, 0, 0, 0]
        .tolist()
        for seed in (1, 1, 2)
    ]
    assert shown[0] == shown[1] != shown[2]
    assert len(shown[0]) == 10


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"one": (0, 1), "two": (0, 1)}, "expected a split 'train' .*found one, two"),
        ({"train": (-1, -1), "test": (0, 1)}, "labels of its split 'train' are secret or missing"),
    ],
    ids=str,
)
def test_sets_without_labelled_training_images_are_refused(splits, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        _load(tmp_path, {split: _named(*labels) for split, labels in splits.items()})
    assert "elete" not in str(raised.value)


def test_images_without_a_class_among_others_are_left_out_and_counted(tmp_path, capsys):
    data = _load(tmp_path, {"train": _named(0, -1, 1, -1), "test": _named(0, 1)})
    assert sorted(data.train.array[:, 0, 0, 0].tolist()) == [0, 20]
    assert "2 train images have no class and are left out" in capsys.readouterr().err


class _Builder:
    """A data set of which nothing is known but its features."""

    name = "some"

    def __init__(self, kinds):
        self.info = type("Info", (), {"features": tfds.features.FeaturesDict(kinds)})


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"image": _IMAGE, "label": tfds.features.Text()}, "'label' as ClassLabel; it is Text"),
        ({"image": _IMAGE, "label": tfds.features.Sequence(_CLASS)}, "'label' as ClassLabel; it is Sequence"),
        ({"image": _IMAGE, "label": tfds.features.Scalar(np.int64)}, "'label' as ClassLabel; it is Scalar"),
        ({"image": _IMAGE, "shape": _CLASS, "colour": _CLASS}, "found 'shape', 'colour', and one image has one class"),
        ({"image": _IMAGE, "file": tfds.features.Text()}, r"found 'image' \(Image\), 'file' \(Text\)"),
        ({"video": tfds.features.Video((None, 4, 4, 3)), "label": _CLASS}, "'image' as Image"),
        ({"image": tfds.features.Tensor(shape=(4, 4, 13), dtype=np.float32), "label": _CLASS}, "it is Tensor"),
        ({"image": tfds.features.Image(shape=(2, 2, 1), dtype=np.float32), "label": _CLASS}, "its images are float32"),
        ({"image": _IMAGE, "label": tfds.features.ClassLabel()}, "does not say how many classes"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:20],
)
def test_sets_of_other_kinds_are_refused_by_their_features(kinds, message):
    with pytest.raises(UsageError, match=message) as raised:
        catalogue.classification(_Builder(kinds))
    assert "\n" not in str(raised.value)


def test_only_image_and_only_class_are_used_whatever_they_are_called():
    kinds = {"photo": _IMAGE, "species": _CLASS, "id": tfds.features.Text()}
    found = catalogue.classification(_Builder(kinds))
    assert (found.image_key, found.label_key, found.num_classes, found.num_channels) == ("photo", "species", 2, 3)
    found = catalogue.classification(_Builder({"image": _IMAGE, "label": _CLASS, "coarse_label": _CLASS}))
    assert found.label_key == "label"


def _stored(folder, name: str, image, contents: list, labels: list[int]):
    spec = {
        "image": tf.TensorSpec([], tf.string)
        if isinstance(contents[0], bytes)
        else tf.TensorSpec(None, contents[0].dtype)
    }
    spec["label"] = tf.TensorSpec([], tf.int64)
    examples = [{"image": content, "label": label} for content, label in zip(contents, labels, strict=True)]
    made = {
        split: tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
        for split in ("train", "test")
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=folder,
        split_datasets=made,
        features=tfds.features.FeaturesDict({"image": image, "label": _CLASS}),
    )


@pytest.mark.parametrize("size", [None, 4])
def test_of_sixteen_bits_the_upper_eight_are_kept(size, tmp_path):
    images = [np.full((4, 4, 1), value, np.uint16) for value in (0x12FF, 0xABCD)]
    image = tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16)
    _stored(tmp_path, f"deep_birds_{size or 0}", image, images, [0, 1])
    data = sources.tfds_source(f"deep_birds_{size or 0}", str(tmp_path), image_size=size)
    assert data.train.images.dtype == np.uint8
    assert {int(label): int(each.max()) for each, label in zip(data.train.images, data.train.labels, strict=True)} == {
        0: 0x12,
        1: 0xAB,
    }


@pytest.mark.parametrize("held", [True, False])
def test_unknown_number_of_channels_becomes_rgb(held, tmp_path):
    contents = [encoded(waves().convert(mode), "PNG") for mode in ("L", "RGBA")]
    _stored(tmp_path, "any_birds", tfds.features.Image(shape=(None, None, None)), contents, [0, 1])
    data = sources.tfds_source("any_birds", str(tmp_path), image_size=48, in_memory=held)
    images = dict(zip(data.train.labels.tolist(), in_memory(data.train).array, strict=True))
    for label, content in enumerate(contents):
        np.testing.assert_array_equal(images[label], as_pillow_reads(content)[:, 8:56])  # the centre of 64 columns


def test_broken_and_turned_images_are_left_out_and_turned_as_in_folders(tmp_path, capsys):
    whole = encoded(waves(), "PNG", 6)
    contents = [whole, damaged_jpeg(), encoded(waves(), "PNG"), b"\xff\xd8\xff junk"]
    _stored(tmp_path, "broken_birds", tfds.features.Image(shape=(None, None, 3)), contents, [0, 0, 1, 1])
    data = sources.tfds_source("broken_birds", str(tmp_path), image_size=48)
    assert sorted(data.train.labels.tolist()) == [0, 1]
    assert len(data.skipped) == 4
    assert sum("a damaged JPEG file (bad Huffman code)" in reason for reason in data.skipped.values()) == 2
    assert "2 of 4 train images cannot be decoded and are left out" in capsys.readouterr().err
    turned = dict(zip(data.train.labels.tolist(), data.train.array, strict=True))[0]
    np.testing.assert_array_equal(turned, as_pillow_reads(whole)[8:56])
    stream = ClassStream(data, Protocol(num_phases=1))
    assert stream.skipped == data.skipped


def test_home_is_found_in_the_folder_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store_pixels(tmp_path / "data", "home_birds", {"train": _named(0, 1), "test": _named(0, 1)}, features((2, 2, 3)))
    assert len(sources.tfds_source("home_birds", data_dir="~/data").train) == 2
