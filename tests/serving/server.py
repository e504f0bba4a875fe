"""What TensorFlow Serving does with models and requests, by its documented rules and with TensorFlow alone.

`python server.py models.config` loads what the list names and answers in JSON and by gRPC at free ports of this
machine, which it prints. Messages are those of tensorflow-serving-api. As the server does, it takes the newest version
of each model, loads it into a session by its tag, feeds and fetches tensors by the names in its signatures, and asks it
what lies in `tf_serving_warmup_requests`. Rules for JSON: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import concurrent.futures
import http.server
import json
import os
import re
import sys
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import json_format, text_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

_KINDS = {tf.uint8: int, tf.int64: int, tf.string: str}  # of values in JSON
_ADDRESS = re.compile(r"/v1/models/([^/:]+)(/metadata|:predict)?")


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """What the server answers in the place of a result."""


class Model:
    """The newest version of a model."""

    def __init__(self, name: str, base_path: str):
        numbers = {int(each): each for each in os.listdir(base_path) if re.fullmatch(r"\s*[+-]?\d+\s*", each)}
        self.name, self.version = name, max(numbers)
        folder = os.path.join(base_path, numbers[self.version])
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._graph = tf.compat.v1.saved_model.load(self._session, ["serve"], folder)
        for record in tf.data.TFRecordDataset(os.path.join(folder, "assets.extra/tf_serving_warmup_requests")):
            self.predict(prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request)

    def status(self) -> get_model_status_pb2.GetModelStatusResponse:
        states = get_model_status_pb2.ModelVersionStatus
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[states(version=self.version, state=states.AVAILABLE)]
        )

    def metadata(self) -> get_model_metadata_pb2.GetModelMetadataResponse:
        told = get_model_metadata_pb2.GetModelMetadataResponse()
        told.model_spec.name, told.model_spec.version.value = self.name, self.version
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self._graph.signature_def)
        told.metadata["signature_def"].Pack(signatures)
        return told

    def signature(self, name: str) -> Any:
        found = self._graph.signature_def.get(name or "serving_default")
        if found is None:
            raise Refused(f'Serving signature key "{name}" not found.')
        return found

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        signature = self.signature(request.model_spec.signature_name)
        if signature.method_name != "tensorflow/serving/predict":
            raise Refused(f"Expected prediction signature method_name. Was: {signature.method_name}")
        if set(request.inputs) != set(signature.inputs):
            raise Refused(f"input size does not match signature: {sorted(request.inputs)}")
        fed = {}
        for name, given in request.inputs.items():
            if given.dtype != signature.inputs[name].dtype:
                raise Refused(f"{name} has another type")
            fed[signature.inputs[name].name] = tf.make_ndarray(given)
        outputs = self._session.run({name: info.name for name, info in signature.outputs.items()}, fed)
        answer = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value, signature.outputs[name].dtype))
        return answer

    def predict_json(self, text: bytes) -> dict[str, Any]:
        given = json.loads(text)
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = given.get("signature_name", "")
        infos = self.signature(request.model_spec.signature_name).inputs
        if not infos:
            raise Refused("Failed to get input map for signature")
        if ("instances" in given) == ("inputs" in given):
            raise Refused("Expecting one of 'inputs' and 'instances'")
        columns = _columns_of_rows(given["instances"], infos) if "instances" in given else given["inputs"]
        if not isinstance(columns, dict) or set(columns) == {"b64"}:
            columns = {next(iter(infos)): columns}  # the name may be left out where there is one input
        for name, info in infos.items():
            request.inputs[name].CopyFrom(_tensor(columns[name], tf.as_dtype(info.dtype)))
        outputs = self.predict(request).outputs
        told = {name: _shown(tf.make_ndarray(value).tolist(), name) for name, value in outputs.items()}
        if "inputs" in given:
            return {"outputs": told if len(told) > 1 else next(iter(told.values()))}
        if len({len(values) for values in told.values()}) != 1:
            raise Refused("a tensor has inconsistent batch size")
        rows = [dict(zip(told, row, strict=True)) for row in zip(*told.values(), strict=True)]
        return {"predictions": rows if len(told) > 1 else [next(iter(row.values())) for row in rows]}


def _columns_of_rows(rows: list[Any], infos: Any) -> dict[str, list[Any]]:
    if not rows:
        raise Refused("No values in 'instances' array")
    if not isinstance(rows[0], dict) or set(rows[0]) == {"b64"}:
        rows = [{next(iter(infos)): each} for each in rows]
    if any(set(each) != set(infos) for each in rows):
        raise Refused("Failed to process element of 'instances' list: keys")
    return {name: [row[name] for row in rows] for name in infos}


def _tensor(value: Any, dtype: tf.DType) -> Any:
    """A list of lists whose inner ones are all of one length, as the first of them tell it."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    leaves = _leaves(value, shape, dtype)
    return tf.make_tensor_proto(leaves if shape else leaves[0], dtype, shape)


def _leaves(value: Any, shape: list[int], dtype: tf.DType) -> list[Any]:
    if isinstance(value, list):
        if not shape or len(value) != shape[0]:
            raise Refused("Encountered list at unexpected size")
        return [leaf for each in value for leaf in _leaves(each, shape[1:], dtype)]
    if shape:
        raise Refused("JSON Value found at incorrect level")
    if isinstance(value, dict) and dtype == tf.string and set(value) == {"b64"}:
        return [base64.b64decode(value["b64"], validate=True)]
    if type(value) is not _KINDS[dtype]:
        raise Refused(f"JSON Value is not of expected type: {dtype}")
    return [value]


def _shown(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_shown(each, name) for each in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode()
    return value


class Rest(http.server.BaseHTTPRequestHandler):
    """The addresses below /v1/models."""

    models: dict[str, Model]

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        found = _ADDRESS.fullmatch(self.path)
        try:
            if found is None or found[1] not in self.models or (found[2] == ":predict") != (self.command == "POST"):
                raise Refused(f"Malformed request: {self.command} {self.path}")
            model = self.models[found[1]]
            if found[2] == ":predict":
                code, told = 200, model.predict_json(body)
            else:
                message = model.metadata() if found[2] else model.status()
                code, told = 200, json_format.MessageToDict(message, preserving_proto_field_name=True)
        except (Refused, ValueError) as error:
            code, told = 400, {"error": str(error)}
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


class Grpc(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The same by gRPC."""

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        try:
            return Rest.models[request.model_spec.name].predict(request)
        except Refused as error:
            return context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        return Rest.models[request.model_spec.name].metadata()


def main(path: str) -> None:
    with open(path) as file:
        listed = text_format.Parse(file.read(), model_server_config_pb2.ModelServerConfig()).model_config_list.config
    Rest.models = {each.name: Model(each.name, each.base_path) for each in listed}
    grpc_server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Grpc(), grpc_server)
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    with http.server.HTTPServer(("127.0.0.1", 0), Rest) as rest:
        print(rest.server_port, grpc_port, flush=True)
        rest.serve_forever()


if __name__ == "__main__":
    main(sys.argv[-1])
