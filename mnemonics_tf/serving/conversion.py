"""Exported models in other forms: TensorFlow Lite for telephones and small devices, and ONNX for other runtimes.

Both take `images` uint8 on the scale 0..255 and tell `probabilities` and `embeddings`, as `serve` of the SavedModel
does; of TensorFlow Lite's one image at a time, `[1, H, W, C]`. Each is run before it counts as made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.serving.exported import ExportedModel

_CLOSE = 1e-4  # by how much probabilities in float32 may differ: 1e-5 is usual
_OPSET = 17  # of ONNX: what runtimes of the last years have
_OUTPUTS = ("probabilities", "embeddings")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A model in another form, and how it compares with what it was made of.

    Attributes:
      content: the file.
      num_images: on how many images the two were compared.
      largest_difference: of any probability.
      same_class: share of the images, in 0..1, of which both name the same class as the likeliest.
    """

    content: bytes
    num_images: int
    largest_difference: float
    same_class: float


def convert(exported: ExportedModel, kind: str, images: np.ndarray) -> Conversion:
    """Brings a model into another form, and compares the two.

    Args:
      exported: the model.
      kind: `tflite` (float32), `tflite_int8` (8-bit weights and activations) or `onnx` (float32).
      images: `[n, H, W, C]` uint8, n at least 1, to compare on. `tflite_int8` measures by them how far activations
        reach: they must be images such as the model will see.

    Raises:
      UsageError: the converter is not installed or does not take the model, or in float32 what it has made answers
        otherwise.
    """
    if kind == "onnx":
        content = _to_onnx(exported)
        with _explaining(kind):
            ask = _onnx_runner(content)
            found = ask(images)
    else:
        content = _to_tflite(exported, images if kind == "tflite_int8" else None)
        with _explaining(kind):
            ask = _tflite_runner(content)
            found = np.concatenate([ask(image[None]) for image in images])
    expected = exported.model.serve(tf.constant(images))["probabilities"].numpy()
    difference = float(np.abs(found - expected).max())
    same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if kind != "tflite_int8" and not difference <= _CLOSE:
        raise checks.UsageError(
            f"--format = {kind}: the converted model does not answer as the model does (probabilities differ by "
            f"{difference:.2g}). It is not written. Serve the SavedModel itself."
        )
    return Conversion(content, len(images), difference, same)


def _network(exported: ExportedModel, batch: int | None) -> tf.types.experimental.ConcreteFunction:
    """What images show, without names, which not all forms have."""

    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = exported.model.serve(images)
        return {name: answer[name] for name in _OUTPUTS}

    spec = tf.TensorSpec([batch, *exported.image_shape], tf.uint8, name="images")
    return tf.function(network, [spec], autograph=False)


def _to_tflite(exported: ExportedModel, images: np.ndarray | None) -> bytes:
    """A model of TensorFlow Lite, in 8 bits if there are images to measure activations by."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [_network(exported, 1).get_concrete_function()], exported.model
    )
    if images is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    with _explaining("tflite" if images is None else "tflite_int8"):
        return converter.convert()


def _tflite_runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities `[1, num_classes]` of one image `[1, H, W, C]`, by TensorFlow Lite's interpreter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is to move to another package
        run = tf.lite.Interpreter(model_content=content).get_signature_runner()
    return lambda image: run(images=image)["probabilities"]


def _to_onnx(exported: ExportedModel) -> bytes:
    """A model in ONNX, for batches of any size."""
    function = _network(exported, None)
    with _explaining("onnx"):
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=_OPSET)
    # The names of classes, which the function does not tell, would be asked for at every call.
    needed = [each for each in model.graph.input if each.name == "images"]
    del model.graph.input[:]
    model.graph.input.extend(needed)
    return model.SerializeToString()


def _onnx_runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities `[n, num_classes]` of images `[n, H, W, C]`, by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"images": images})[0]


@contextlib.contextmanager
def _explaining(kind: str) -> Iterator[None]:
    """Turns whatever a converter or a runtime raises into a UsageError: they know kinds of errors of their own."""
    try:
        yield
    except ImportError as error:
        raise checks.UsageError(
            f"--format = {kind} needs packages that are not there ({error.name}): pip install 'mnemonics_tf[export]'."
        ) from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise checks.UsageError(
            f"--format = {kind}: the converter does not take this model ({reason}). Serve the SavedModel itself."
        ) from error
