"""The data of a run, as a report finds them again, and what it makes of images that the run has passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from birds import EXAMPLES, NAMES
from birds import store as store_birds
from image_files import store
from run_folders import write_run

from mnemonics_tf.data.sources import TFDS
from mnemonics_tf.report.page.blocks import MissingError
from mnemonics_tf.report.page.data import dataset_of
from mnemonics_tf.report.page.embedding import confusion_by_network, embed
from mnemonics_tf.report.page.record import Record, read_record

_SIDE = 4


class _Network(tf.Module):
    """Sees the shade of an image, and takes it for that class id."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None, _SIDE, _SIDE, 3], tf.uint8)])
    def serve(self, images):
        shades = tf.cast(images[:, 0, 0, 0], tf.int64)
        return {"class_ids": shades // 50, "embeddings": self.weight * tf.cast(images[:, 0, 0] + 1, tf.float32)}


def _run_on(source: str, folder: Path, settings: dict, **options) -> Path:
    settings = {f"{source}.{name}": value for name, value in settings.items()}
    run = write_run(folder, settings=settings, **options)
    with (run / "config.gin").open("a") as config:
        config.write(f"Experiment.dataset = @{source}\n")
    return run


def _record(folder: Path, photos: str) -> Record:
    run = _run_on("folder", folder, {"path": photos, "image_size": _SIDE}, phase_sizes=[2, 1])
    for phase, known in enumerate((2, 3)):
        path = run / f"phases/{phase:03d}"
        path.mkdir(parents=True)
        shades = np.arange(known, dtype=np.uint8)[:, None, None, None] * 50
        np.savez(path / "exemplars.npz", images=np.tile(shades, (1, _SIDE, _SIDE, 3)), labels=np.arange(known))
        tf.saved_model.save(_Network(), str(path / "saved_model"))
    return read_record(str(run))


@pytest.fixture
def photos(tmp_path) -> str:
    """A folder of three classes of six images; one of the first class and a test image of the second are damaged."""
    files = {f"{split}/{name}/{i}.png": shade for split, name, i, shade in _photos()}
    damaged = b"\x89PNG\r\n\x1a\n and then nothing"
    return store(tmp_path / "photos", {**files, "train/a/3.png": damaged, "test/b/1.png": damaged})


def _photos():
    for split, count in (("train", 6), ("test", 3)):
        for shade, name in zip((0, 50, 100), "abc", strict=True):
            yield from ((split, name, i, shade + i) for i in range(count))


def test_folder_is_found_and_damaged_images_are_passed_over(tmp_path, photos):
    record = _record(tmp_path / "run", photos)
    shown = embed(record, 1)
    assert shown.names == ("class 0", "class 1")
    np.testing.assert_array_equal(np.bincount(shown.data_owners), [5, 6])
    assert len(shown.data) == 11
    np.testing.assert_array_equal(confusion_by_network(record, 1), np.diag([3, 2, 3]))


def test_class_of_which_nothing_can_be_read_is_told(tmp_path, photos):
    for path in Path(photos, "train/b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(MissingError, match="no image that was drawn can be read"):
        embed(_record(tmp_path / "run", photos), 1)


def test_report_does_not_sort_images_by_class_but_uses_those_that_are_sorted(tmp_path):
    store_birds(tmp_path / "tfds", EXAMPLES)
    source = {"data_dir": str(tmp_path / "tfds"), "shards_dir": str(tmp_path / "shards"), "image_size": _SIDE}
    settings = {"name": "birds", "in_memory": False, **source}
    record = read_record(str(_run_on("tfds", tmp_path / "run", settings, dataset="birds", phase_sizes=[2, 2])))
    with pytest.raises(MissingError, match="does not have the images of all classes"):
        dataset_of(record)
    assert not (tmp_path / "shards").exists()
    TFDS(**settings).load()
    assert dataset_of(record).class_names == NAMES
