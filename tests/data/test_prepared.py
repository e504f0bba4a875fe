"""Data sets of TFDS: found or prepared, their splits, and the classes that a run keeps."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from birds import features, needs_cifar100, painted, store_pixels

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import sources
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.system import network


@pytest.fixture(autouse=True)
def _no_download(monkeypatch):
    """No test may reach for the network: whatever would be downloaded fails at once."""

    def fail(self, *args, **kwargs):
        raise ConnectionError("no route to host\nand a long tail")

    for name in ("download", "download_and_extract"):
        monkeypatch.setattr(tfds.download.DownloadManager, name, fail)
    monkeypatch.setattr(network, "any_answers", lambda urls, seconds: True)


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


def test_data_set_whose_host_does_not_answer_is_not_tried(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(network, "any_answers", lambda urls, seconds: asked.extend(urls))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: pytest.fail("downloading"))
    with pytest.raises(UsageError, match=r"no answer from its host within 4 s; is there a network\?.*TFDS_DATA_DIR"):
        sources.tfds_source("cifar100", data_dir=str(tmp_path))
    assert [url for url in asked if url.endswith(".tar.gz")]
    # What was downloaded before needs no host.
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/archive.tar.gz.INFO").write_text("{}")
    monkeypatch.setattr(network, "any_answers", lambda urls, seconds: pytest.fail("asked"))

    def fail(builder):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UsageError, match="no route to host"):
        sources.tfds_source("cifar100", data_dir=str(tmp_path))


def test_data_set_without_labels_is_refused(tmp_path):
    examples = [{"image": painted(2, 2, 1)}]
    features = {"image": tfds.features.Image(shape=(2, 2, 3))}
    store_pixels(tmp_path, "nameless_birds", {"train": examples, "test": examples}, features)
    with pytest.raises(UsageError, match="expected a data set with the features 'image' and 'label'"):
        sources.tfds_source("nameless_birds", data_dir=str(tmp_path))


def test_drawn_classes_are_those_of_the_sorted_names_and_keep_that_order(tmp_path):
    names = ("owl", "hen", "kea", "emu", "tit")
    train = [{"image": painted(2, 2, 10 * label + number), "label": label} for label in range(5) for number in (1, 2)]
    test = [{"image": painted(2, 2, 100 + label), "label": label} for label in (4, 3, 2, 1, 0)]
    store_pixels(tmp_path, "more_birds", {"train": train, "test": test}, features((2, 2, 3), names))
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
    examples = [{"image": painted(2, 2, label), "label": label} for label in range(3)]
    store_pixels(tmp_path, "few_birds", {"train": examples, "test": examples}, features((2, 2, 3)))
    data = sources.tfds_source("few_birds", data_dir=str(tmp_path), num_classes_drawn=3)
    assert data.class_names == ("hen", "kea", "owl")
    with pytest.raises(UsageError, match=r"tfds\.num_classes_drawn = 4: the data set has 3 classes\. Draw at most"):
        sources.tfds_source("few_birds", data_dir=str(tmp_path), num_classes_drawn=4)


def test_split_without_an_image_of_the_drawn_classes_is_refused(tmp_path):
    train = [{"image": painted(2, 2, label), "label": label} for label in range(3)]
    store_pixels(tmp_path, "lost_birds", {"train": train, "test": train[:1]}, features((2, 2, 3)))
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
                "image": painted(8 + i % 3, 8, shade.get(name, 255)),
                "label": wnids.index(name),
                "file_name": f"{i}.JPEG",
            }
            for i, name in enumerate(names)
        ]

    secret = [{**examples(published)[0], "label": -1}]
    splits = {"train": examples([other, *published[::-1]]), "validation": examples([*published, other]), "test": secret}
    store_pixels(tmp_path, "imagenet2012", splits, dict(imagenet_builder.info.features), str(imagenet_builder.version))
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
    jpegs = {wnid: tf.io.encode_jpeg(painted(9, 12, shade)).numpy() for wnid, shade in shades.items()}
    inner = {f"{wnid}.tar": _tar({f"{wnid}_{k}.JPEG": jpeg for k in range(2)}) for wnid, jpeg in jpegs.items()}
    (manual / "ILSVRC2012_img_train.tar").write_bytes(_tar(inner))
    # TFDS gives the first validation image, by name, the first label of its list, that of a sea snake (id 65).
    validation = {"ILSVRC2012_val_00000001.JPEG": tf.io.encode_jpeg(painted(9, 12, 120)).numpy()}
    (manual / "ILSVRC2012_img_val.tar").write_bytes(_tar(validation))
    data = sources.tfds_source("imagenet2012", str(tmp_path), 8, in_memory=False, resized_crop=True, resized_side=9)
    assert (data.name, data.image_shape, len(data.class_names)) == ("imagenet2012", (8, 8, 3), 1000)
    assert (data.resized_crop, data.crop_padding, data.decode_once) == (True, 0, False)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 999, 999]
    contents = [data.train.images.content(row) for row in range(6)]
    assert contents == [jpeg for jpeg in jpegs.values() for _ in range(2)]
    assert data.test.labels.tolist() == [65]
    np.testing.assert_array_equal(in_memory(data.test).array, painted(8, 8, 120)[None])
    assert (tmp_path / "class_shards" / "imagenet2012" / "5.1.0" / "validation" / "00065.tfrecord").is_file()
