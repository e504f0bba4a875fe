"""What practitioners get: eight classes of sixty photographs, then two more, and a model that knows all ten."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from conftest import ROOT
from photographs import NAMES, write


def _run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", f"mnemonics_tf.{module}", *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.heavy
def test_two_commands_teach_ten_classes(tmp_path):
    learner = tmp_path / "learner"
    _run("learn", learner, write(tmp_path / "january", NAMES[:8], 60))
    shutil.rmtree(tmp_path / "january")
    said = _run("learn", learner, write(tmp_path / "march", NAMES[8:], 60))
    (accuracy,) = re.findall(r"accuracy +([0-9.]+) %", said)
    assert float(accuracy) > 80
    asked = sorted(write(tmp_path / "april", NAMES, 10, first=1000).glob("*/*.jpg"))
    answers = _run("predict", learner / "model", *asked, "--top=1").splitlines()
    right = [f"/{line.split(': ')[1].split(' ')[0]}/" in line for line in answers]
    assert len(right) == 100
    assert sum(right) > 80


@pytest.mark.heavy
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path):
    photos = write(tmp_path / "photos", NAMES[:2], 10, height=36, width=48)
    command = [sys.executable, "-m", "mnemonics_tf.learn", str(tmp_path / "learner"), str(photos), "--size=16"]
    with subprocess.Popen(
        [*command, "--epochs=50000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not process.stdout.readline().startswith("Learning them takes about "):
            assert process.poll() is None
        time.sleep(20)  # into the training, also on a slow machine, which traces its step first
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 3
    *_, last = shown.splitlines()
    assert last.startswith("mnemonics_tf: stopped by Ctrl-C; what train_model_steps has come to is kept. Go on with: ")
    assert last.endswith(f" -m mnemonics_tf.learn {tmp_path / 'learner'} {photos} --size=16 --epochs=50000")
    assert "knows       2 classes" in _run("learn", tmp_path / "learner", photos, "--size=16", "--epochs=1")


def _learner_in(folder: Path) -> dict[str, Any]:
    """All that a learner is, whatever the number of its state."""
    card = json.loads((folder / "learner.json").read_text())
    state = folder / card.pop("state")
    del card["checksum"]  # of the number, too
    weights: dict[str, Any] = {}
    with h5py.File(state / "network.weights.h5") as file:
        file.visititems(lambda name, each: weights.update({name: each[()].tobytes()} if hasattr(each, "shape") else {}))
    files = {name: (state / name).read_bytes() for name in ("exemplars.npz", "means.npy", "seen.npz")}
    return {"card": card, "weights": weights, **files}


@pytest.mark.heavy
def test_learn_that_is_killed_at_random_moments_ends_as_one_that_is_not(tmp_path):
    photos = write(tmp_path / "photos", NAMES[:2], 12, height=36, width=48)
    options = [str(photos), "--size=32", "--epochs=600", "--memory=4", "--learn_exemplars"]

    def start(name: str) -> subprocess.Popen:
        """The command, once it learns."""
        command = [sys.executable, "-m", "mnemonics_tf.learn", str(tmp_path / name), *options]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        while not process.stdout.readline().startswith("Learning them takes about "):
            assert process.poll() is None, process.stderr.read()
        return process

    with start("whole") as process:
        begun = time.monotonic()
        _, shown = process.communicate(timeout=3600)
    assert process.returncode == 0, shown
    taken = time.monotonic() - begun
    moments = [random.uniform(0, taken) for _ in range(3)]  # another time other ones
    ends = []
    for moment in moments:
        with start("killed") as process:
            time.sleep(moment)
            process.kill()
            process.communicate(timeout=60)
        ends.append(process.returncode)
        if not ends[-1]:  # it was done before
            break
    said = _run("learn", tmp_path / "killed", *options)
    context = f"killed {moments} s after it began to learn, which takes {taken} s; exit codes {ends}; then: {said}"
    whole, killed = (_learner_in(tmp_path / name) for name in ("whole", "killed"))
    assert len(whole["weights"]) > 20
    for part, expected in whole.items():
        assert killed[part] == expected, f"{part}: {context}"
    assert "2 classes: barred, checked" in _run("learn", tmp_path / "killed", *options)


@pytest.mark.heavy
def test_run_on_a_folder_goes_on_with_what_is_new_in_it(tmp_path):
    photos = write(tmp_path / "photos", NAMES[:4], 12, height=36, width=48)
    settings = (
        f'folder.path = "{photos}"',
        "folder.image_size = 16",
        "Protocol.num_phases = 1",
        "ResNet.blocks = (1,)",
        "ResNet.widths = (8,)",
        "ModelLevel.epochs = 2",
        "ModelLevel.milestones = (1,)",
        "ExemplarMemory.per_class = 4",
        "ExemplarLevel.epochs = 1",
        "ExemplarLevel.steps_per_epoch = 1",
        "ExemplarLevel.inner_steps = 2",
        "BalancedFinetune.epochs = 1",
        "Probe.enabled = False",
    )
    run = tmp_path / "run"
    command = [f"--gin_file={ROOT / 'configs/lucir_folder.gin'}", *(f"--gin_param={each}" for each in settings)]
    _run("main", *command, f"--output_dir={run}")
    said = _run("learn", tmp_path / "as_it_was", photos, f"--from_run={run}")
    assert said.startswith(f"Nothing is new in {photos}: 48 images that were seen before.")
    assert (tmp_path / "as_it_was/model/saved_model.pb").exists()
    write(photos, NAMES[4:6], 12, height=36, width=48)
    # So that the run's own images of the last class cannot be told: its split is another now.
    write(photos, NAMES[3:4], 4, first=12, height=36, width=48)
    said = _run("learn", tmp_path / "learner", photos, f"--from_run={run}", "--epochs=2")
    assert "2 new classes ('fence', 'frame') and more images of 'disc', " in said
    assert "beside 36 images that were seen before" in said
    assert "knows       6 classes: " in said
    again = _run("learn", tmp_path / "learner", photos)
    assert again.startswith(f"Nothing is new in {photos}: 76 images that were seen before.")


@pytest.mark.heavy
def test_pretrained_weights_of_a_keras_application(tmp_path):
    side = (32, 32, 3)
    model = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=side, pooling="avg")
    weights = tmp_path / "it.weights.h5"
    model.save_weights(weights)
    learner, flags = tmp_path / "learner", (f"--weights={weights}", "--size=32", "--epochs=1")
    said = _run("learn", learner, write(tmp_path / "first", NAMES[:2], 10), *flags)
    assert "Learning them takes about " in said
    assert "knows       2 classes" in said
    # The same file again is no contradiction; the learner goes on from what it has learned.
    said = _run("learn", learner, write(tmp_path / "then", NAMES[2:3], 10), *flags, "--backbone=MobileNetV2")
    assert "knows       3 classes" in said
    assert json.loads((learner / "learner.json").read_text())["network"]["name"] == "mobilenetv2"
