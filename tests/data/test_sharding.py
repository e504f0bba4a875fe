"""Images of TFDS are sorted by class: once, byte for byte, whatever interrupts it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from birds import (
    ALL,
    EXAMPLES,
    NUM_SHARDS,
    SPLITS,
    build_until,
    check_classes,
    needs_cifar100,
    pieces_read,
    shard_files,
    shorten,
    store,
)

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import class_files, sharding
from mnemonics_tf.system import tracking


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Where TFDS keeps the birds. Read only."""
    folder = tmp_path_factory.mktemp("tfds")
    store(folder, EXAMPLES)
    return folder


@pytest.fixture
def builder(stored):
    return tfds.builder("birds", data_dir=stored)


@pytest.fixture
def folders(builder, tmp_path):
    return class_files.split_folders(builder, SPLITS, str(tmp_path / "shards"))


def test_only_the_classes_asked_for_have_files(builder, folders):
    sharding.build(builder, folders, np.array([2, 0]))
    for folder in folders:
        assert shard_files(folder) == ["00000.tfrecord", "00002.tfrecord"]
    check_classes(builder, folders, [2, 0])


def test_classes_can_be_added_later_and_leave_those_that_are_there_alone(builder, folders):
    sharding.build(builder, folders, np.array([1]))
    before = [os.stat(folder.class_file(1)) for folder in folders]
    sharding.build(builder, folders, np.array([3, 1, 0]))
    for folder, stat in zip(folders, before, strict=True):
        assert shard_files(folder) == ["00000.tfrecord", "00001.tfrecord", "00003.tfrecord"]
        assert (os.stat(folder.class_file(1)).st_mtime_ns) == stat.st_mtime_ns
    check_classes(builder, folders, [3, 1, 0])
    check_classes(builder, folders, [1])


def test_what_is_there_is_neither_read_nor_announced_again(builder, folders, monkeypatch, capsys):
    sharding.build(builder, folders, np.array([0, 1]))
    (line,) = capsys.readouterr().err.splitlines()
    assert "train and test, 2 of 4 classes, about" in line
    assert folders[0].dataset_path in line
    read = pieces_read(builder, monkeypatch)
    sharding.build(builder, folders, np.array([1]))
    assert (read, capsys.readouterr().err) == ([], "")


def test_class_without_an_image_has_an_empty_file(tmp_path):
    examples = [each for each in EXAMPLES["train"] if each[1] != 2]
    builder = store(tmp_path, {"train": examples}, "fewer_birds")
    folders = class_files.split_folders(builder, ["train"], str(tmp_path / "shards"))
    sharding.build(builder, folders, ALL)
    assert os.path.getsize(folders[0].class_file(2)) == 0
    check_classes(builder, folders, [0, 2, 1])
    with pytest.raises(UsageError, match="no train image of the 1 classes asked for"):
        folders[0].open(np.array([2]), 4, None)


def _append_garbage(folder: class_files.SplitFolder) -> None:
    for class_id, garbage in ((0, b"half a record"), (3, bytes(1000))):
        with open(folder.class_file(class_id), "ab") as file:
            file.write(garbage)


def test_killed_build_goes_on_with_the_file_it_was_at(builder, folders, monkeypatch):
    build_until(builder, folders, ALL, "train[1shard]")
    _append_garbage(folders[0])  # as a kill between two writes leaves it
    with monkeypatch.context() as patch:
        read = pieces_read(builder, patch)
        sharding.build(builder, folders, ALL)
    assert read == ["train[1shard]", "train[2shard]", *(f"test[{shard}shard]" for shard in range(NUM_SHARDS))]
    check_classes(builder, folders, [0, 1, 2, 3])


@pytest.mark.parametrize("number", [1, 2, 4])
def test_images_that_the_journal_does_not_know_of_are_written_again(builder, folders, monkeypatch, number):
    calls = []
    original = class_files.SplitFolder.write_unfinished

    def write(self, classes):
        calls.append(self)
        if len(calls) == number:
            raise KeyboardInterrupt
        original(self, classes)

    with monkeypatch.context() as patch:
        patch.setattr(class_files.SplitFolder, "write_unfinished", write)
        with pytest.raises(KeyboardInterrupt):
            sharding.build(builder, folders, ALL)
    sharding.build(builder, folders, ALL)
    check_classes(builder, folders, [0, 1, 2, 3])


def test_build_killed_before_its_manifest_only_counts_again(builder, folders, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(class_files.SplitFolder, "write_complete", fail)
        with pytest.raises(KeyboardInterrupt):
            sharding.build(builder, folders[:1], ALL)
    with monkeypatch.context() as patch:
        read = pieces_read(builder, patch)
        sharding.build(builder, folders[:1], ALL)
    assert read == []
    check_classes(builder, folders[:1], [0, 1, 2, 3])


def test_classes_left_unfinished_wait_until_they_are_asked_for_again(builder, folders, monkeypatch):
    build_until(builder, folders, np.array([0, 1]), "train[1shard]")
    sharding.build(builder, folders, np.array([1, 2]))
    check_classes(builder, folders, [1, 2])
    with monkeypatch.context() as patch:
        read = pieces_read(builder, patch)
        sharding.build(builder, folders[:1], np.array([0]))
    assert read == ["train[1shard]", "train[2shard]"]
    check_classes(builder, folders[:1], [0, 1, 2])


def test_second_builder_waits_for_the_first_and_finds_all_done(builder, folders, stored, monkeypatch):
    notices = []
    waiting = threading.Event()

    def notice(text):
        notices.append(text)
        if "waiting" in text:
            waiting.set()

    monkeypatch.setattr(tracking, "notice", notice)
    other = tfds.builder("birds", data_dir=stored)
    read_by_other = pieces_read(other, monkeypatch)
    original = builder.as_dataset

    def as_dataset(**kwargs):
        if second.ident is None:
            second.start()
        assert waiting.wait(60)
        return original(**kwargs)

    second = threading.Thread(target=sharding.build, args=(other, folders, ALL))
    with monkeypatch.context() as patch:
        patch.setattr(builder, "as_dataset", as_dataset)
        sharding.build(builder, folders, ALL)
    second.join(60)
    assert not second.is_alive()
    assert read_by_other == []
    assert [text.partition(" ")[0] for text in notices] == ["Sorting", "Another"]
    check_classes(builder, folders, [0, 1, 2, 3])


def test_complete_classes_open_while_another_process_builds(builder, folders):
    sharding.build(builder, folders, np.array([1]))
    with open(os.path.join(folders[0].dataset_path, ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sharding.build(builder, folders, np.array([1]))
        check_classes(builder, folders, [1])


def test_split_whose_folder_was_deleted_is_built_anew_and_no_other(builder, folders, monkeypatch):
    sharding.build(builder, folders, ALL)
    shutil.rmtree(folders[1].path)
    with monkeypatch.context() as patch:
        read = pieces_read(builder, patch)
        sharding.build(builder, folders, ALL)
    assert read == [f"test[{shard}shard]" for shard in range(NUM_SHARDS)]
    check_classes(builder, folders, [0, 1, 2, 3])


def test_damage_is_noticed_before_further_classes_are_read(builder, folders, monkeypatch):
    sharding.build(builder, folders, np.array([0, 1]))
    read = pieces_read(builder, monkeypatch)
    with open(folders[1].class_file(1), "ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match=r"00001\.tfrecord is missing or was damaged"):
        sharding.build(builder, folders, ALL)
    assert read == []


def test_file_that_lost_what_the_journal_knows_of_is_refused(builder, folders):
    build_until(builder, folders, ALL, "train[1shard]")
    shorten(Path(folders[0].class_file(1)))
    with pytest.raises(UsageError, match=r"00001\.tfrecord is missing or was damaged.*Delete the folder .*train"):
        sharding.build(builder, folders, ALL)


def test_records_that_cannot_be_counted_again_are_refused(builder, folders, monkeypatch):
    original = sharding.record_lengths
    monkeypatch.setattr(sharding, "record_lengths", lambda path: original(path)[1:])
    with pytest.raises(UsageError, match=r"00000\.tfrecord is missing or was damaged"):
        sharding.build(builder, folders, ALL)


def test_frames_are_walked_only_where_they_fill_a_file(tmp_path):
    path = str(tmp_path / "some.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for content in (b"", b"four", b"thirteen more"):
            writer.write(content)
    np.testing.assert_array_equal(sharding.record_lengths(path), [0, 4, 13])
    shorten(Path(path))
    assert sharding.record_lengths(path) is None


def test_data_set_that_was_prepared_anew_is_not_mixed_with_the_old_one(tmp_path):
    for count in (40, 41):
        shutil.rmtree(tmp_path / "newer_birds", ignore_errors=True)
        builder = store(tmp_path, {"train": EXAMPLES["train"][:count]}, "newer_birds")
        folders = class_files.split_folders(builder, ["train"], None)
        if count == 40:
            sharding.build(builder, folders, ALL)
    with pytest.raises(UsageError, match=r"newer_birds/1\.0\.0/train was built from other files .* Delete that folder"):
        sharding.build(builder, folders, ALL)


def test_data_that_cannot_be_read_says_which_folder_to_delete(tmp_path):
    builder = store(tmp_path, {"train": EXAMPLES["train"]}, "torn_birds")
    folders = class_files.split_folders(builder, ["train"], None)
    shorten(sorted(Path(builder.data_dir).glob("*train.tfrecord-*"))[2])
    with pytest.raises(UsageError, match=r"'torn_birds': its train files in .*torn_birds/1\.0\.0 cannot be read"):
        sharding.build(builder, folders, ALL)


def test_images_without_a_class_are_refused(tmp_path):
    builder = store(tmp_path, {"train": [*EXAMPLES["train"], (EXAMPLES["test"][0][0], -1)]}, "secret_birds")
    folders = class_files.split_folders(builder, ["train"], None)
    with pytest.raises(UsageError, match=r"split 'train' has images without a class \(label -1\)"):
        sharding.build(builder, folders, ALL)


def test_images_of_other_than_three_channels_are_refused(tmp_path):
    grey = [(tf.io.encode_png(np.zeros((2, 2, 1), np.uint8)).numpy(), 0)] * 5
    builder = store(tmp_path, {"train": grey}, "grey_birds", channels=1)
    folders = class_files.split_folders(builder, ["train"], None)
    with pytest.raises(UsageError, match=r"three channels .* Set tfds\.in_memory = True"):
        sharding.build(builder, folders, ALL)
    assert not os.path.exists(folders[0].dataset_path)


def test_disk_without_room_is_refused_before_anything_is_read(builder, folders, monkeypatch):
    read = pieces_read(builder, monkeypatch)
    num_bytes = sum(builder.info.splits[split].num_bytes for split in SPLITS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, num_bytes))
    with pytest.raises(UsageError, match=r"sorted by class take about .* more, and .* are free\.") as raised:
        sharding.build(builder, folders, ALL)
    assert "tfds.shards_dir" in str(raised.value)
    assert read == []
    sharding.build(builder, folders[1:], np.array([0]))  # for a quarter there is room


def test_disk_that_fills_up_says_that_the_build_will_go_on(builder, folders, monkeypatch):
    calls = []
    original = os.fsync

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UsageError, match=r"\(No space left on device\)\. Free some of the disk and start again"):
            sharding.build(builder, folders, ALL)
    sharding.build(builder, folders, ALL)
    check_classes(builder, folders, [0, 1, 2, 3])


def test_folder_that_cannot_be_written_to_is_refused(builder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    folders = class_files.split_folders(builder, SPLITS, str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot be sorted by class there .* Name another folder"):
        sharding.build(builder, folders, ALL)


@needs_cifar100
def test_real_cifar100_is_sorted_byte_for_byte(tmp_path):
    builder = tfds.builder("cifar100")
    folders = class_files.split_folders(builder, SPLITS, str(tmp_path))
    sharding.build(builder, folders, np.arange(100))
    for folder in folders:
        examples = builder.as_dataset(split=folder.split, decoders={"image": tfds.decode.SkipDecoding()}).batch(1000)
        parts = [(batch["image"], batch["label"]) for batch in examples.as_numpy_iterator()]
        labels = np.concatenate([label for _, label in parts])
        in_order = np.argsort(labels, kind="stable")
        expected = np.concatenate([image for image, _ in parts])[in_order]
        rows = folder.open(np.arange(100), 32, None)
        np.testing.assert_array_equal(rows.labels, labels[in_order])
        contents = {}
        with contextlib.ExitStack() as opened:
            for file in rows.images.files:
                contents[file] = opened.enter_context(open(file, "rb")).read()
        places = zip(rows.images.file, rows.images.offset, rows.images.length, strict=True)
        for (file, offset, length), image in zip(places, expected, strict=True):
            assert contents[rows.images.files[file]][offset : offset + length] == image
