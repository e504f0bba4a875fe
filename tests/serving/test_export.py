"""Exported models answer for encoded images, and hold what TensorFlow Serving looks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exported import NAMES, RESIZED, SIDE, Exported, export, shared
from image_files import KINDS
from pictures import as_pillow_reads, damaged_jpeg, encoded, noise, waves
from PIL import Image

from mnemonics_tf.data import decoding, headers
from mnemonics_tf.serving.encoded import orientation
from mnemonics_tf.serving.versions import add_versions


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Read only."""
    return shared(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(exported):
    return tf.saved_model.load(str(exported.folder))


def _square(content: bytes) -> np.ndarray:
    """An image as `predict` reads it."""
    return decoding.resizer(SIDE, RESIZED)(decoding.pixels(content)).numpy()


_GOOD = {
    **{f"turned {turn}": encoded(waves(), "JPEG", turn) for turn in range(1, 9)},
    "png": encoded(noise(40, 24), "PNG"),
    "png turned 6": encoded(waves(), "PNG", 6),
    "progressive": encoded(noise(80, 80), "JPEG", progressive=True),
    "strip": encoded(noise(9, 300), "PNG"),
    "tiny": encoded(noise(2, 2), "JPEG"),
    "own size": encoded(noise(SIDE, SIDE), "PNG"),
    **{name: KINDS[name][0] for name in ("grey.jpeg", "print.jpg", "transparent.png", "deep.png", "deep_grey.png")},
}
_BAD = {
    b"": "the image is empty",
    b"no picture\n": "no image: JPEG and PNG are read here",
    encoded(waves(), "JPEG")[:300]: "a truncated or damaged JPEG file",
    b"\xff\xd8\xff": "a truncated or damaged JPEG file",
    encoded(noise(), "PNG")[:200]: "a truncated or damaged PNG file",
    b"\x89PNG": "a truncated or damaged PNG file",
    KINDS["a.gif"][0]: "the format is GIF: JPEG and PNG are read here",
    KINDS["a.bmp"][0]: "the format is BMP: JPEG and PNG are read here",
    KINDS["a.webp"][0]: "the format is WebP: JPEG and PNG are read here",
    # A head that claims 40,000 x 40,000 pixels, more than anyone should try to decode.
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (40_000).to_bytes(4, "big") * 2: (
        f"1600000000 pixels are more than the {headers.MOST_PIXELS} that are decoded"
    ),
}


def test_images_of_mixed_sizes_are_answered_as_keras_answers_and_bad_ones_are_named(exported, model):
    # Good and bad ones in turns; in one batch, and those of a few, which are read one after the other.
    contents, squares, reasons = [], [], []
    bad = list(_BAD.items())
    for place, content in enumerate(_GOOD.values()):
        broken, reason = bad[place % len(bad)]
        contents += [content, broken]
        squares += [_square(content), np.zeros((SIDE, SIDE, 3), np.uint8)]
        reasons += ["", reason]
    is_good = np.array([not reason for reason in reasons])
    expected = exported.probabilities(np.stack(squares))
    for some in (slice(None), slice(0, 4), slice(1, 2)):
        answer = model.signatures["serve_jpeg"](image_bytes=tf.constant(contents[some], tf.string))
        assert [error.decode() for error in answer["errors"].numpy()] == reasons[some]
        good, shown = is_good[some], answer["probabilities"].numpy()
        np.testing.assert_allclose(shown[good], expected[some][good], atol=1e-5)
        assert not shown[~good].any()
        best = expected[some].argsort(axis=1)[:, ::-1][:, :5]
        np.testing.assert_array_equal(answer["top_class_ids"], np.where(good[:, None], 10 + best, -1))
        names = np.where(good[:, None], np.array(NAMES, object)[best], "")
        assert [[name.decode() for name in row] for row in answer["top_class_names"].numpy()] == names.tolist()
        np.testing.assert_array_equal(answer["class_ids"], answer["top_class_ids"][:, 0])
        np.testing.assert_array_equal(answer["class_names"], answer["top_class_names"][:, 0])
        np.testing.assert_array_equal(answer["top_probabilities"], np.sort(shown, axis=1)[:, ::-1][:, :5])


def test_batch_of_no_image_has_no_answer(model):
    answer = model.serve_jpeg(tf.zeros([0], tf.string))
    shapes = {name: tuple(values.shape) for name, values in answer.items()}
    assert shapes == {
        "class_ids": (0,), "class_names": (0,), "probabilities": (0, 7), "errors": (0,),
        "top_class_ids": (0, 5), "top_class_names": (0, 5), "top_probabilities": (0, 5),
    }  # fmt: skip


def test_photograph_is_turned_as_its_camera_noted_in_either_byte_order():
    told = tf.function(orientation, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    little, big = b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"
    entries = {
        3: (little + b"\1\0" + b"\x12\1\3\0\1\0\0\0\3\0\0\0", big + b"\0\1" + b"\1\x12\0\3\0\0\0\1\0\3\0\0"),
        8: (little + b"\1\0" + b"\x12\1\4\0\1\0\0\0\x08\0\0\0", big + b"\0\1" + b"\1\x12\0\4\0\0\0\1\0\0\0\x08"),
        # No orientation; one that is none; another kind of number; nothing but the order; an entry that is cut off; a
        # place beyond the end.
        1: (
            little + b"\1\0" + b"\x13\1\3\0\1\0\0\0\3\0\0\0", big + b"\0\1" + b"\1\x12\0\3\0\0\0\1\0\x09\0\0",
            little + b"\1\0" + b"\x12\1\2\0\1\0\0\0\3\0\0\0", b"II", little + b"\2\0\x12\1\3\0\1\0",
            b"II*\0\xff\xff\xff\xff\1\0",
        ),
    }  # fmt: skip
    for expected, blocks in entries.items():
        for block in blocks:
            segment = b"Exif\0\0" + block
            head = b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + b"\xff\xda\0\2"
            assert (int(told(head)), headers.orientation(head)) == (expected, expected), block
    # The same letters elsewhere say nothing: here in a comment.
    comment = b"\xff\xd8\xff\xfe\0\x20Exif\0\0" + entries[3][0]
    assert (int(told(comment)), headers.orientation(comment)) == (1, 1)
    # Nor do they hide the camera's own note behind it.
    segment = b"Exif\0\0" + entries[3][0]
    head = b"\xff\xd8\xff\xfe\0\x0eExif\0\0hidden" + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    assert (int(told(head)), headers.orientation(head)) == (3, 3)


def test_orientation_gives_the_picture_that_pillow_shows(model, exported):
    # By Pillow, which knows nothing of TensorFlow: its resizing differs, so pictures that need none.
    picture = np.array(waves(RESIZED, RESIZED))
    for turn in (2, 5, 6, 8):
        content = encoded(Image.fromarray(picture), "PNG", turn)
        upright = as_pillow_reads(content)[2 : 2 + SIDE, 2 : 2 + SIDE]
        answer = model.serve_jpeg(tf.constant([content]))
        np.testing.assert_allclose(answer["probabilities"], exported.probabilities(upright[None]), atol=1e-5)


def test_what_a_graph_cannot_notice_is_answered_as_it_is_decoded(model, exported):
    content = damaged_jpeg()
    answer = model.serve_jpeg(tf.constant([content]))
    assert answer["errors"].numpy().tolist() == [b""]
    np.testing.assert_allclose(answer["probabilities"], exported.probabilities(_square(content)[None]), atol=1e-5)


@pytest.mark.heavy
def test_grey_images_are_served_from_files_and_images_of_two_channels_are_not(tmp_path):
    grey = export(tmp_path / "grey", channels=1)
    shade = np.full((30, 30), 90, np.uint8)
    model = tf.saved_model.load(str(grey.folder))
    answer = model.serve_jpeg(tf.constant([encoded(Image.fromarray(shade), "PNG")]))
    expected = grey.probabilities(np.full((1, SIDE, SIDE, 1), 90, np.uint8))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    # libjpeg makes no grey of it.
    answer = model.serve_jpeg(tf.constant([KINDS["print.jpg"][0], encoded(Image.fromarray(shade), "JPEG")]))
    assert answer["errors"].numpy().tolist() == [b"a CMYK file where images have 1 channel", b""]
    two = tf.saved_model.load(str(export(tmp_path / "two", channels=2).folder))
    assert set(two.signatures) == {"serve", "serving_default", "classes", "names"}


def test_server_finds_requests_to_warm_up_by(exported, model):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="tensorflow-serving-api is missing")
    path = Path(exported.folder) / "assets.extra/tf_serving_warmup_requests"
    logs = [apis.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    asked = [log.predict_log.request for log in logs]
    assert [request.model_spec.signature_name for request in asked] == ["serve", "serve_jpeg"]
    for request in asked:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        answer = model.signatures[request.model_spec.signature_name](**inputs)
        assert answer["probabilities"].shape == (1, 7)
        assert not any(answer.get("errors", tf.constant([b""])).numpy())


def test_version_answers_as_the_model_does_and_takes_no_room(exported, tmp_path):
    (version,) = add_versions(str(tmp_path / "models"), "birds", {"its weights": str(exported.folder)}, "/models")
    assert version == str(tmp_path / "models/birds/1")
    images = np.zeros((1, 16, 16, 3), np.uint8)
    served = tf.saved_model.load(version).signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(served["probabilities"], exported.probabilities(images), atol=1e-5)
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/tf_serving_warmup_requests"):
        assert (Path(version) / name).samefile(exported.folder / name)
    assert not list(Path(version).parent.glob("*partial"))
