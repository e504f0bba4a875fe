"""Where images come from."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from birds import features, needs_cifar100, painted, store_pixels
from sklearn.datasets import load_digits

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import sources, tfds_arrays
from mnemonics_tf.data.decoding import centre_square, in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages


@pytest.fixture(autouse=True)
def _no_download(monkeypatch):
    """No test may reach for the network: whatever would be downloaded fails at once."""

    def fail(self, *args, **kwargs):
        raise ConnectionError("no route to host\nand a long tail")

    for name in ("download", "download_and_extract"):
        monkeypatch.setattr(tfds.download.DownloadManager, name, fail)


def _contents(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """Pixels and label of each image, sorted, to compare sets of images whatever their order."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_digits_are_split_into_all_of_scikit_learns_images():
    data = sources.digits()
    raw = load_digits()
    # Published as 0..16. The nearest byte to v * 255 / 16; at v = 8 that is 127.5, which goes to the even 128.
    byte_of = np.array([round(value * 255 / 16) for value in range(17)], np.uint8)
    assert (byte_of[0], byte_of[8], byte_of[16]) == (0, 128, 255)
    expected = byte_of[raw.images.astype(int)][..., None]
    everything = data.train.join(data.test)
    assert everything.images.dtype == np.uint8
    assert everything.images.shape == (1797, 8, 8, 1)
    assert _contents(everything.images, everything.labels) == _contents(expected, raw.target)


def test_digits_are_held_out_by_the_share_of_every_class():
    data = sources.digits(test_share=0.25)
    sizes = np.bincount(load_digits().target)
    np.testing.assert_array_equal(np.bincount(data.test.labels), [round(size / 4) for size in sizes])
    np.testing.assert_array_equal(np.bincount(data.train.labels), [size - round(size / 4) for size in sizes])


def test_digits_describe_themselves():
    data = sources.digits()
    assert data.name == "digits"
    assert data.image_shape == (8, 8, 1)
    assert data.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.train.labels.dtype == np.int64
    assert not data.horizontal_flip  # a mirrored 2 is no 2
    assert data.pixel_range is None  # taken from phase 0


def test_digits_split_follows_its_seed():
    np.testing.assert_array_equal(sources.digits(split_seed=3).test.images, sources.digits(split_seed=3).test.images)
    first, second = (sources.digits(split_seed=seed).test for seed in (0, 1))
    assert _contents(first.images, first.labels) != _contents(second.images, second.labels)


@pytest.mark.parametrize(
    "settings", [{"test_share": 1}, {"test_share": -0.1}, {"test_share": "a quarter"}, {"split_seed": -1}], ids=str
)
def test_impossible_digits_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"digits\.{name}"):
        sources.digits(**settings)


@pytest.mark.parametrize("name", [None, 100])
def test_name_of_the_data_set_must_be_given(name):
    with pytest.raises(UsageError, match=rf"tfds\.name = {name}: expected the name of a data set"):
        sources.tfds_source(name)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_size": 0},
        {"image_size": 2.5},
        {"resized_side": 0},
        {"resized_side": 4.0},
        {"resized_side": 40},
        {"crop_padding": -1},
        {"crop_padding": 1.5},
        {"resized_crop": 1},
        {"in_memory": "yes"},
        {"num_classes_drawn": 0},
        {"num_classes_drawn": 2.0},
        {"draw_seed": -1},
        {"draw_seed": 2**32},
    ],
    ids=str,
)
def test_impossible_tfds_settings_are_usage_errors_that_name_them(settings, tmp_path):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"tfds\.{name}"):
        sources.tfds_source("cifar100", data_dir=str(tmp_path), **settings)


def test_side_before_the_crop_is_at_least_the_size_of_the_crop(tmp_path):
    with pytest.raises(UsageError, match=r"tfds\.resized_side = 31: expected at least tfds\.image_size = 32"):
        sources.tfds_source("cifar100", data_dir=str(tmp_path), image_size=32, resized_side=31)


def test_padding_beside_random_windows_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"tfds\.crop_padding = 4 with tfds\.resized_crop = True.* Leave one of them out"
    ):
        sources.tfds_source("cifar100", data_dir=str(tmp_path), resized_crop=True, crop_padding=4)


def test_stored_data_set_is_read_as_it_is(tmp_path):
    generator = np.random.default_rng(0)
    train = [{"image": generator.integers(0, 256, (4, 5, 3), np.uint8), "label": label} for label in (2, 0, 1, 1, 2)]
    test = [{"image": generator.integers(0, 256, (4, 5, 3), np.uint8), "label": label} for label in (1, 0)]
    store_pixels(tmp_path, "birds", {"train": train, "test": test}, features((4, 5, 3)))
    data = sources.tfds_source("birds", data_dir=str(tmp_path), horizontal_flip=False, crop_padding=2)
    assert (data.name, data.image_shape, data.class_names) == ("birds", (4, 5, 3), ("hen", "owl", "kea"))
    assert (data.horizontal_flip, data.crop_padding, data.pixel_range) == (False, 2, None)
    for examples, part in ((train, data.train), (test, data.test)):
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int64
        expected = _contents([example["image"] for example in examples], [example["label"] for example in examples])
        assert _contents(part.images, part.labels) == expected


def test_images_keep_their_labels_over_several_batches(tmp_path):
    # Batches of 500; each image has a shade of its own, which tells its label.
    examples = [{"image": np.array([[[n // 250, n % 250, 7]]], np.uint8), "label": n % 3} for n in range(1100)]
    store_pixels(tmp_path, "many_birds", {"train": examples, "test": examples[:1]}, features((1, 1, 3)))
    data = sources.tfds_source("many_birds", data_dir=str(tmp_path)).train
    numbers = data.images[:, 0, 0, 0].astype(int) * 250 + data.images[:, 0, 0, 1]
    np.testing.assert_array_equal(np.sort(numbers), np.arange(1100))
    np.testing.assert_array_equal(data.labels, numbers % 3)


def test_images_of_different_sizes_are_scaled_and_cropped_to_the_centre_square(tmp_path):
    # 8x4: left and right quarters 10 and 20, the middle 200. Scaled by 4/4, the centre 4x4 is the middle alone.
    wide = np.concatenate([painted(4, 2, 10), painted(4, 4, 200), painted(4, 2, 20)], axis=1)
    # 12 rows of 6: the shorter side 6 becomes 4 and the longer 8; its centre rows 2..5 come from the middle rows 3..8.
    tall = np.concatenate([painted(3, 6, 10), painted(6, 6, 90), painted(3, 6, 20)], axis=0)
    # 2x2 is enlarged.
    small = painted(2, 2, 33)
    examples = [{"image": image, "label": label} for label, image in enumerate((wide, tall, small))]
    store_pixels(tmp_path, "mixed_birds", {"train": examples, "validation": examples}, features((None, None, 3)))
    data = sources.tfds_source("mixed_birds", data_dir=str(tmp_path), image_size=4)
    assert data.image_shape == (4, 4, 3)
    for part in (data.train, data.test):
        by_label = {int(label): image for image, label in zip(part.images, part.labels, strict=True)}
        np.testing.assert_array_equal(by_label[0], painted(4, 4, 200))
        # Antialiasing mixes the border rows of the middle with their neighbours; the inner rows are its own.
        np.testing.assert_array_equal(by_label[1][1:3], painted(2, 4, 90))
        np.testing.assert_array_equal(by_label[2], painted(4, 4, 33))


def test_images_of_different_sizes_need_an_image_size(tmp_path):
    examples = [{"image": painted(2, 3, 1), "label": 0}]
    store_pixels(tmp_path, "unsized_birds", {"train": examples, "test": examples}, features((None, None, 3)))
    with pytest.raises(UsageError, match=r"differ in size\. Set tfds\.image_size"):
        sources.tfds_source("unsized_birds", data_dir=str(tmp_path))


@needs_cifar100
def test_real_cifar100_is_complete_and_has_the_published_statistics():
    data = sources.tfds_source("cifar100")
    assert data.image_shape == (32, 32, 3)
    np.testing.assert_array_equal(np.bincount(data.train.labels), [500] * 100)
    np.testing.assert_array_equal(np.bincount(data.test.labels), [100] * 100)
    assert data.class_names[:3] == ("apple", "aquarium_fish", "baby")
    # The published means are those of all training pixels; the published deviations are means of each image's own.
    means, deviations = [], []
    for start in range(0, 50_000, 1000):
        pixels = data.train.images[start : start + 1000] / 255.0  # float64: sums of float32 are off by 2e-4
        means.append(pixels.mean(axis=(0, 1, 2)))
        deviations.append(pixels.std(axis=(1, 2)).mean(axis=0))
    np.testing.assert_allclose(data.pixel_range.mean, np.mean(means, axis=0), atol=2e-4)
    np.testing.assert_allclose(data.pixel_range.std, np.mean(deviations, axis=0), atol=2e-4)


def _sized_birds(folder, channels=3):
    generator = np.random.default_rng(0)
    shapes = generator.integers(6, 14, (24, 2)).tolist()
    examples = [
        {"image": generator.integers(0, 256, (*shape, channels), np.uint8), "label": number % 3}
        for number, shape in enumerate(shapes)
    ]
    splits = {"train": examples[:15], "test": examples[15:]}
    store_pixels(folder, "sized_birds", splits, features((None, None, channels)))
    return splits


@pytest.mark.parametrize(("drawn", "resized_side"), [(None, None), (2, 6)])
def test_images_in_files_are_those_that_are_held_in_memory(tmp_path, drawn, resized_side):
    _sized_birds(tmp_path)
    settings = {"image_size": 4, "resized_side": resized_side, "num_classes_drawn": drawn, "draw_seed": 0}
    held, stored = (
        sources.tfds_source("sized_birds", str(tmp_path), in_memory=here, shards_dir=str(tmp_path / "x"), **settings)
        for here in (True, False)
    )
    for field in ("name", "class_names", "image_shape", "crop_padding", "horizontal_flip", "resized_crop"):
        assert getattr(held, field) == getattr(stored, field)
    for part, rows in ((held.train, stored.train), (held.test, stored.test)):
        assert isinstance(part.images, np.ndarray)
        assert isinstance(rows.images, StoredImages)
        assert _contents(in_memory(rows).array, rows.labels) == _contents(part.images, part.labels)
    assert len(os.listdir(tmp_path / "x" / "sized_birds" / "1.0.0" / "test")) == (drawn or 3) + 2


def test_side_before_the_crop_decides_how_much_of_an_image_shows(tmp_path):
    # 8 x 8 with a frame of two pixels. Brought to a side of 8 and cut out at 4, the frame is gone.
    image = np.pad(painted(4, 4, 200), [(2, 2), (2, 2), (0, 0)], constant_values=10)
    examples = [{"image": image, "label": 1}]
    store_pixels(tmp_path, "framed_birds", {"train": examples, "test": examples}, features((8, 8, 3)))
    data = sources.tfds_source("framed_birds", str(tmp_path), image_size=4, resized_side=8)
    np.testing.assert_array_equal(data.train.images, painted(4, 4, 200)[None])
    whole = sources.tfds_source("framed_birds", str(tmp_path), image_size=4)
    assert whole.train.images[0, 0, 0, 0] < 100


def test_images_are_held_in_memory_unless_they_take_more_than_2_gb(tmp_path):
    _sized_birds(tmp_path)
    # 24 images of 5,000 x 5,000 x 3 bytes are 1.8 GB; of 5,500 x 5,500 2.2 GB. Of the latter no pixel is made.
    data = sources.tfds_source("sized_birds", str(tmp_path), image_size=5500)
    assert isinstance(data.train.images, StoredImages)
    assert data.train.images.shape == (15, 5500, 5500, 3)
    # A third of the classes takes a third.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tfds_arrays.Loader, "load", lambda *_: LabelledImages(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1))
        )
        data = sources.tfds_source("sized_birds", str(tmp_path), image_size=5500, num_classes_drawn=1)
        assert isinstance(data.train.images, np.ndarray)
        assert isinstance(sources.tfds_source("sized_birds", str(tmp_path), image_size=5000).train.images, np.ndarray)


def test_images_that_stay_in_files_need_an_image_size(tmp_path):
    examples = [{"image": painted(2, 3, 1), "label": 0}]
    store_pixels(tmp_path, "even_birds", {"train": examples, "test": examples}, features((2, 3, 3)))
    with pytest.raises(UsageError, match=r"tfds\.image_size = None: .* Set it, or set tfds\.in_memory = True"):
        sources.tfds_source("even_birds", str(tmp_path), in_memory=False)


def test_random_windows_go_without_padding(tmp_path):
    examples = [{"image": painted(2, 3, 1), "label": 0}]
    store_pixels(tmp_path, "window_birds", {"train": examples, "test": examples}, features((2, 3, 3)))
    plain = sources.tfds_source("window_birds", str(tmp_path))
    assert (plain.resized_crop, plain.crop_padding) == (False, 4)
    for padding in (None, 0):
        data = sources.tfds_source("window_birds", str(tmp_path), resized_crop=True, crop_padding=padding)
        assert (data.resized_crop, data.crop_padding) == (True, 0)


def test_grey_images_cannot_stay_in_files(tmp_path):
    _sized_birds(tmp_path, channels=1)
    with pytest.raises(UsageError, match=r"three channels of 8 bits .* Set tfds\.in_memory = True"):
        sources.tfds_source("sized_birds", str(tmp_path), image_size=4, in_memory=False)


def test_middle_of_a_long_strip_is_all_that_is_scaled():
    # 1 x 50,000 to a side of 64: scaled as a whole, 64 x 3,200,000 x 3 floats would be 2.5 GB.
    strip = np.concatenate([painted(1, 24_998, 10), painted(1, 4, 90), painted(1, 24_998, 10)], axis=1)
    np.testing.assert_array_equal(centre_square(tf.constant(strip), 64), painted(64, 64, 90))
