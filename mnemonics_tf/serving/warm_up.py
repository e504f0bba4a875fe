"""Requests that TensorFlow Serving runs when it loads a model, so that the first user does not wait for it.

The server reads them from `assets.extra/tf_serving_warmup_requests`: records of the message PredictionLog. Its
definition comes with the package tensorflow-serving-api, which a model's writer need not have: the few fields that a
request takes are written here, and a test reads them by that package.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import tensorflow as tf

_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")

# Numbers of fields, all of which are messages or strings.
_PREDICT_LOG, _REQUEST = 6, 1  # of PredictionLog, PredictLog
_MODEL_SPEC, _INPUTS = 1, 2  # of PredictRequest
_SIGNATURE_NAME = 3  # of ModelSpec
_KEY, _VALUE = 1, 2  # of an entry of a map


def write(folder: str, requests: Iterable[tuple[str, Mapping[str, tf.Tensor]]]) -> None:
    """Writes requests into the folder of a SavedModel.

    Args:
      folder: of the SavedModel.
      requests: the name of a signature and its inputs by name, of each request.
    """
    path = os.path.join(folder, _FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests:
            writer.write(_log(signature, inputs))


def _log(signature: str, inputs: Mapping[str, tf.Tensor]) -> bytes:
    """A PredictionLog with one request."""
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(_KEY, name.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """A field whose value is a string or message: its number and kind (2), its length in groups of 7 bits, then it."""
    length, groups = len(content), []
    while length > 0x7F:
        groups.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *groups, length]) + content
