"""Whole runs on two devices and by two workers against one device. Each is a process (or two) of its own.

The comparison of every loss of both levels is heavy. The suite has one without the exemplar level, killed and resumed.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, TINY_BINDINGS, tiny_arguments
from PIL import Image
from tiny_learner import bars

from mnemonics_tf import IncrementalLearner

# An epoch of the model level is one batch of all new images and exemplars, so epochs are steps; likewise meta-steps.
_BINDINGS = (
    "ModelLevel.epochs = 20",
    "ModelLevel.milestones = (15,)",
    # Rounding errors grow with every step, and faster the longer steps are.
    "ModelLevel.learning_rate = 0.02",
    "ModelLevel.batch_size = 1000",
    "ExemplarLevel.epochs = 20",
    "ExemplarLevel.steps_per_epoch = 1",
    # The other engines on two devices are tested by themselves, and take longer to trace.
    'ExemplarLevel.engine = "head"',
    "ExemplarLevel.learning_rate = 2.0",
    "ExemplarLevel.adjust_learning_rate = 2.0",
    "Probe.enabled = False",
)

# Neither teacher nor exemplar level: traced in seconds.
_QUICK = (
    "ModelLevel.learning_rate = 0.02",
    "ModelLevel.batch_size = 1000",
    "Experiment.method = @replay",
    'ExemplarMemory.strategy = "herding"',
    "ExemplarMemory.adjust = False",
    'ModelLevel.weight_transfer = "none"',
    "BalancedFinetune.enabled = False",
    "Probe.enabled = False",
)

_TWO_DEVICES = """
import functools, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from absl import app
from mnemonics_tf import main
from mnemonics_tf.system import screen
app.run(main.main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
"""


# Images from files are what comes first, as decoding them must not come before the workers have met.
_LEARNER = """
import sys
sys.path.insert(0, "tests/learner")
from tiny_learner import bars, tiny_learner
from mnemonics_tf import IncrementalLearner, UsageError
place = sys.argv[1]
learner = tiny_learner(image_size=8)
learner.learn(place + "/photos", progress=place + "/kept")
learner.save(place + "/kept")
learner = IncrementalLearner.load(place + "/kept")
learner.learn(*bars([3], 20))
try:
    learner.save(place + "/photos")
except UsageError as error:
    print("refused:", error)
learner.save(place + "/kept")
learner.export(place + "/model")
print("answers:", *learner.predict(bars([0, 1, 2, 3], 5, seed=1)[0]).names)
"""


def _start(arguments: list[str], program: tuple[str, ...] = ("-m", "mnemonics_tf.main"), **environment: str):
    """Starts a run; its output goes where `communicate` finds it."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _start_workers(
    arguments: list[str], program: tuple[str, ...] = ("-m", "mnemonics_tf.main")
) -> list[subprocess.Popen]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    configs = [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}) for index in range(2)
    ]
    return [_start(arguments, program, TF_CONFIG=config) for config in configs]


def _finish(process: subprocess.Popen, seconds: float = 400) -> str:
    output, _ = process.communicate(timeout=seconds)
    return output


def _scalars(run: Path) -> dict[str, list[float]]:
    """Every scalar of TensorBoard, by name, in the order of its steps. Of a step written twice the later counts."""
    values: dict[str, dict[int, tuple[float, float]]] = collections.defaultdict(dict)
    for file in sorted((run / "tensorboard").glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name != "scalars":
                    continue
                known = values[value.tag].get(event.step)
                if known is None or known[0] <= event.wall_time:
                    values[value.tag][event.step] = (event.wall_time, float(tf.make_ndarray(value.tensor)))
    return {tag: [steps[step][1] for step in sorted(steps)] for tag, steps in values.items()}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    process = _start(tiny_arguments(folder, *_BINDINGS))
    assert not (output := _finish(process), process.returncode)[1], output
    return folder


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two"
    process = _start(tiny_arguments(folder, *_BINDINGS), ("-c", _TWO_DEVICES))
    assert not (output := _finish(process), process.returncode)[1], output
    return folder


class _Resumed(NamedTuple):
    """A run of two workers of which the second was killed in phase 1, and which all were started again to finish."""

    folder: Path
    complaint: str  # what the first worker said when it lost the second
    seconds: float  # after how long
    code: int  # with what exit code
    outputs: list[str]  # what both said in the end


def _killed_and_resumed(folder: Path, bindings: tuple[str, ...]) -> _Resumed:
    first, second = _start_workers(tiny_arguments(folder, *bindings))
    deadline = time.monotonic() + 300
    while not (folder / "phases/000/COMPLETE").exists():
        assert [first.poll(), second.poll()] == [None, None], _finish(first) + _finish(second)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    complaint = _finish(first)
    seconds = time.monotonic() - killed
    _finish(second)
    assert not (folder / "phases/001").exists(), "the run was over before the worker was killed"
    mark = (folder / "phases/000/COMPLETE").stat().st_mtime_ns
    workers = _start_workers(tiny_arguments(folder, *bindings))
    outputs = [_finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
    assert (folder / "phases/000/COMPLETE").stat().st_mtime_ns == mark
    return _Resumed(folder, complaint, seconds, first.returncode, outputs)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> Path:
    return _killed_and_resumed(tmp_path_factory.mktemp("runs") / "two_workers", _BINDINGS).folder


@pytest.fixture(scope="module")
def resumed_workers(tmp_path_factory) -> _Resumed:
    return _killed_and_resumed(tmp_path_factory.mktemp("runs") / "workers", _QUICK)


@pytest.fixture(params=["two_devices", "two_workers"])
def distributed(request) -> Path:
    """A run on two replicas."""
    return request.getfixturevalue(request.param)


@pytest.mark.heavy
def test_losses_of_every_step_are_those_of_one_device(one_device, distributed):
    expected, found = _scalars(one_device), _scalars(distributed)
    for tag in ("phase_0/train_model/cross_entropy", "phase_0/learn_exemplars/meta_loss"):
        assert len(expected[tag]) == 20
        np.testing.assert_allclose(found[tag], expected[tag], rtol=0, atol=1e-4, err_msg=tag)
    # Phase 1 starts from networks that differ by the rounding of all that phase 0 has computed, which grows.
    later = [tag for tag in expected if tag.startswith("phase_1/") and tag.endswith(("_loss", "_entropy", "_forget"))]
    assert len(later) == 6
    for tag in later:
        np.testing.assert_allclose(np.mean(found[tag]), np.mean(expected[tag]), rtol=0.03, err_msg=tag)


@pytest.mark.heavy
def test_results_are_those_of_one_device(one_device, distributed):
    expected, found = (json.loads((run / "results.json").read_text()) for run in (one_device, distributed))
    for before, after in zip(expected["phases"], found["phases"], strict=True):
        for classifier, accuracy in before["accuracy"].items():
            assert abs(after["accuracy"][classifier] - accuracy) <= 1.0
    first, second = (np.load(run / "phases/000/exemplars.npz") for run in (one_device, distributed))
    np.testing.assert_array_equal(second["labels"], first["labels"])
    difference = np.abs(second["images"].astype(int) - first["images"])
    # A pixel in between two whole numbers may be rounded either way.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


@pytest.mark.heavy
def test_model_of_several_replicas_is_served_like_any_other(one_device, distributed):
    images = np.load(one_device / "phases/000/exemplars.npz")["images"]
    models = [tf.saved_model.load(str(run / "phases/000/saved_model")) for run in (one_device, distributed)]
    first, second = (model.serve(images)["probabilities"] for model in models)
    np.testing.assert_allclose(second, first, atol=1e-3)


@pytest.mark.heavy
def test_signal_to_one_worker_stops_all_of_them_at_the_same_step(tmp_path):
    often = (*_QUICK, "ModelLevel.batch_size = 100", "ModelLevel.epochs = 900", "Experiment.snapshot_seconds = 0.01")
    folder = tmp_path / "run"
    first, second = _start_workers(tiny_arguments(folder, *often))
    file = folder / "phases/000.snapshots/train_model_steps.npz"
    deadline = time.monotonic() + 300
    while not file.exists():
        assert [first.poll(), second.poll()] == [None, None], _finish(first) + _finish(second)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second.send_signal(signal.SIGTERM)
    outputs = [_finish(first), _finish(second)]
    assert [first.returncode, second.returncode] == [3, 3], outputs
    assert "stopped by another worker; what train_model_steps has come to is kept. Go on with: " in outputs[0]
    assert "stopped by SIGTERM; what train_model_steps has come to is kept. Go on with: " in outputs[1]
    step = _step_in(file)
    assert step % 10 == 0
    # Both go on from there; a signal to both stops them again.
    workers = _start_workers(tiny_arguments(folder, *often))
    while _step_in(file) == step:
        assert [each.poll() for each in workers] == [None, None], [_finish(each) for each in workers]
        time.sleep(0.05)
    for each in workers:
        each.send_signal(signal.SIGTERM)
    outputs = [_finish(each) for each in workers]
    assert [each.returncode for each in workers] == [3, 3], outputs
    assert _step_in(file) > step


def _step_in(file: Path) -> int:
    with np.load(file) as kept:
        return int(kept["step"])


def test_worker_that_is_killed_stops_the_others_with_a_clear_message(resumed_workers):
    assert resumed_workers.code == 1
    assert resumed_workers.seconds < 60
    complaint = resumed_workers.complaint
    last = complaint.strip().splitlines()[-1]
    assert last.startswith("mnemonics_tf: Worker 0 stops: another worker has ended or cannot be reached any more")
    assert "Start all workers again with the same command: the run goes on from the last snapshot." in last
    assert "Traceback" not in complaint


def test_resumed_workers_end_like_one_device(resumed_workers, call_main, tmp_path):
    code, shown = call_main(tiny_arguments(tmp_path / "run", *_QUICK))
    assert code == 0, shown
    runs = (tmp_path / "run", resumed_workers.folder)
    expected, found = (json.loads((run / "results.json").read_text()) for run in runs)
    for before, after in zip(expected["phases"], found["phases"], strict=True):
        for classifier, accuracy in before["accuracy"].items():
            assert abs(after["accuracy"][classifier] - accuracy) <= 1.0
    first, second = (np.load(run / "phases/001/exemplars.npz") for run in runs)
    np.testing.assert_array_equal(second["labels"], first["labels"])
    # Chosen by herding, on features of the same networks.
    np.testing.assert_array_equal(second["images"], first["images"])


def test_only_the_first_worker_writes_and_shows_results(resumed_workers):
    folder = resumed_workers.folder
    assert ["results" in output for output in resumed_workers.outputs] == [True, False]
    assert len(list((folder / "tensorboard").glob("events*"))) == 2  # of the first worker, one a phase
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "config.gin",
        "data.json",
        "phases",
        "results.json",
        "tensorboard",
    }


def test_learner_of_two_workers_is_written_by_the_first_alone(tmp_path):
    images, labels = bars([0, 1, 2], 20)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "photos" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    workers = _start_workers([str(tmp_path)], ("-c", _LEARNER))
    outputs = [_finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    told = [[line for line in output.splitlines() if line.startswith(("refused", "answers"))] for output in outputs]
    # Both know why it was not written, each in its own words, and have gone on.
    assert str(tmp_path / "photos") in told[0][0]
    assert told[1][0] == "refused: The first worker could not write what all of them share: its own output says why."
    assert told[0][1] == told[1][1]
    learner = IncrementalLearner.load(tmp_path / "kept")
    assert learner.class_names == ("0", "1", "2", "3")
    assert "answers: " + " ".join(learner.predict(bars([0, 1, 2, 3], 5, seed=1)[0]).names) == told[0][1]
    assert (tmp_path / "model/saved_model.pb").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "kept", "model"}


def test_worker_that_cannot_be_reached_is_named_and_nothing_is_written(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]
    config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}})
    process = _start(tiny_arguments(tmp_path / "run", "Devices.wait_for_workers = 1.0"), TF_CONFIG=config)
    output = _finish(process)
    assert process.returncode == 2
    (line,) = output.strip().splitlines()
    assert f"worker 1 ({addresses[1]}) cannot be reached" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.heavy
def test_statistics_of_two_workers_are_those_of_one_device(tmp_path, call_main):
    def arguments(folder: Path) -> list[str]:
        mnemonics = ("ExemplarMemory.", "ModelLevel.weight_transfer")
        bindings = [binding for binding in TINY_BINDINGS if not binding.startswith(mnemonics)]
        bindings += ["analytic.units = 50", "ModelLevel.learning_rate = 0.02", "ModelLevel.batch_size = 1000"]
        configs = [f"--gin_file={ROOT}/configs/{name}.gin" for name in ("methods/analytic", "datasets/digits")]
        return [*configs, *(f"--gin_param={binding}" for binding in bindings), f"--output_dir={folder}"]

    workers = _start_workers(arguments(tmp_path / "two"))
    outputs = [_finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
    code, shown = call_main(arguments(tmp_path / "one"))
    assert code == 0, shown
    for phase in ("000", "001"):
        one, two = (np.load(tmp_path / run / f"phases/{phase}/statistics.npz") for run in ("one", "two"))
        for name in one.files:
            scale = np.abs(one[name]).max()
            np.testing.assert_allclose(two[name], one[name], atol=1e-3 * scale, err_msg=name)
