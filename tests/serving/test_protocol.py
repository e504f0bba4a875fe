"""A folder of versions is loaded and asked as TensorFlow Serving would, by a stand-in that has the server's rules."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from exported import NAMES, RESIZED, SIDE, Exported, shared
from pictures import encoded, waves

from mnemonics_tf.data import decoding
from mnemonics_tf.serving.versions import add_versions

predict_pb2 = pytest.importorskip(
    "tensorflow_serving.apis.predict_pb2", reason="tensorflow-serving-api is not installed."
)

_HERE = Path(__file__).resolve().parent
_PAGE = _HERE.parent.parent / "docs/how-to/serve.md"
# Importing our package or Keras would fail there.
_ALONE = """
import runpy, sys
sys.modules.update(mnemonics_tf=None, keras=None)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
_JPEG = encoded(waves(), "JPEG", 6)
_B64 = {"b64": base64.b64encode(_JPEG).decode()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Read only."""
    return shared(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The stand-in on two versions of a model and one half written, with the ports at which it listens."""
    root = tmp_path_factory.mktemp("models")
    folder = str(exported.folder)
    add_versions(str(root), "birds", {"earlier": folder, "later": folder}, str(root))
    (root / "birds/3.partial").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _ALONE, str(_HERE / "server.py"), str(root / "models.config")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    watch = threading.Timer(300, process.kill)
    watch.start()
    try:
        rest, grpc = (int(port) for port in process.stdout.readline().split() or pytest.fail(process.stderr.read()))
        yield SimpleNamespace(address=f"http://127.0.0.1:{rest}/v1/models/birds", grpc=grpc, rest=rest)
    finally:
        watch.cancel()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def expected(exported) -> np.ndarray:
    """Probabilities of the JPEG, by Keras."""
    return exported.probabilities(_square()[None])[0]


def _square() -> np.ndarray:
    return decoding.resizer(SIDE, RESIZED)(decoding.pixels(_JPEG)).numpy()


def _asked(address: str, request: dict | None = None) -> dict:
    body = None if request is None else json.dumps(request).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=300) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def test_server_takes_the_newest_version_and_tells_its_signatures(server):
    (version,) = _asked(server.address)["model_version_status"]
    assert (version["version"], version["state"]) == ("2", "AVAILABLE")
    told = _asked(f"{server.address}/metadata")
    assert told["model_spec"] == {"name": "birds", "version": "2"}
    signatures = told["metadata"]["signature_def"]["signature_def"]
    assert {name: set(each.get("inputs", {})) for name, each in signatures.items() if not name.startswith("__")} == {
        "serving_default": {"images"}, "serve": {"images"}, "serve_jpeg": {"image_bytes"}, "classes": set(),
        "names": {"columns"},
    }  # fmt: skip
    pixels, files = (signatures[name]["inputs"] for name in ("serving_default", "serve_jpeg"))
    assert pixels["images"]["dtype"] == "DT_UINT8"
    assert [each["size"] for each in pixels["images"]["tensor_shape"]["dim"]] == ["-1", "16", "16", "3"]
    assert files["image_bytes"]["dtype"] == "DT_STRING"
    assert [each["size"] for each in files["image_bytes"]["tensor_shape"]["dim"]] == ["-1"]


def test_requests_in_json_are_answered_row_by_row_or_column_by_column(server, expected):
    def predict(**request):
        return _asked(f"{server.address}:predict", request)

    first, second = predict(signature_name="serve_jpeg", instances=[_B64, {"b64": ""}])["predictions"]
    np.testing.assert_allclose(first["probabilities"], expected, atol=1e-5)
    assert (first["class_names"], first["errors"]) == (NAMES[expected.argmax()], "")
    assert (second["class_ids"], second["errors"]) == (-1, "the image is empty")
    (named,) = predict(signature_name="serve_jpeg", instances=[{"image_bytes": _B64}])["predictions"]
    columns = predict(signature_name="serve_jpeg", inputs={"image_bytes": [_B64]})["outputs"]
    assert named.keys() == first.keys()
    assert {name: values[0] for name, values in columns.items()} == named
    np.testing.assert_allclose(named["probabilities"], expected, atol=1e-5)
    (pixels,) = predict(instances=[_square().tolist()])["predictions"]
    np.testing.assert_allclose(pixels["probabilities"], expected, atol=1e-5)
    assert predict(signature_name="names", instances=[1, 7, -1])["predictions"] == [
        {"class_ids": 11, "class_names": NAMES[1]}, *[{"class_ids": -1, "class_names": ""}] * 2,
    ]  # fmt: skip
    # What the documentation of our signatures must not promise: a request without an input is none, in JSON.
    assert "Failed to get input map" in predict(signature_name="classes", inputs={})["error"]
    assert "not of expected type" in predict(instances=[(_square() / 255.0).tolist()])["error"]


def test_requests_by_grpc_are_answered(server, expected):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed.")
    from tensorflow import make_ndarray, make_tensor_proto
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "birds", "serve_jpeg"
        request.inputs["image_bytes"].CopyFrom(make_tensor_proto([_JPEG, b"no image"]))
        outputs = {name: make_ndarray(value) for name, value in stub.Predict(request, timeout=300).outputs.items()}
        np.testing.assert_allclose(outputs["probabilities"][0], expected, atol=1e-5)
        assert outputs["errors"].tolist() == [b"", b"no image: JPEG and PNG are read here"]
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name, asked.model_spec.signature_name = "birds", "classes"
        outputs = {name: make_ndarray(value) for name, value in stub.Predict(asked, timeout=300).outputs.items()}
        assert [name.decode() for name in outputs["class_names"]] == list(NAMES)
        assert outputs["class_ids"].tolist() == list(range(10, 17))


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="curl and bash are not installed.")
def test_curl_of_the_documentation_is_answered(server, tmp_path):
    (block,) = [each for each in re.findall(r"```bash\n(.*?)```", _PAGE.read_text(), re.DOTALL) if "curl" in each]
    commands = block.replace("\\\n", " ").replace("localhost:8501", f"127.0.0.1:{server.rest}")
    # As large as photographs are: longer than an argument of a command may be.
    (tmp_path / "photo.jpg").write_bytes(_JPEG + bytes(3_000_000))
    told = []
    for command in commands.splitlines():
        ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        told.append(json.loads(ended.stdout))
    photo, names, status = told
    assert photo["predictions"][0]["errors"] == ""
    assert [each["class_names"] for each in names["predictions"]] == list(NAMES[:3])
    assert status["model_version_status"][0]["version"] == "2"
