"""Models of TensorFlow Lite and ONNX say what the Keras model says, and the command that makes them says how nearly."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from exported import NAMES, SIDE, Exported, shared

from mnemonics_tf import export
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import Pixels
from mnemonics_tf.memory.exemplar_file import save_exemplars

_IMAGES = np.random.default_rng(3).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


def _call(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        flags.FLAGS.unparse_flags()
        code = export.main(flags.FLAGS(["mnemonics_tf", *map(str, arguments)]))
    return code, stdout.getvalue(), stderr.getvalue()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Read only."""
    return shared(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def phase(exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a phase of a run has: a model, and exemplars beside it."""
    folder = tmp_path_factory.mktemp("phase")
    shutil.copytree(exported.folder, folder / "saved_model")
    slots = LabelledImages(_IMAGES, np.arange(len(_IMAGES)) % len(NAMES))
    save_exemplars(str(folder / "exemplars.npz"), slots, np.arange(len(NAMES)), Pixels())
    return folder


def _by_lite(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    assert (taken["dtype"], taken["shape"].tolist()) == (np.uint8, [1, SIDE, SIDE, 3])
    (told,) = [each for each in interpreter.get_output_details() if each["shape"].tolist() == [1, len(NAMES)]]
    found = []
    for image in _IMAGES:
        interpreter.set_tensor(taken["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(told["index"])[0].copy())
    return np.array(found)


def test_lite_in_float_is_the_keras_model(phase, exported, tmp_path):
    code, shown, _ = _call(phase / "saved_model", tmp_path / "birds.tflite", "--format=tflite")
    assert code == 0
    assert "compared    on 40 exemplars: " in shown
    assert "the likeliest class is the same of 100 %" in shown
    np.testing.assert_allclose(_by_lite(tmp_path / "birds.tflite"), exported.probabilities(_IMAGES), atol=1e-5)


def test_lite_in_eight_bits_is_near_it_and_smaller(phase, exported, tmp_path):
    code, shown, _ = _call(phase / "saved_model", tmp_path / "birds.tflite", "--format=tflite_int8")
    assert code == 0
    found, expected = _by_lite(tmp_path / "birds.tflite"), exported.probabilities(_IMAGES)
    difference = np.abs(found - expected).max()
    # Cosines in -1..1 have steps of about 1/100 in 8 bits, of which probabilities of about 1/7 show a part.
    assert 1e-5 < difference < 0.02
    # How often it is the same is not judged: an untrained network is hardly surer of one class than of another.
    same = np.mean(found.argmax(axis=1) == expected.argmax(axis=1))
    assert f"the likeliest class is the same of {100 * same:.0f} %" in shown


def test_onnx_is_the_keras_model(phase, exported, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'export' is missing")
    pytest.importorskip("tf2onnx", reason="the extra 'export' is missing")
    code, shown, _ = _call(exported.folder, tmp_path / "new/birds.onnx", "--format=onnx")
    assert (code, shown.count("16 images of noise")) == (0, 1)
    session = runtime.InferenceSession(str(tmp_path / "new/birds.onnx"), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["images"]
    assert {each.name for each in session.get_outputs()} == {"probabilities", "embeddings"}
    for images in (_IMAGES, _IMAGES[:1]):
        (found,) = session.run(["probabilities"], {"images": images})
        np.testing.assert_allclose(found, exported.probabilities(images), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{model}",), "Expected a model and where it is to go"),
        (("/no/such", "{new}/x.onnx", "--format=onnx"), "MODEL_DIR = /no/such: there is no such folder"),
        (("{model}", "{new}/x.tflite", "--format=tflite_int8"), "measures by exemplars"),
        (("{model}", "{new}/x.tflite", "--format=onnx"), "expected a name that ends in .onnx"),
        (("{model}", "{new}/x.onnx", "--format=onnx", "--copy"), "--copy is for --format=serving"),
        (("{model}", "{new}", "--name=a/b"), "--name = 'a/b': expected letters"),
        (("{model}", "{new}", "--name=models.config"), "the list of all models is called so"),
        (("{model}", "{model}"), "that is itself a model, learner or run"),
        (("{model}", "{file}/x"), "cannot be written to"),
        (("{model}", "{file}/x.onnx", "--format=onnx"), "cannot be written"),
    ],
)
def test_mistake_is_one_line(exported, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    names = {"model": exported.folder, "new": tmp_path / "new", "file": tmp_path / "file"}
    code, shown, told = _call(*(each.format(**names) for each in arguments))
    assert (code, shown) == (2, "")
    (line,) = told.splitlines()
    assert message in line
    assert not list(tmp_path.rglob("*.onnx"))


def test_missing_converter_is_named(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    code, _, told = _call(exported.folder, tmp_path / "x.onnx", "--format=onnx")
    assert code == 2
    assert "--format = onnx needs packages that are not there (tf2onnx): pip install 'mnemonics_tf[export]'" in told
