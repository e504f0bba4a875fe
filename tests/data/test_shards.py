"""Images of TFDS sorted by class into files of their own, and the command that does it ahead of a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags
from absl.testing import flagsaver
from conftest import ROOT

from mnemonics_tf import tracking
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import class_files, sharding, shards
from mnemonics_tf.data.decoding import in_memory

_CIFAR100_FOLDER = os.path.join(os.environ.get("TFDS_DATA_DIR", ""), "cifar100")
needs_cifar100 = pytest.mark.skipif(
    not os.path.isdir(_CIFAR100_FOLDER), reason="TFDS_DATA_DIR names no folder that holds cifar100"
)

_NAMES = ("hen", "owl", "kea", "emu")
_NUM_SHARDS = 3
_SPLITS = ("train", "test")
_ALL = np.arange(4)

Examples = list[tuple[bytes, int]]


def _jpegs(count: int, seed: int) -> Examples:
    """JPEG images of different sizes, no two alike, with classes by chance."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, len(_NAMES), count).tolist()
    shapes = generator.integers(3, 12, (count, 2)).tolist()
    images = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    return [(tf.io.encode_jpeg(image).numpy(), label) for image, label in zip(images, labels, strict=True)]


_EXAMPLES = {"train": _jpegs(60, seed=0), "test": _jpegs(25, seed=1)}


def _store(folder: Path, splits: dict[str, Examples], name: str = "birds", channels: int = 3):
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
                "label": tfds.features.ClassLabel(names=list(_NAMES)),
            }
        ),
        download_config=tfds.download.DownloadConfig(num_shards=_NUM_SHARDS),
    )
    return tfds.builder(name, data_dir=folder)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Where TFDS keeps the birds. Read only."""
    folder = tmp_path_factory.mktemp("tfds")
    _store(folder, _EXAMPLES)
    return folder


@pytest.fixture
def builder(stored):
    return tfds.builder("birds", data_dir=stored)


@pytest.fixture
def folders(builder, tmp_path):
    return class_files.split_folders(builder, _SPLITS, str(tmp_path / "shards"))


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory) -> Path:
    """Where all birds are, sorted by class. Read only."""
    path = tmp_path_factory.mktemp("finished")
    builder = tfds.builder("birds", data_dir=stored)
    sharding.build(builder, class_files.split_folders(builder, _SPLITS, str(path)), _ALL)
    return path


@pytest.fixture
def complete(builder, finished, tmp_path):
    """A copy of them."""
    return class_files.split_folders(builder, _SPLITS, str(shutil.copytree(finished, tmp_path / "copied")))


def _in_tfds_order(builder, split: str) -> Examples:
    """What TFDS reads of a split, file after file."""
    examples = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        shuffle_files=False,
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
    )
    return [(example["image"], int(example["label"])) for example in examples.as_numpy_iterator()]


def _of_class(examples: Examples, class_id: int) -> list[bytes]:
    return [image for image, label in examples if label == class_id]


def _records(path: str) -> list[bytes]:
    """The records of a file as TensorFlow reads them, which checks all checksums."""
    return list(tf.data.TFRecordDataset(path).as_numpy_iterator())


def _files(folder: class_files.SplitFolder) -> list[str]:
    return sorted(file for file in os.listdir(folder.path) if file.endswith(".tfrecord"))


def _check_classes(builder, folders, class_ids) -> None:
    """Compares the files of some classes with what TFDS reads, and the rows of a run with both."""
    for folder in folders:
        examples = _in_tfds_order(builder, folder.split)
        rows = folder.open(np.asarray(class_ids), image_size=4, resized_side=None)
        expected = []
        for place, class_id in enumerate(class_ids):
            of_class = _of_class(examples, class_id)
            assert _records(folder.class_file(class_id)) == of_class
            expected += [(image, place) for image in of_class]
        contents = [rows.images.content(row) for row in range(len(rows))]
        assert list(zip(contents, rows.labels.tolist(), strict=True)) == expected


def _recorded(builder, monkeypatch) -> list[str]:
    """A list to which every piece of the data set is added that is read from now on."""
    read = []
    original = builder.as_dataset

    def as_dataset(split, **kwargs):
        read.append(split)
        return original(split=split, **kwargs)

    monkeypatch.setattr(builder, "as_dataset", as_dataset)
    return read


def _build_until(builder, folders, class_ids, piece: str) -> None:
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


def test_stored_birds_are_in_several_files_and_all_there(builder):
    # What the other tests stand on.
    for split in _SPLITS:
        assert len(builder.info.splits[split].shard_lengths) == _NUM_SHARDS
        assert sorted(_in_tfds_order(builder, split)) == sorted(_EXAMPLES[split])


def test_every_image_is_in_the_file_of_its_class_byte_for_byte_and_in_the_order_of_tfds(builder, complete):
    _check_classes(builder, complete, [0, 1, 2, 3])
    for folder in complete:
        assert _files(folder) == ["00000.tfrecord", "00001.tfrecord", "00002.tfrecord", "00003.tfrecord"]
        kept = [image for file in _files(folder) for image in _records(os.path.join(folder.path, file))]
        assert sorted(kept) == sorted(image for image, _ in _EXAMPLES[folder.split])
        # Nothing else is left there.
        assert set(os.listdir(folder.path)) - set(_files(folder)) == {"manifest.json", "index.npz"}


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
            images = _of_class(_EXAMPLES[folder.split], int(class_id))
            # A record is 12 bytes, the image, and 4 bytes.
            assert (found["num_records"], found["num_bytes"]) == (len(images), sum(len(x) + 16 for x in images))


def test_only_the_classes_asked_for_have_files(builder, folders):
    sharding.build(builder, folders, np.array([2, 0]))
    for folder in folders:
        assert _files(folder) == ["00000.tfrecord", "00002.tfrecord"]
    _check_classes(builder, folders, [2, 0])


def test_classes_can_be_added_later_and_leave_those_that_are_there_alone(builder, folders):
    sharding.build(builder, folders, np.array([1]))
    before = [os.stat(folder.class_file(1)) for folder in folders]
    sharding.build(builder, folders, np.array([3, 1, 0]))
    for folder, stat in zip(folders, before, strict=True):
        assert _files(folder) == ["00000.tfrecord", "00001.tfrecord", "00003.tfrecord"]
        assert (os.stat(folder.class_file(1)).st_mtime_ns) == stat.st_mtime_ns
    _check_classes(builder, folders, [3, 1, 0])
    _check_classes(builder, folders, [1])


def test_what_is_there_is_neither_read_nor_announced_again(builder, folders, monkeypatch, capsys):
    sharding.build(builder, folders, np.array([0, 1]))
    (line,) = capsys.readouterr().err.splitlines()
    assert "train and test, 2 of 4 classes, about" in line
    assert folders[0].dataset_path in line
    read = _recorded(builder, monkeypatch)
    sharding.build(builder, folders, np.array([1]))
    assert (read, capsys.readouterr().err) == ([], "")


def test_class_without_an_image_has_an_empty_file(tmp_path):
    examples = [each for each in _EXAMPLES["train"] if each[1] != 2]
    builder = _store(tmp_path, {"train": examples}, "fewer_birds")
    folders = class_files.split_folders(builder, ["train"], str(tmp_path / "shards"))
    sharding.build(builder, folders, _ALL)
    assert os.path.getsize(folders[0].class_file(2)) == 0
    _check_classes(builder, folders, [0, 2, 1])
    with pytest.raises(UsageError, match="no train image of the 1 classes asked for"):
        folders[0].open(np.array([2]), 4, None)


def test_rows_decode_to_squares_of_the_size_asked_for(complete):
    rows = complete[1].open(np.array([3]), image_size=5, resized_side=7)
    assert (rows.images.shape[1:], rows.images.resized_side) == ((5, 5, 3), 7)
    assert rows.labels.dtype == np.int64
    assert in_memory(rows).array.shape == (len(_of_class(_EXAMPLES["test"], 3)), 5, 5, 3)
    assert complete[1].open(np.array([3]), image_size=5, resized_side=None).images.resized_side == 5


def _append_garbage(folder: class_files.SplitFolder) -> None:
    for class_id, garbage in ((0, b"half a record"), (3, bytes(1000))):
        with open(folder.class_file(class_id), "ab") as file:
            file.write(garbage)


def test_killed_build_goes_on_with_the_file_it_was_at(builder, folders, monkeypatch):
    _build_until(builder, folders, _ALL, "train[1shard]")
    _append_garbage(folders[0])  # as a kill between two writes leaves it
    with monkeypatch.context() as patch:
        read = _recorded(builder, patch)
        sharding.build(builder, folders, _ALL)
    assert read == ["train[1shard]", "train[2shard]", *(f"test[{shard}shard]" for shard in range(_NUM_SHARDS))]
    _check_classes(builder, folders, [0, 1, 2, 3])


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
            sharding.build(builder, folders, _ALL)
    sharding.build(builder, folders, _ALL)
    _check_classes(builder, folders, [0, 1, 2, 3])


def test_build_killed_before_its_manifest_only_counts_again(builder, folders, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(class_files.SplitFolder, "write_complete", fail)
        with pytest.raises(KeyboardInterrupt):
            sharding.build(builder, folders[:1], _ALL)
    with monkeypatch.context() as patch:
        read = _recorded(builder, patch)
        sharding.build(builder, folders[:1], _ALL)
    assert read == []
    _check_classes(builder, folders[:1], [0, 1, 2, 3])


def test_classes_left_unfinished_wait_until_they_are_asked_for_again(builder, folders, monkeypatch):
    _build_until(builder, folders, np.array([0, 1]), "train[1shard]")
    sharding.build(builder, folders, np.array([1, 2]))
    _check_classes(builder, folders, [1, 2])
    with monkeypatch.context() as patch:
        read = _recorded(builder, patch)
        sharding.build(builder, folders[:1], np.array([0]))
    assert read == ["train[1shard]", "train[2shard]"]
    _check_classes(builder, folders[:1], [0, 1, 2])


def test_second_builder_waits_for_the_first_and_finds_all_done(builder, folders, stored, monkeypatch):
    notices = []
    waiting = threading.Event()

    def notice(text):
        notices.append(text)
        if "waiting" in text:
            waiting.set()

    monkeypatch.setattr(tracking, "notice", notice)
    other = tfds.builder("birds", data_dir=stored)
    read_by_other = _recorded(other, monkeypatch)
    original = builder.as_dataset

    def as_dataset(**kwargs):
        if second.ident is None:
            second.start()
        assert waiting.wait(60)
        return original(**kwargs)

    second = threading.Thread(target=sharding.build, args=(other, folders, _ALL))
    with monkeypatch.context() as patch:
        patch.setattr(builder, "as_dataset", as_dataset)
        sharding.build(builder, folders, _ALL)
    second.join(60)
    assert not second.is_alive()
    assert read_by_other == []
    assert [text.partition(" ")[0] for text in notices] == ["Sorting", "Another"]
    _check_classes(builder, folders, [0, 1, 2, 3])


def test_complete_classes_open_while_another_process_builds(builder, complete):
    with open(os.path.join(complete[0].dataset_path, ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sharding.build(builder, complete, np.array([1]))
        _check_classes(builder, complete, [1])


def _remove(path: Path) -> None:
    path.unlink()


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


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
        ("00002.tfrecord", _shorten),
        ("00002.tfrecord", _lengthen),
        ("manifest.json", _garble),
        ("manifest.json", _shorten),
        ("index.npz", _remove),
        ("index.npz", _shorten),
        ("index.npz", _garble),
    ],
)
def test_damage_is_refused_and_says_which_folder_to_delete(complete, file, damage):
    train, test = complete
    damage(Path(train.path, file))
    with pytest.raises(UsageError) as raised:
        train.open(_ALL, 4, None)
    assert str(raised.value).startswith(f"{os.path.join(train.path, file)} is missing or was damaged")
    assert f"Delete the folder {train.path} to" in str(raised.value)
    test.open(_ALL, 4, None)  # the other split is as it was


def test_split_whose_folder_was_deleted_is_built_anew_and_no_other(builder, complete, monkeypatch):
    shutil.rmtree(complete[1].path)
    with monkeypatch.context() as patch:
        read = _recorded(builder, patch)
        sharding.build(builder, complete, _ALL)
    assert read == [f"test[{shard}shard]" for shard in range(_NUM_SHARDS)]
    _check_classes(builder, complete, [0, 1, 2, 3])


def test_index_at_odds_with_the_manifest_is_refused(complete):
    _miscount(Path(complete[0].path, "manifest.json"))
    with pytest.raises(UsageError, match=r"index\.npz is missing or was damaged"):
        complete[0].open(_ALL, 4, None)


def test_damage_is_noticed_before_further_classes_are_read(builder, folders, monkeypatch):
    sharding.build(builder, folders, np.array([0, 1]))
    read = _recorded(builder, monkeypatch)
    with open(folders[1].class_file(1), "ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match=r"00001\.tfrecord is missing or was damaged"):
        sharding.build(builder, folders, _ALL)
    assert read == []


def test_file_that_lost_what_the_journal_knows_of_is_refused(builder, folders):
    _build_until(builder, folders, _ALL, "train[1shard]")
    _shorten(Path(folders[0].class_file(1)))
    with pytest.raises(UsageError, match=r"00001\.tfrecord is missing or was damaged.*Delete the folder .*train"):
        sharding.build(builder, folders, _ALL)


def test_records_that_cannot_be_counted_again_are_refused(builder, folders, monkeypatch):
    original = sharding.record_lengths
    monkeypatch.setattr(sharding, "record_lengths", lambda path: original(path)[1:])
    with pytest.raises(UsageError, match=r"00000\.tfrecord is missing or was damaged"):
        sharding.build(builder, folders, _ALL)


def test_frames_are_walked_only_where_they_fill_a_file(tmp_path):
    path = str(tmp_path / "some.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for content in (b"", b"four", b"thirteen more"):
            writer.write(content)
    np.testing.assert_array_equal(sharding.record_lengths(path), [0, 4, 13])
    # 12 bytes before each content and 4 after: 12; 12 + 4 + 12; 28 + 4 + 4 + 12.
    np.testing.assert_array_equal(class_files.offsets(np.array([0, 4, 13])), [12, 28, 48])
    _shorten(Path(path))
    assert sharding.record_lengths(path) is None


def test_data_set_that_was_prepared_anew_is_not_mixed_with_the_old_one(tmp_path):
    for count in (40, 41):
        shutil.rmtree(tmp_path / "newer_birds", ignore_errors=True)
        builder = _store(tmp_path, {"train": _EXAMPLES["train"][:count]}, "newer_birds")
        folders = class_files.split_folders(builder, ["train"], None)
        if count == 40:
            sharding.build(builder, folders, _ALL)
    with pytest.raises(UsageError, match=r"newer_birds/1\.0\.0/train was built from other files .* Delete that folder"):
        sharding.build(builder, folders, _ALL)


def test_data_that_cannot_be_read_says_which_folder_to_delete(tmp_path):
    builder = _store(tmp_path, {"train": _EXAMPLES["train"]}, "torn_birds")
    folders = class_files.split_folders(builder, ["train"], None)
    _shorten(sorted(Path(builder.data_dir).glob("*train.tfrecord-*"))[2])
    with pytest.raises(UsageError, match=r"'torn_birds': its train files in .*torn_birds/1\.0\.0 cannot be read"):
        sharding.build(builder, folders, _ALL)


def test_images_without_a_class_are_refused(tmp_path):
    builder = _store(tmp_path, {"train": [*_EXAMPLES["train"], (_EXAMPLES["test"][0][0], -1)]}, "secret_birds")
    folders = class_files.split_folders(builder, ["train"], None)
    with pytest.raises(UsageError, match=r"split 'train' has images without a class \(label -1\)"):
        sharding.build(builder, folders, _ALL)


def test_images_of_other_than_three_channels_are_refused(tmp_path):
    grey = [(tf.io.encode_png(np.zeros((2, 2, 1), np.uint8)).numpy(), 0)] * 5
    builder = _store(tmp_path, {"train": grey}, "grey_birds", channels=1)
    folders = class_files.split_folders(builder, ["train"], None)
    with pytest.raises(UsageError, match=r"three channels .* Set tfds\.in_memory = True"):
        sharding.build(builder, folders, _ALL)
    assert not os.path.exists(folders[0].dataset_path)


def test_disk_without_room_is_refused_before_anything_is_read(builder, folders, monkeypatch):
    read = _recorded(builder, monkeypatch)
    num_bytes = sum(builder.info.splits[split].num_bytes for split in _SPLITS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, num_bytes))
    with pytest.raises(UsageError, match=r"sorted by class take about .* more, and .* are free\.") as raised:
        sharding.build(builder, folders, _ALL)
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
            sharding.build(builder, folders, _ALL)
    sharding.build(builder, folders, _ALL)
    _check_classes(builder, folders, [0, 1, 2, 3])


def test_folder_that_cannot_be_written_to_is_refused(builder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    folders = class_files.split_folders(builder, _SPLITS, str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot be sorted by class there .* Name another folder"):
        sharding.build(builder, folders, _ALL)


@pytest.fixture
def call(capsys):
    """Calls the command in this process: returns its exit code, the lines of standard output, and standard error."""

    def called(*arguments):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            code = shards.main(flags.FLAGS(["mnemonics_tf.data.shards", *map(str, arguments)]))
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err

    return called


def test_command_builds_the_classes_that_a_run_draws(call, builder, stored, tmp_path):
    arguments = ("birds", f"--data_dir={stored}", f"--shards_dir={tmp_path}", "--num_classes_drawn=2", "--draw_seed=0")
    code, lines, errors = call(*arguments)
    assert (code, errors.count("\n")) == (0, 1)
    # RandomState(0).permutation(4) is 2, 3, 1, 0: of emu, hen, kea, owl (ids 3, 0, 2, 1) it draws kea and owl.
    np.testing.assert_array_equal(np.random.RandomState(0).permutation(4)[:2], [2, 3])
    folders = class_files.split_folders(builder, _SPLITS, str(tmp_path))
    assert _files(folders[0]) == ["00001.tfrecord", "00002.tfrecord"]
    counts = [sum(label in (1, 2) for _, label in _EXAMPLES[split]) for split in _SPLITS]
    for line, count, folder in zip(lines, counts, folders, strict=True):
        assert line.startswith(f"{folder.split:<11} {count} images of 2 classes, 0.000 GB, in {folder.path}")
    assert call(*arguments) == (0, lines, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No NAME was given"),
        (("birds", "hens"), "Unexpected argument 'hens'"),
        (("birds", "--data_dir=/nowhere"), "there is no such folder"),
        (("birds", "--num_classes_drawn=0"), "tfds.num_classes_drawn = 0"),
        (("birds", "--num_classes_drawn=5"), "the data set has 4 classes"),
        (("birds", "--draw_seed=-1"), "tfds.draw_seed = -1"),
        (("cifar10O",), "Did you mean 'cifar10'?"),
    ],
    ids=str,
)
def test_mistake_is_one_line_and_exit_code_2(call, stored, tmp_path, arguments, message):
    code, lines, errors = call(f"--data_dir={stored}", f"--shards_dir={tmp_path}", *arguments)
    assert (code, lines) == (2, [])
    assert errors.startswith("mnemonics_tf: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_help_does_not_wait_for_tensorflow():
    program = "import runpy, sys; sys.argv = ['shards', '--help']\n"
    program += "try: runpy.run_module('mnemonics_tf.data.shards', run_name='__main__')\n"
    program += "except SystemExit: print('tensorflow' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "--shards_dir" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "False"


@needs_cifar100
def test_real_cifar100_is_sorted_byte_for_byte(tmp_path):
    builder = tfds.builder("cifar100")
    folders = class_files.split_folders(builder, _SPLITS, str(tmp_path))
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
