"""What practitioners get: eight classes of sixty photographs, then two more, and a model that knows all ten."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

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
        [*command, "--epochs=5000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not process.stdout.readline().startswith("Learning them takes about "):
            assert process.poll() is None
        time.sleep(3)  # into the training
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 3
    *_, last = shown.splitlines()
    assert last.startswith("mnemonics_tf: stopped by Ctrl-C; what train_model_steps has come to is kept. Go on with: ")
    assert last.endswith(f" -m mnemonics_tf.learn {tmp_path / 'learner'} {photos} --size=16 --epochs=5000")
    assert "knows       2 classes" in _run("learn", tmp_path / "learner", photos, "--size=16", "--epochs=1")


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
    write(photos, NAMES[4:6], 12, height=36, width=48)
    # So that the run's own images of the last class cannot be told: its split is another now.
    write(photos, NAMES[3:4], 4, first=12, height=36, width=48)
    said = _run("learn", tmp_path / "learner", photos, f"--from_run={run}", "--epochs=2")
    assert "2 new classes ('fence', 'frame') and more images of 'disc', " in said
    assert "beside 36 images that were seen before" in said
    assert "knows       6 classes: " in said
    again = _run("learn", tmp_path / "learner", photos)
    assert again.startswith(f"Nothing is new in {photos}: 76 images that were seen before.")
