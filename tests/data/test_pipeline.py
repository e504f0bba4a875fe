"""Batches and augmentation."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from image_files import painted, png

from mnemonics_tf.data import pipeline
from mnemonics_tf.data.batches import num_batches
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.runtime import ONE_REPLICA, Share

_SEED = tf.constant([3, 4], tf.int64)


def _numbered(count: int) -> LabelledImages:
    """Images `[count, 1, 1, 1]` whose pixel is their position; the label is ten times that."""
    positions = np.arange(count)
    return LabelledImages(positions.astype(np.uint8).reshape(-1, 1, 1, 1), positions.astype(np.int64) * 10)


def _distinct(count: int, height: int, width: int, channels: int) -> np.ndarray:
    """Random images without zeros, so that padding shows."""
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels), np.uint8)


def _batches(data: LabelledImages, batch_size: int, epochs: int, seed: int, augmentation: Augmentation | None = None):
    batches = pipeline.training_batches(data, batch_size, epochs, seed, augmentation or Augmentation())
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def _order(count: int, batch_size: int, epochs: int, seed: int) -> np.ndarray:
    return np.concatenate([images.ravel() for images, _ in _batches(_numbered(count), batch_size, epochs, seed)])


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own():
    epochs = _order(30, 8, 3, seed=1).reshape(3, 30)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(30))
    # Two random orders of 30 images are equal once in 30! tries.
    assert len({tuple(epoch) for epoch in [*epochs, np.arange(30)]}) == 4


def _either(share: float, seed: int, augmentation: Augmentation | None = None) -> np.ndarray:
    """Which of 400 images come coded in each of 3 epochs, `[3, 400]` bool: coded ones are brighter by 128."""
    plain = np.repeat(np.arange(100, dtype=np.uint8), 4).reshape(-1, 2, 2, 1)
    images = np.concatenate([plain] * 4)
    data = LabelledImages(images, np.arange(400), coded=images + 128)
    shown = np.zeros((3, 400), bool)
    for step, (batch, labels) in enumerate(
        _batches(data, 100, 3, seed, augmentation or Augmentation(coded_share=share))
    ):
        shown[step // 4, labels] = batch[:, 0, 0, 0] >= 128
        np.testing.assert_array_equal(batch[:, 0, 0, 0] % 128, labels % 100)
    return shown


def test_images_come_coded_with_a_probability_drawn_anew_in_each_epoch():
    shown = _either(0.3, seed=1)
    assert 0.2 < shown.mean() < 0.4
    assert [_either(share, seed=1).mean() for share in (0.0, 1.0)] == [0.0, 1.0]
    # Drawn for each image in each epoch, by the seed alone.
    assert len({epoch.tobytes() for epoch in shown}) == 3
    np.testing.assert_array_equal(_either(0.3, seed=1), shown)
    np.testing.assert_array_equal(_either(0.3, 1, Augmentation(horizontal_flip=True, coded_share=0.3)), shown)
    assert (_either(0.3, seed=2) != shown).any()


def test_coded_images_change_nothing_else_that_is_drawn():
    images, labels = _distinct(20, 4, 4, 1), np.arange(20)
    twins = LabelledImages(images, labels, coded=images)
    for (first, one), (second, two) in zip(
        _batches(LabelledImages(images, labels), 8, 2, 5, Augmentation(1, True)),
        _batches(twins, 8, 2, 5, Augmentation(1, True, coded_share=0.5)),
        strict=True,
    ):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(one, two)


def test_last_batch_of_each_epoch_holds_what_is_left():
    sizes = [len(labels) for _, labels in _batches(_numbered(10), 4, 2, seed=0)]
    assert sizes == [4, 4, 2, 4, 4, 2]


def test_labels_go_with_their_images():
    for images, labels in _batches(_numbered(25), 4, 2, seed=0):
        np.testing.assert_array_equal(labels, images.ravel().astype(np.int64) * 10)
        assert labels.dtype == np.int64


def test_same_seed_gives_the_same_batches_and_another_seed_others():
    np.testing.assert_array_equal(_order(30, 8, 2, seed=1), _order(30, 8, 2, seed=1))
    assert (_order(30, 8, 2, seed=1) != _order(30, 8, 2, seed=2)).any()


def test_augmented_batches_are_the_same_in_every_pass_and_differ_between_epochs():
    data = LabelledImages(_distinct(1, 6, 6, 1), np.zeros(1, np.int64))
    batches = pipeline.training_batches(data, 1, 12, 5, Augmentation(crop_padding=2, horizontal_flip=True))
    first, second = ([images.numpy().tobytes() for images, _ in batches] for _ in range(2))
    assert first == second
    # 25 windows and their mirror images: 12 draws with fewer than 4 different ones are next to impossible.
    assert len(set(first)) >= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_keep_the_dtype_of_the_images(dtype):
    data = LabelledImages(_distinct(3, 4, 4, 1).astype(dtype), np.zeros(3, np.int64))
    ((images, _),) = _batches(data, 3, 1, 0, Augmentation(1, True))
    assert images.dtype == dtype


def _augmented(augmentation: Augmentation, images: np.ndarray) -> np.ndarray:
    return augmentation(tf.constant(images), augmentation.draw(len(images), _SEED)).numpy()


def test_no_augmentation_leaves_images_alone():
    images = _distinct(4, 5, 3, 2)
    np.testing.assert_array_equal(_augmented(Augmentation(), images), images)


def _windows(image: np.ndarray, padding: int) -> dict[bytes, tuple[int, int]]:
    """All windows of the image's own size in its zero-padded version, with their offsets."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * padding, width + 2 * padding, channels), image.dtype)
    padded[padding : padding + height, padding : padding + width] = image
    return {
        np.ascontiguousarray(padded[row : row + height, column : column + width]).tobytes(): (row, column)
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    }


def test_crops_are_all_the_windows_of_the_padded_image_each_image_with_its_own():
    image = _distinct(1, 5, 4, 3)[0]
    windows = _windows(image, padding=1)
    crops = _augmented(Augmentation(crop_padding=1), np.stack([image] * 300))
    offsets = [windows[crop.tobytes()] for crop in crops]  # a KeyError is a crop that is no window
    # 9 windows: the chance that 300 draws miss one of them is 9 * (8/9)^300 < 1e-14.
    assert set(offsets) == {(row, column) for row in range(3) for column in range(3)}


def test_mirrored_images_are_reversed_from_left_to_right_in_about_half_of_the_draws():
    images = _distinct(400, 3, 5, 3)
    augmented = _augmented(Augmentation(horizontal_flip=True), images)
    mirrored = np.array([np.array_equal(new, old[:, ::-1]) for new, old in zip(augmented, images, strict=True)])
    kept = np.array([np.array_equal(new, old) for new, old in zip(augmented, images, strict=True)])
    assert (mirrored ^ kept).all()
    # Binomial with 400 draws: mean 200, standard deviation 10.
    assert 140 < mirrored.sum() < 260


def test_crop_and_mirror_are_drawn_independently():
    image = _distinct(1, 4, 4, 1)[0]
    windows = {key: (*offset, False) for key, offset in _windows(image, 1).items()}
    for key, (row, column, _) in list(windows.items()):
        window = np.frombuffer(key, np.uint8).reshape(4, 4, 1)
        windows[np.ascontiguousarray(window[:, ::-1]).tobytes()] = (row, column, True)
    crops = _augmented(Augmentation(1, True), np.stack([image] * 600))
    # 18 outcomes: the chance that 600 draws miss one of them is 18 * (17/18)^600 < 1e-13.
    assert {windows[crop.tobytes()] for crop in crops} == set(windows.values())


def test_augmentation_is_the_same_eagerly_and_inside_tf_data():
    images = _distinct(8, 6, 6, 3)
    augmentation = Augmentation(2, True)
    mapped = tf.data.Dataset.from_tensors(images).map(lambda batch: augmentation(batch, augmentation.draw(8, _SEED)))
    np.testing.assert_array_equal(next(iter(mapped)), _augmented(augmentation, images))


@pytest.mark.parametrize(("count", "batch_size", "expected"), [(1, 128, 1), (128, 128, 1), (129, 128, 2), (10, 3, 4)])
def test_number_of_batches_counts_the_last_smaller_one(count, batch_size, expected):
    assert num_batches(count, batch_size) == expected


def test_evaluation_keeps_order_and_images():
    data = LabelledImages(_distinct(7, 2, 3, 1), np.zeros(7, np.int64))
    batches = [batch.numpy() for batch in pipeline.evaluation_batches(data, 3)]
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), data.images)


def _in_files(folder: Path, images: np.ndarray) -> StoredImages:
    """A PNG for each image `[n, H, H, 3]`."""
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(png(image))
    return StoredImages.of_files([str(path) for path in paths], images.shape[1])


def _mixed(folder: Path, images: np.ndarray) -> StoredImages:
    """The same images: the first half in files, then bare pixels, a file of them and some in memory."""
    half = len(images) // 2
    (folder / "pixels").write_bytes(b"head" + images[half:-2].tobytes())
    bare = StoredImages.of_pixels(str(folder / "pixels"), 4, len(images) - half - 2, images.shape[1:])
    return _in_files(folder, images[:half]).joined(bare).joined(images[-2:])


def _check_same_batches(first, second) -> None:
    assert len(first) == len(second) > 0
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert images.dtype == other_images.dtype
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(2, True)], ids=["plain", "augmented"])
@pytest.mark.parametrize("make", [_in_files, _mixed], ids=["files", "mixed"])
def test_images_in_files_make_the_same_batches_as_in_memory(make, augmentation, tmp_path):
    images, labels = _distinct(10, 6, 6, 3), np.arange(10)
    expected = _batches(LabelledImages(images, labels), 4, 2, 3, augmentation)
    stored = _batches(LabelledImages(make(tmp_path, images), labels), 4, 2, 3, augmentation)
    _check_same_batches(stored, expected)


def test_soft_labels_go_with_their_images_in_files(tmp_path):
    images = np.stack([painted(shade) for shade in range(6)])
    soft = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    for batch, targets in _batches(LabelledImages(_in_files(tmp_path, images), np.zeros(6, int), soft), 4, 1, 0):
        np.testing.assert_array_equal(targets, soft[batch[:, 0, 0, 0]])


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[LabelledImages, LabelledImages]:
    """Images of noise 12 x 12 as files, and as an array; the first pixel of each is its label."""
    images = _distinct(9, 12, 12, 3)
    labels = np.arange(9)
    files = _in_files(tmp_path_factory.mktemp("large"), images)
    return LabelledImages(files, labels), LabelledImages(images, labels)


@pytest.mark.parametrize("place", ["files", "memory"])
def test_random_windows_are_the_same_in_every_pass_and_differ_otherwise(place, large):
    data = large[place == "memory"]
    augmentation = Augmentation(resized_crop=True)
    batches = pipeline.training_batches(data, 9, 3, 5, augmentation)  # an epoch is a batch
    first, again = ([(images.numpy(), labels.numpy()) for images, labels in batches] for _ in range(2))
    _check_same_batches(first, again)
    other_seed = _batches(data, 9, 1, 6, augmentation)
    by_label = [images[np.argsort(labels)] for images, labels in (*first, *other_seed)]
    for label in range(9):
        assert len({images[label].tobytes() for images in by_label}) == 4


def test_random_windows_show_the_image_of_their_label_and_are_mirrored_by_half(tmp_path):
    # Shades rise from left to right, from 20 * label to 20 * label + 11.
    images = np.stack([painted(20 * label, 12, 12) + np.arange(12, dtype=np.uint8)[:, None] for label in range(10)])
    data = LabelledImages(_in_files(tmp_path, images), np.arange(10))
    mirrored = []
    for batch, labels in _batches(data, 10, 20, 0, Augmentation(horizontal_flip=True, resized_crop=True)):
        np.testing.assert_array_equal(batch // 20, np.broadcast_to(labels[:, None, None, None], batch.shape))
        np.testing.assert_array_equal(batch, batch[:, :1, :, :1] + np.zeros((1, 12, 1, 3), np.uint8))
        mirrored += (batch[:, 0, -1, 0].astype(int) - batch[:, 0, 0, 0]).tolist()
    # The narrowest window is 3 pixels wide, so that shades differ by 2 at least.
    assert min(np.abs(mirrored)) >= 2
    # Binomial with 200 draws: mean 100, standard deviation 7.
    assert 65 < np.sum(np.array(mirrored) < 0) < 135


def test_pixels_among_files_have_the_windows_that_they_have_in_memory(tmp_path):
    images, labels = _distinct(10, 8, 8, 3), np.arange(10)
    augmentation = Augmentation(horizontal_flip=True, resized_crop=True)
    array = _batches(LabelledImages(images, labels), 4, 2, 3, augmentation)
    mixed = _batches(LabelledImages(_mixed(tmp_path, images), labels), 4, 2, 3, augmentation)
    for (expected, _), (batch, batch_labels) in zip(array, mixed, strict=True):
        is_bare = batch_labels >= 5
        np.testing.assert_array_equal(batch[is_bare], expected[is_bare])
        # Those in files, whose size happens to be that of the batch, round halves otherwise.
        np.testing.assert_allclose(batch.astype(int), expected, atol=1)


# Replicas that each of the processes feeds.
_PROCESSES = {
    "1 + 1": [Share(2, 0, 1), Share(2, 1, 1)],
    "3": [Share(3, 0, 3)],
    "2 + 2": [Share(4, 0, 2), Share(4, 2, 2)],
}


def _shared(make, processes: list[Share]) -> list[list[np.ndarray]]:
    """For each batch what each replica gets, process after process, flat."""
    batches: list[list] = []
    for share in processes:
        elements = list(make(share))
        for step, start in enumerate(range(0, len(elements), share.count)):
            batches += [[]] * (step == len(batches))
            batches[step] = batches[step] + elements[start : start + share.count]
    return batches


def _to_be_shared(share: Share, place: str, large: tuple[LabelledImages, LabelledImages]) -> tf.data.Dataset:
    """Two epochs of 23 images, in batches of 8, 8 and 7, with all draws of an augmentation."""
    data = LabelledImages(large[place == "memory"].images[np.arange(23) % 9], np.arange(23))
    augmentation = Augmentation(1, True) if place == "memory" else Augmentation(0, True, True)
    return pipeline.training_batches(data, 8, 2, 1, augmentation, share)


@pytest.fixture(scope="module")
def whole(large) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """What one replica gets."""
    return {
        place: [(images.numpy(), labels.numpy()) for images, labels in _to_be_shared(ONE_REPLICA, place, large)]
        for place in ("files", "memory")
    }


@pytest.mark.parametrize("processes", _PROCESSES.values(), ids=_PROCESSES)
@pytest.mark.parametrize("place", ["files", "memory"])
def test_replicas_share_each_batch_of_one_replica(place, processes, large, whole):
    parts = _shared(lambda share: _to_be_shared(share, place, large), processes)
    # From r * 8 // R to (r + 1) * 8 // R, and likewise of 7.
    full, last = {2: ([4, 4], [3, 4]), 3: ([2, 3, 3], [2, 2, 3]), 4: ([2] * 4, [1, 2, 2, 2])}[processes[0].num_replicas]
    assert [[len(labels) for _, labels in batch] for batch in parts] == [full, full, last] * 2
    joined = [tuple(np.concatenate(each) for each in zip(*batch, strict=True)) for batch in parts]
    _check_same_batches(joined, whole[place])


def test_last_batch_that_leaves_a_replica_without_any_is_left_out_for_all():
    batches = _shared(
        lambda share: pipeline.training_batches(_numbered(17), 8, 2, 1, Augmentation(), share), _PROCESSES["1 + 1"]
    )
    assert [[len(labels) for _, labels in batch] for batch in batches] == [[4, 4]] * 4


@pytest.mark.parametrize("processes", _PROCESSES.values(), ids=_PROCESSES)
def test_evaluation_is_shared_in_order_and_filled_up_with_the_last_image(processes, large):
    _, data = large
    num_replicas = processes[0].num_replicas
    batches = _shared(lambda share: pipeline.evaluation_batches(data, 7, share), processes)
    for batch, (start, end) in zip(batches, [(0, 7), (7, 9)], strict=True):
        each = -(-(end - start) // num_replicas)
        # Positions that are beyond the batch are its last image again.
        rows = np.minimum(np.arange(start, start + num_replicas * each), end - 1).reshape(num_replicas, each)
        np.testing.assert_array_equal(np.stack(batch), data.images[rows])


@pytest.mark.parametrize("mirrored", [False, True])
def test_evaluation_of_files_is_that_of_their_pixels(mirrored, tmp_path):
    images = _distinct(10, 4, 4, 3)
    data = LabelledImages(_mixed(tmp_path, images), np.zeros(10, int))
    batches = [batch.numpy() for batch in pipeline.evaluation_batches(data, 4, mirrored=mirrored)]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    expected = images[:, :, ::-1] if mirrored else images
    np.testing.assert_array_equal(np.concatenate(batches), expected)


# Two classes of 20 images each, whose bytes are counted by the system. What was read before is TensorFlow's own.
_COUNTING = textwrap.dedent("""
    import json, os, sys
    import numpy as np
    from mnemonics_tf.data import pipeline
    from mnemonics_tf.data.class_order import Protocol
    from mnemonics_tf.data.stream import ClassStream
    from mnemonics_tf.data.stored import StoredImages
    from mnemonics_tf.data.types import Dataset, LabelledImages

    folder, labels = sys.argv[1], np.repeat(np.arange(2), 20)
    files = [f"{folder}/{number}.png" for number in range(40)]
    sizes = np.array([os.path.getsize(file) for file in files])
    records = [f"{folder}/records0", f"{folder}/records1"]  # a file a class
    offsets = np.concatenate([np.cumsum(sizes[labels == label]) - sizes[labels == label] for label in (0, 1)])
    sets = {
        "files": StoredImages.of_files(files, 16),
        "records": StoredImages(tuple(records), labels, offsets, sizes, np.zeros(40, bool), (16, 16, 3), 16),
    }

    def bytes_read(work):
        def read():
            with open("/proc/self/io") as file:
                return int(file.readline().removeprefix("rchar:"))
        before = read()
        result = work()
        return read() - before, result

    def trained(data):
        augmentation = pipeline.Augmentation(0, True, True)
        return sum(len(own) for _, own in pipeline.training_batches(data, 8, 1, 0, augmentation))

    def evaluated(data):
        return sum(len(batch) for batch in pipeline.evaluation_batches(data, 8))

    counted = {}
    for name in ("files", "files", "records"):  # the first of which loads libraries, too
        data = LabelledImages(sets[name], labels)
        dataset = Dataset(name, data, data, ("hen", "owl"), True, 0)
        stream = ClassStream(dataset, Protocol(classes=(("owl",), ("hen",))))
        checking, phase = bytes_read(lambda: stream.phase(1))
        training, seen = bytes_read(lambda: trained(phase.train))
        testing, tested = bytes_read(lambda: evaluated(phase.train))
        assert seen == tested == len(phase.train) == 20
        counted[name] = {"checking": checking, "training": training, "testing": testing}
    print(json.dumps(counted))
""")


def test_phase_reads_the_bytes_of_its_own_classes_once_a_pass(tmp_path):
    contents = [png(image) for image in np.random.default_rng(0).integers(0, 256, (40, 180, 180, 3), np.uint8)]
    assert min(map(len, contents)) > 97_000  # 180 * 180 * 3 bytes of noise, which cannot be made smaller
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    for label in range(2):
        (tmp_path / f"records{label}").write_bytes(b"".join(contents[20 * label : 20 * label + 20]))
    command = [sys.executable, "-c", _COUNTING, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    own = sum(map(len, contents[:20]))
    for name, counts in json.loads(finished.stdout).items():
        for work, count in counts.items():
            assert own <= count <= 1.05 * own, (name, work)
