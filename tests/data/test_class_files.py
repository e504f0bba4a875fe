"""Images sorted by class as a run opens them, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from birds import (
    ALL,
    EXAMPLES,
    NUM_SHARDS,
    SPLITS,
    check_classes,
    in_tfds_order,
    of_class,
    records,
    shard_files,
    shorten,
    store,
)

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import class_files, sharding
from mnemonics_tf.data.decoding import in_memory


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Where TFDS keeps the birds. Read only."""
    folder = tmp_path_factory.mktemp("tfds")
    store(folder, EXAMPLES)
    return folder


@pytest.fixture
def builder(stored):
    return tfds.builder("birds", data_dir=stored)


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory) -> Path:
    """Where all birds are, sorted by class. Read only."""
    path = tmp_path_factory.mktemp("finished")
    builder = tfds.builder("birds", data_dir=stored)
    sharding.build(builder, class_files.split_folders(builder, SPLITS, str(path)), ALL)
    return path


@pytest.fixture
def complete(builder, finished, tmp_path):
    """A copy of them."""
    return class_files.split_folders(builder, SPLITS, str(shutil.copytree(finished, tmp_path / "copied")))


def test_stored_birds_are_in_several_files_and_all_there(builder):
    # What the other tests stand on.
    for split in SPLITS:
        assert len(builder.info.splits[split].shard_lengths) == NUM_SHARDS
        assert sorted(in_tfds_order(builder, split)) == sorted(EXAMPLES[split])


def test_every_image_is_in_the_file_of_its_class_byte_for_byte_and_in_the_order_of_tfds(builder, complete):
    check_classes(builder, complete, [0, 1, 2, 3])
    for folder in complete:
        assert shard_files(folder) == ["00000.tfrecord", "00001.tfrecord", "00002.tfrecord", "00003.tfrecord"]
        kept = [image for file in shard_files(folder) for image in records(os.path.join(folder.path, file))]
        assert sorted(kept) == sorted(image for image, _ in EXAMPLES[folder.split])
        # Nothing else is left there.
        assert set(os.listdir(folder.path)) - set(shard_files(folder)) == {"manifest.json", "index.npz"}


def test_paths_have_name_version_split_and_class_id(builder, tmp_path):
    (folder,) = class_files.split_folders(builder, ["train"], str(tmp_path))
    assert folder.class_file(7) == str(tmp_path / "birds" / "1.0.0" / "train" / "00007.tfrecord")


def test_files_go_beside_the_data_of_tfds_unless_a_folder_is_named(builder, stored):
    (folder,) = class_files.split_folders(builder, ["train"], None)
    assert folder.path == str(stored / "class_shards" / "birds" / "1.0.0" / "train")
    with pytest.raises(UsageError, match=r"tfds\.shards_dir = 3: expected a folder"):
        class_files.split_folders(builder, ["train"], 3)


def test_manifest_counts_records_and_bytes(complete):
    for folder in complete:
        manifest = json.loads(Path(folder.path, "manifest.json").read_text())
        assert (manifest["name"], manifest["version"], manifest["split"]) == ("birds", "1.0.0", folder.split)
        assert set(manifest["classes"]) == {"0", "1", "2", "3"}
        for class_id, found in manifest["classes"].items():
            images = of_class(EXAMPLES[folder.split], int(class_id))
            # A record is 12 bytes, the image, and 4 bytes.
            assert (found["num_records"], found["num_bytes"]) == (len(images), sum(len(x) + 16 for x in images))


def test_rows_decode_to_squares_of_the_size_asked_for(complete):
    rows = complete[1].open(np.array([3]), image_size=5, resized_side=7)
    assert (rows.images.shape[1:], rows.images.resized_side) == ((5, 5, 3), 7)
    assert rows.labels.dtype == np.int64
    assert in_memory(rows).array.shape == (len(of_class(EXAMPLES["test"], 3)), 5, 5, 3)
    assert complete[1].open(np.array([3]), image_size=5, resized_side=None).images.resized_side == 5


def _remove(path: Path) -> None:
    path.unlink()


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _garble(path: Path) -> None:
    path.write_bytes(b'{"classes": {"0": 3}}')


def _miscount(path: Path) -> None:
    path.write_text(path.read_text().replace('"num_records": ', '"num_records": 1'))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("00002.tfrecord", _remove),
        ("00002.tfrecord", shorten),
        ("00002.tfrecord", _lengthen),
        ("manifest.json", _garble),
        ("manifest.json", shorten),
        ("index.npz", _remove),
        ("index.npz", shorten),
        ("index.npz", _garble),
    ],
)
def test_damage_is_refused_and_says_which_folder_to_delete(complete, file, damage):
    train, test = complete
    damage(Path(train.path, file))
    with pytest.raises(UsageError) as raised:
        train.open(ALL, 4, None)
    assert str(raised.value).startswith(f"{os.path.join(train.path, file)} is missing or was damaged")
    assert f"Delete the folder {train.path} to" in str(raised.value)
    test.open(ALL, 4, None)  # the other split is as it was


def test_index_at_odds_with_the_manifest_is_refused(complete):
    _miscount(Path(complete[0].path, "manifest.json"))
    with pytest.raises(UsageError, match=r"index\.npz is missing or was damaged"):
        complete[0].open(ALL, 4, None)


def test_contents_start_after_the_frames_before_them():
    # 12 bytes before each content and 4 after: 12; 12 + 4 + 12; 28 + 4 + 4 + 12.
    np.testing.assert_array_equal(class_files.offsets(np.array([0, 4, 13])), [12, 28, 48])
