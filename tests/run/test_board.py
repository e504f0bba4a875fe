"""What TensorBoard gets of a phase, read back as TensorBoard would: figures, pictures, settings, and the projector."""

from __future__ import annotations

import io
import json
import shutil
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.projector import projector_config_pb2
from tensorboard.util import tensor_util

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation.classifiers import Predictions
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.run import board, pictures
from mnemonics_tf.system.tracking import Tracker

_NAMES = ("red/black", "größer 50%", "<b>")
_CONFIG = 'Experiment.seed = 3\nfolder.path = "a|b*c"'


def _result(phase: int, accuracy: float, initial: float) -> PhaseResult:
    return PhaseResult(phase, 2 + phase, {"cnn": accuracy}, {"cnn": initial}, {"cnn": [0.0] * (phase + 1)}, 4, {}, {})


def _exemplars(side: int = 8, shift: int = 0) -> LabelledImages:
    images = np.arange(6 * side * side, dtype=np.int64).reshape(6, side, side, 1) % 200 + shift
    return LabelledImages(images.astype(np.uint8), np.array([0, 0, 1, 1, 2, 2]))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    """TensorBoard's folder of two phases: classes 0 and 1, then class 2 as well."""
    folder = tmp_path_factory.mktemp("tensorboard")
    tracker = Tracker(str(folder))
    shown = board.Board(tracker, _CONFIG, {"method": "lucir", "seed": 3, "adjust": True}, _NAMES, (2, 1))
    results = []
    for phase, (labels, predicted) in enumerate((([0, 0, 1, 1], [0, 1, 1, 1]), ([0, 0, 1, 1, 2], [2, 0, 0, 0, 2]))):
        tracker.start_phase(phase, 2)
        if phase:
            shown.exemplars_changed("new", _exemplars(), _exemplars(shift=5))
        results.append(_result(phase, 75.0 - 25.0 * phase, 80.0 - 30.0 * phase))
        shown.phase(results, Predictions(np.array(labels), {"cnn": np.array(predicted)}))
        features = np.arange(18.0).reshape(6, 3) + phase
        shown.embeddings(phase, _exemplars(), lambda images, features=features: features)
        tracker.flush()
    return folder


@pytest.fixture(scope="module")
def events(written):
    read = EventAccumulator(str(written), {"tensors": 0})
    read.Reload()
    return {tag: read.Tensors(tag) for tag in read.Tags()["tensors"]}


def _curve(events, tag: str) -> list[tuple[int, float]]:
    return [(each.step, float(tensor_util.make_ndarray(each.tensor_proto))) for each in events[tag]]


def _picture(events, tag: str) -> np.ndarray:
    *_, last = events[tag]
    width, height, encoded = tensor_util.make_ndarray(last.tensor_proto)
    picture = np.asarray(Image.open(io.BytesIO(encoded)))
    assert picture.shape[:2] == (int(height), int(width))
    return picture


def test_figures_of_phases_are_curves(events):
    assert _curve(events, "run/accuracy/cnn") == [(0, 75.0), (1, 50.0)]
    assert _curve(events, "run/average_accuracy/cnn") == [(0, 75.0), (1, 62.5)]
    assert _curve(events, "run/forgetting/cnn") == [(0, 0.0), (1, 30.0)]
    # Of phase 1, class 2 is new: its one image is right; of the four others one is. In phase 0 all are new.
    assert _curve(events, "run/new_classes/cnn") == [(0, 75.0), (1, 100.0)]
    assert _curve(events, "run/old_classes/cnn") == [(1, 25.0)]
    assert _curve(events, "run/class_accuracy/cnn/red%2Fblack") == [(0, 50.0), (1, 50.0)]
    assert _curve(events, "run/class_accuracy/cnn/größer 50%25") == [(0, 100.0), (1, 0.0)]
    assert set(events) == {
        *(f"run/{name}/cnn" for name in ("accuracy", "average_accuracy", "forgetting", "new_classes", "old_classes")),
        *(f"run/class_accuracy/cnn/{board.tag_of(name)}" for name in _NAMES),
        *(f"exemplars/new/{moment}" for moment in ("before", "after", "difference")),
        "confusion/cnn", "config", "_hparams_/session_start_info",
    }  # fmt: skip


def test_settings_are_a_text_and_hparams(written, events):
    ((text,),) = [tensor_util.make_ndarray(each.tensor_proto).reshape(-1) for each in events["config"]]
    assert text.decode() == "\n".join(f"    {line}" for line in _CONFIG.splitlines())  # code, in Markdown
    read = EventAccumulator(str(written))
    read.Reload()
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = hparams_metadata.parse_session_start_info_plugin_data(content)
    assert start.group_name == ""  # so that TensorBoard names the trial by its folder
    told = start.hparams
    assert (told["method"].string_value, told["seed"].number_value, told["adjust"].bool_value) == ("lucir", 3.0, True)


def test_exemplars_are_enlarged_without_blur_beside_their_names(events):
    before, after = (_picture(events, f"exemplars/new/{moment}") for moment in ("before", "after"))
    assert before.shape == after.shape
    # Three rows of two digits of 8 x 8, eight times as large, at the right of the names.
    tiles = before[:, -2 * 66 :].reshape(3, 66, 2, 66, 3)[:, :64, :, :64].swapaxes(1, 2)
    expected = np.broadcast_to(_exemplars().array, (6, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    np.testing.assert_array_equal(tiles.reshape(6, 64, 64, 3), expected)
    margin = before[:, : -2 * 66]
    for row in range(3):
        assert (margin[66 * row : 66 * row + 66] < 128).any()  # a name
    # Every pixel has changed by 5 of 255, which is shown as 100: 128 + 100.
    assert (_picture(events, "exemplars/new/difference")[:, -2 * 66 :][:64, :64] == 228).all()


def test_large_images_are_reduced_and_of_many_some_are_shown():
    labels = np.repeat(np.arange(25), 12)
    picture = pictures.exemplar_grid(LabelledImages(np.zeros((300, 130, 130, 3), np.uint8), labels), ["x"] * 25)
    assert picture.shape[0] == 20 * 67  # every second pixel of 130, and a gap
    assert 10 * 67 < picture.shape[1] < 10 * 67 + 30


def test_confusions_are_dark_where_they_are_and_named(events):
    picture = _picture(events, "confusion/cnn")
    cell = 480 // 3
    squares = picture[-3 * cell :, -3 * cell :, 0][cell // 2 :: cell, cell // 2 :: cell]
    share = np.array([[0.5, 0, 0.5], [1, 0, 0], [0, 0, 1]])  # of phase 1, by hand
    np.testing.assert_array_equal(squares, np.rint(255 * (1 - np.sqrt(share))))
    assert (picture[-3 * cell :, : -3 * cell] < 128).any()
    assert (picture[: -3 * cell, -3 * cell :] < 128).any()
    # Letters of other alphabets have forms of their own.
    drawn = {pictures.confusion_image(np.eye(1, dtype=int), [letter]).tobytes() for letter in "ößжλ"}
    assert len(drawn) == 4
    # A thousand classes have no room for names.
    assert pictures.confusion_image(np.eye(1000, dtype=int), ["x"] * 1000).shape == (1000, 1000, 3)


def test_projector_finds_embeddings_names_and_thumbnails_of_each_phase(written):
    from google.protobuf import text_format

    config = text_format.Parse((written / "projector_config.pbtxt").read_text(), projector_config_pb2.ProjectorConfig())
    assert [each.tensor_name for each in config.embeddings] == ["exemplars, phase 0", "exemplars, phase 1"]
    for phase, each in enumerate(config.embeddings):
        found = np.loadtxt(written / each.tensor_path, delimiter="\t")
        np.testing.assert_array_equal(found, np.arange(18.0).reshape(6, 3) + phase)
        head, *rows = (written / each.metadata_path).read_text().splitlines()
        assert head == "class\tphase\texemplar"
        assert [row.split("\t")[:2] for row in rows[::2]] == [["red/black", "0"], ["größer 50%", "0"], ["<b>", "1"]]
        sprite = np.asarray(Image.open(written / each.sprite.image_path))
        assert list(each.sprite.single_image_dim) == [32, 32]
        assert sprite.shape == (96, 96, 3)  # 3 x 3 places for 6 thumbnails
        fifth = np.broadcast_to(_exemplars().array[4], (8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1)
        np.testing.assert_array_equal(sprite[32:64, 32:64], fifth)


def test_nothing_is_drawn_for_nobody(monkeypatch):
    monkeypatch.setattr(board, "exemplar_grid", None)  # calling it would fail
    silent = board.Board(Tracker(), _CONFIG, {}, _NAMES, (2, 1))
    silent.exemplars_changed("new", _exemplars(), _exemplars())
    silent.phase([_result(0, 1.0, 1.0)], None)
    # Embeddings are made all the same: other workers wait for this one's part.
    asked = []
    silent.embeddings(0, _exemplars(), lambda images: asked.append(len(images)))
    assert asked == [6]


def test_run_goes_on_without_the_projector_if_its_files_cannot_be_written(tmp_path, capsys):
    tracker = Tracker(str(tmp_path / "board"))
    tracker.start_phase(0, 1)
    (tmp_path / "board/projector").touch()
    board.Board(tracker, _CONFIG, {}, _NAMES, (2, 1)).embeddings(0, _exemplars(), lambda images: np.zeros((6, 3)))
    assert "the run goes on without TensorBoard" in capsys.readouterr().err
    assert not tracker.writes


@pytest.mark.heavy
def test_tensorboard_serves_what_was_written(written, tmp_path):
    from tensorboard import default, program

    for name in ("first", "second"):
        shutil.copytree(written, tmp_path / name / "tensorboard")
    server = program.TensorBoard(default.get_plugins())
    server.configure(["", "--logdir", str(tmp_path), "--port", "0", "--load_fast", "false"])
    address = f"{server.launch()}data/plugin/"

    def asked(place: str, body: dict | None = None, **query: str) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}{place}?{urllib.parse.urlencode(query)}", content, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    wanted = {"allowedStatuses": ["STATUS_UNKNOWN"], "colParams": [], "startIndex": 0, "sliceSize": 10}
    trials: list = []
    for _ in range(60):  # it reads files in a thread of its own
        trials = json.loads(asked("hparams/session_groups", wanted)).get("sessionGroups", [])
        if len(trials) == 2:
            break
        time.sleep(1)
    assert {each["name"] for each in trials} == {"first/tensorboard", "second/tensorboard"}
    assert all(each["hparams"] == {"method": "lucir", "seed": 3, "adjust": True} for each in trials)
    values = {each["name"]["tag"]: each["value"] for each in trials[0]["metricValues"]}
    assert (values["run/accuracy/cnn"], values["run/average_accuracy/cnn"]) == (50, 62.5)
    run = {"run": "second/tensorboard"}
    (_, last) = json.loads(asked("projector/info", **run))["embeddings"]
    assert last["tensorShape"] == [6, 3]
    found = np.frombuffer(asked("projector/tensor", name=last["tensorName"], **run), np.float32)
    np.testing.assert_array_equal(found, np.arange(18.0) + 1)
    assert asked("projector/metadata", name=last["tensorName"], **run).startswith(
        b"class\tphase\texemplar\nred/black\t"
    )
    assert asked("projector/sprite_image", name=last["tensorName"], **run).startswith(b"\x89PNG")
    assert set(json.loads(asked("text/tags"))["second/tensorboard"]) == {"config"}
    assert "confusion/cnn" in json.loads(asked("images/tags"))["second/tensorboard"]
