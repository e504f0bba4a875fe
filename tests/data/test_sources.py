"""Where images come from."""

from __future__ import annotations

import io
import os
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import sources
from mnemonics_tf.data.decoding import centre_square, in_memory
from mnemonics_tf.stored import StoredImages

_CIFAR100_FOLDER = os.path.join(os.environ.get("TFDS_DATA_DIR", ""), "cifar100")
needs_cifar100 = pytest.mark.skipif(
    not os.path.isdir(_CIFAR100_FOLDER), reason="TFDS_DATA_DIR names no folder that holds cifar100"
)


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


def test_unknown_data_set_names_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="no such set") as raised:
        sources.tfds_source("cifar10O", data_dir=str(tmp_path))
    assert "'cifar10O'" in str(raised.value)
    assert "Did you mean 'cifar10'?" in str(raised.value)


def test_data_set_that_cannot_be_downloaded_says_how_to_get_it(tmp_path):
    with pytest.raises(UsageError) as raised:
        sources.tfds_source("cifar100", data_dir=str(tmp_path))
    text = str(raised.value)
    assert "(no route to host)" in text
    assert "tensorflow_datasets.load('cifar100')" in text
    assert "TFDS_DATA_DIR" in text


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
    with pytest.raises(UsageError, match=r"tfds\.resized_side = 31 with tfds\.image_size = 32: expected at least"):
        sources.tfds_source("cifar100", data_dir=str(tmp_path), image_size=32, resized_side=31)


def test_padding_beside_random_windows_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"tfds\.crop_padding = 4 with tfds\.resized_crop = True.* Leave crop_padding"):
        sources.tfds_source("cifar100", data_dir=str(tmp_path), resized_crop=True, crop_padding=4)


def _store(folder, name, splits, features, version="1.0.0"):
    """Prepares a data set for TFDS in `folder`. `splits` maps a split to its list of examples."""
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


def _features(shape, names=("hen", "owl", "kea")):
    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=list(names))}


def _painted(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_stored_data_set_is_read_as_it_is(tmp_path):
    generator = np.random.default_rng(0)
    train = [{"image": generator.integers(0, 256, (4, 5, 3), np.uint8), "label": label} for label in (2, 0, 1, 1, 2)]
    test = [{"image": generator.integers(0, 256, (4, 5, 3), np.uint8), "label": label} for label in (1, 0)]
    _store(tmp_path, "birds", {"train": train, "test": test}, _features((4, 5, 3)))
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
    _store(tmp_path, "many_birds", {"train": examples, "test": examples[:1]}, _features((1, 1, 3)))
    data = sources.tfds_source("many_birds", data_dir=str(tmp_path)).train
    numbers = data.images[:, 0, 0, 0].astype(int) * 250 + data.images[:, 0, 0, 1]
    np.testing.assert_array_equal(np.sort(numbers), np.arange(1100))
    np.testing.assert_array_equal(data.labels, numbers % 3)


def test_images_of_different_sizes_are_scaled_and_cropped_to_the_centre_square(tmp_path):
    # 8x4: left and right quarters 10 and 20, the middle 200. Scaled by 4/4, the centre 4x4 is the middle alone.
    wide = np.concatenate([_painted(4, 2, 10), _painted(4, 4, 200), _painted(4, 2, 20)], axis=1)
    # 12 rows of 6: the shorter side 6 becomes 4 and the longer 8; its centre rows 2..5 come from the middle rows 3..8.
    tall = np.concatenate([_painted(3, 6, 10), _painted(6, 6, 90), _painted(3, 6, 20)], axis=0)
    # 2x2 is enlarged.
    small = _painted(2, 2, 33)
    examples = [{"image": image, "label": label} for label, image in enumerate((wide, tall, small))]
    _store(tmp_path, "mixed_birds", {"train": examples, "validation": examples}, _features((None, None, 3)))
    data = sources.tfds_source("mixed_birds", data_dir=str(tmp_path), image_size=4)
    assert data.image_shape == (4, 4, 3)
    for part in (data.train, data.test):
        by_label = {int(label): image for image, label in zip(part.images, part.labels, strict=True)}
        np.testing.assert_array_equal(by_label[0], _painted(4, 4, 200))
        # Antialiasing mixes the border rows of the middle with their neighbours; the inner rows are its own.
        np.testing.assert_array_equal(by_label[1][1:3], _painted(2, 4, 90))
        np.testing.assert_array_equal(by_label[2], _painted(4, 4, 33))


def test_images_of_different_sizes_need_an_image_size(tmp_path):
    examples = [{"image": _painted(2, 3, 1), "label": 0}]
    _store(tmp_path, "unsized_birds", {"train": examples, "test": examples}, _features((None, None, 3)))
    with pytest.raises(UsageError, match=r"differ in size\. Set tfds\.image_size"):
        sources.tfds_source("unsized_birds", data_dir=str(tmp_path))


def test_data_set_without_test_images_is_refused_with_the_splits_it_has(tmp_path):
    _store(tmp_path, "train_birds", {"train": [{"image": _painted(2, 2, 1), "label": 0}]}, _features((2, 2, 3)))
    with pytest.raises(UsageError, match="expected the splits 'train' and 'test' or 'validation', found train"):
        sources.tfds_source("train_birds", data_dir=str(tmp_path))


def test_data_set_without_labels_is_refused(tmp_path):
    examples = [{"image": _painted(2, 2, 1)}]
    features = {"image": tfds.features.Image(shape=(2, 2, 3))}
    _store(tmp_path, "nameless_birds", {"train": examples, "test": examples}, features)
    with pytest.raises(UsageError, match="expected a data set with the features 'image' and 'label'"):
        sources.tfds_source("nameless_birds", data_dir=str(tmp_path))


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


def test_drawn_classes_are_those_of_the_sorted_names_and_keep_that_order(tmp_path):
    names = ("owl", "hen", "kea", "emu", "tit")
    train = [{"image": _painted(2, 2, 10 * label + number), "label": label} for label in range(5) for number in (1, 2)]
    test = [{"image": _painted(2, 2, 100 + label), "label": label} for label in (4, 3, 2, 1, 0)]
    _store(tmp_path, "more_birds", {"train": train, "test": test}, _features((2, 2, 3), names))
    data = sources.tfds_source("more_birds", data_dir=str(tmp_path), num_classes_drawn=3, draw_seed=0)
    # RandomState(0).permutation(5) is 2, 0, 1, 3, 4: of emu, hen, kea, owl, tit it draws kea, emu, hen.
    np.testing.assert_array_equal(np.random.RandomState(0).permutation(5)[:3], [2, 0, 1])
    assert data.class_names == ("emu", "hen", "kea")
    assert data.name == "more_birds_subset"
    assert data.train.labels.dtype == np.int64
    # emu, hen and kea have the stored labels 3, 1 and 2.
    shades = {
        int(image[0, 0, 0]): int(label) for image, label in zip(data.train.images, data.train.labels, strict=True)
    }
    assert shades == {31: 0, 32: 0, 11: 1, 12: 1, 21: 2, 22: 2}
    shades = {int(image[0, 0, 0]): int(label) for image, label in zip(data.test.images, data.test.labels, strict=True)}
    assert shades == {103: 0, 101: 1, 102: 2}


def test_all_classes_may_be_drawn_but_not_more(tmp_path):
    examples = [{"image": _painted(2, 2, label), "label": label} for label in range(3)]
    _store(tmp_path, "few_birds", {"train": examples, "test": examples}, _features((2, 2, 3)))
    data = sources.tfds_source("few_birds", data_dir=str(tmp_path), num_classes_drawn=3)
    assert data.class_names == ("hen", "kea", "owl")
    with pytest.raises(UsageError, match=r"tfds\.num_classes_drawn = 4: the data set has 3 classes\. Draw at most"):
        sources.tfds_source("few_birds", data_dir=str(tmp_path), num_classes_drawn=4)


def test_split_without_an_image_of_the_drawn_classes_is_refused(tmp_path):
    train = [{"image": _painted(2, 2, label), "label": label} for label in range(3)]
    _store(tmp_path, "lost_birds", {"train": train, "test": train[:1]}, _features((2, 2, 3)))
    # RandomState(0) draws hen, kea, owl in the order 2, 1, 0: owl alone is drawn, and only a hen is tested.
    assert np.random.RandomState(0).permutation(3)[0] == 2
    with pytest.raises(UsageError, match="no test image of the 1 classes asked for"):
        sources.tfds_source("lost_birds", data_dir=str(tmp_path), num_classes_drawn=1, draw_seed=0)


@needs_cifar100
def test_classes_drawn_from_cifar100_are_those_that_numpy_draws():
    data = sources.tfds_source("cifar100", num_classes_drawn=3)
    builder = tfds.builder("cifar100")
    names = sorted(builder.info.features["label"].names)
    np.random.seed(1993)  # as the published script has it
    drawn = sorted(np.random.choice(names, 3, replace=False).tolist())
    assert (data.name, data.class_names) == ("cifar100_subset", tuple(drawn))
    np.testing.assert_array_equal(np.bincount(data.train.labels), [500] * 3)
    everything = builder.as_dataset(split="test", batch_size=-1)
    labels = np.array(builder.info.features["label"].names)[everything["label"].numpy()]
    expected = np.isin(labels, drawn)
    np.testing.assert_array_equal(data.test.images, everything["image"].numpy()[expected])
    np.testing.assert_array_equal(np.array(drawn)[data.test.labels], labels[expected])


@pytest.fixture(scope="module")
def imagenet_builder(tmp_path_factory):
    """TFDS's ImageNet without any data. Making it reads a list of names that TFDS carries."""
    return tfds.builder("imagenet2012", data_dir=str(tmp_path_factory.mktemp("imagenet")))


def test_imagenets_names_are_its_sorted_wnids(imagenet_builder):
    names = imagenet_builder.info.features["label"].names
    assert len(names) == 1000
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("n01440764", "n15075141")  # tench and toilet tissue


def test_imagenet_subset_is_the_published_one_and_tested_on_validation_images(tmp_path, imagenet_builder):
    wnids = imagenet_builder.info.features["label"].names
    np.random.seed(1993)
    published = sorted(np.random.choice(wnids, 100, replace=False).tolist())
    shade = {name: number for number, name in enumerate(published)}
    other = next(name for name in wnids if name not in shade)

    def examples(names):
        # Of different sizes; a JPEG of one shade of grey is exact.
        return [
            {
                "image": _painted(8 + i % 3, 8, shade.get(name, 255)),
                "label": wnids.index(name),
                "file_name": f"{i}.JPEG",
            }
            for i, name in enumerate(names)
        ]

    secret = [{**examples(published)[0], "label": -1}]
    splits = {"train": examples([other, *published[::-1]]), "validation": examples([*published, other]), "test": secret}
    _store(tmp_path, "imagenet2012", splits, dict(imagenet_builder.info.features), str(imagenet_builder.version))
    data = sources.tfds_source("imagenet2012", data_dir=str(tmp_path), image_size=8, num_classes_drawn=100)
    assert data.name == "imagenet_subset"
    assert data.class_names == tuple(published)
    for part in (data.train, data.test):
        assert sorted(part.labels.tolist()) == list(range(100))
        np.testing.assert_array_equal(part.images, np.broadcast_to(part.labels[:, None, None, None], (100, 8, 8, 3)))
    assert data.pixel_range.mean == (0.485, 0.456, 0.406)
    assert data.pixel_range.std == (0.229, 0.224, 0.225)
    everything = sources.tfds_source("imagenet2012", data_dir=str(tmp_path), image_size=8)
    assert (everything.name, len(everything.class_names), len(everything.test)) == ("imagenet2012", 1000, 101)


@pytest.mark.parametrize("present", [None, "ILSVRC2012_img_val.tar", "something_else.tar"])
def test_imagenet_without_its_archives_says_where_to_put_them_and_prepares_nothing(tmp_path, monkeypatch, present):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: pytest.fail("prepared"))
    manual = tmp_path / "downloads" / "manual"
    if present:
        manual.mkdir(parents=True)
        (manual / present).touch()
    with pytest.raises(UsageError) as raised:
        sources.tfds_source("imagenet2012", data_dir=str(tmp_path), image_size=8, num_classes_drawn=100)
    expected = ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"]
    missing = " and ".join(name for name in expected if name != present)
    assert f"Put (or link) {missing} into {manual} and start again" in str(raised.value)
    assert "python -m mnemonics_tf.data.shards imagenet2012" in str(raised.value)
    assert not (tmp_path / "imagenet2012").exists()


def test_other_sets_that_need_files_from_the_user_say_so_before_anything_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: pytest.fail("prepared"))
    with pytest.raises(UsageError, match=r"Put what it needs into .*downloads/manual and start again") as raised:
        sources.tfds_source("resisc45", data_dir=str(tmp_path), image_size=8)
    assert " ".join(tfds.builder_cls("resisc45").MANUAL_DOWNLOAD_INSTRUCTIONS.split())[:60] in str(raised.value)


def _tar(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def test_imagenet_is_prepared_from_its_archives_and_sorted_by_class(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.utils.gcs_utils, "is_dataset_on_gcs", lambda name: False)  # asks the network
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    shades = {"n01440764": 20, "n01443537": 60, "n15075141": 90}  # ids 0, 1 and 999
    jpegs = {wnid: tf.io.encode_jpeg(_painted(9, 12, shade)).numpy() for wnid, shade in shades.items()}
    inner = {f"{wnid}.tar": _tar({f"{wnid}_{k}.JPEG": jpeg for k in range(2)}) for wnid, jpeg in jpegs.items()}
    (manual / "ILSVRC2012_img_train.tar").write_bytes(_tar(inner))
    # TFDS gives the first validation image, by name, the first label of its list, that of a sea snake (id 65).
    validation = {"ILSVRC2012_val_00000001.JPEG": tf.io.encode_jpeg(_painted(9, 12, 120)).numpy()}
    (manual / "ILSVRC2012_img_val.tar").write_bytes(_tar(validation))
    data = sources.tfds_source("imagenet2012", str(tmp_path), 8, in_memory=False, resized_crop=True, resized_side=9)
    assert (data.name, data.image_shape, len(data.class_names)) == ("imagenet2012", (8, 8, 3), 1000)
    assert (data.resized_crop, data.crop_padding, data.in_memory) == (True, 0, False)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 999, 999]
    contents = [data.train.images.content(row) for row in range(6)]
    assert contents == [jpeg for jpeg in jpegs.values() for _ in range(2)]
    assert data.test.labels.tolist() == [65]
    np.testing.assert_array_equal(in_memory(data.test).array, _painted(8, 8, 120)[None])
    assert (tmp_path / "class_shards" / "imagenet2012" / "5.1.0" / "validation" / "00065.tfrecord").is_file()


def _sized_birds(folder, channels=3):
    generator = np.random.default_rng(0)
    shapes = generator.integers(6, 14, (24, 2)).tolist()
    examples = [
        {"image": generator.integers(0, 256, (*shape, channels), np.uint8), "label": number % 3}
        for number, shape in enumerate(shapes)
    ]
    splits = {"train": examples[:15], "test": examples[15:]}
    _store(folder, "sized_birds", splits, _features((None, None, channels)))
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
    image = np.pad(_painted(4, 4, 200), [(2, 2), (2, 2), (0, 0)], constant_values=10)
    examples = [{"image": image, "label": 1}]
    _store(tmp_path, "framed_birds", {"train": examples, "test": examples}, _features((8, 8, 3)))
    data = sources.tfds_source("framed_birds", str(tmp_path), image_size=4, resized_side=8)
    np.testing.assert_array_equal(data.train.images, _painted(4, 4, 200)[None])
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
        patch.setattr(sources, "centre_square", lambda image, size, side: image[:1, :1])
        data = sources.tfds_source("sized_birds", str(tmp_path), image_size=5500, num_classes_drawn=1)
        assert isinstance(data.train.images, np.ndarray)
        assert isinstance(sources.tfds_source("sized_birds", str(tmp_path), image_size=5000).train.images, np.ndarray)


def test_images_that_stay_in_files_need_an_image_size(tmp_path):
    examples = [{"image": _painted(2, 3, 1), "label": 0}]
    _store(tmp_path, "even_birds", {"train": examples, "test": examples}, _features((2, 3, 3)))
    with pytest.raises(UsageError, match=r"tfds\.image_size = None: .* Set it, or set tfds\.in_memory = True"):
        sources.tfds_source("even_birds", str(tmp_path), in_memory=False)


def test_random_windows_go_without_padding(tmp_path):
    examples = [{"image": _painted(2, 3, 1), "label": 0}]
    _store(tmp_path, "window_birds", {"train": examples, "test": examples}, _features((2, 3, 3)))
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
    strip = np.concatenate([_painted(1, 24_998, 10), _painted(1, 4, 90), _painted(1, 24_998, 10)], axis=1)
    np.testing.assert_array_equal(centre_square(tf.constant(strip), 64), _painted(64, 64, 90))
