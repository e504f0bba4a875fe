"""What users wait for before anything is learned: commands as they type them, in a terminal, with the clock running.

Nothing here imports TensorFlow: the commands do that by themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

import inputs
from harness.turns import NotHere, Turns

_PROJECT = Path(__file__).resolve().parents[3]
_MAIN = (sys.executable, "-m", "mnemonics_tf.main")

# A bar of the training that has made a step: `phase 1/6 train_model:  1%|  | 3/300 [00:07<...`.
_FIRST_STEP = re.compile(rb"train_model[^\r\n]*\| *[1-9]\d*/\d+ \[")
_LINES, _COLUMNS = 24, 120

# A whole run in a few seconds, besides tracing.
_SHORTEST = (
    "Protocol.num_phases = 1", "ModelLevel.epochs = 1", "ExemplarLevel.epochs = 1", "BalancedFinetune.epochs = 1",
    "Probe.enabled = False",
)  # fmt: skip


def show_help(start: Callable[[], Turns]) -> None:
    """`--help`, to its end."""
    start().serve(lambda: _finished([*_MAIN, "--help"]))


def first_step(start: Callable[[], Turns], configuration: str, bindings: tuple[str, ...] = ()) -> None:
    """A new run, to the moment at which its bar shows that the first training step is over.

    Args:
      start: tells that the process is ready.
      configuration: path of the gin file, seen from the project's folder.
      bindings: further ones.
    """
    start().serve(lambda: _first_step(configuration, bindings))


def first_step_of_cifar100(start: Callable[[], Turns]) -> None:
    """The same for the real CIFAR-100, where it is prepared for TensorFlow Datasets."""
    folder = os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    if not os.path.isdir(os.path.join(folder, "cifar100")):
        raise NotHere(f"CIFAR-100 is not prepared in {folder} (TFDS_DATA_DIR)")
    first_step(start, "configs/lucir_cifar100_short.gin")


def first_step_of_folder(start: Callable[[], Turns]) -> None:
    """The same for a folder of photographs, which are written beforehand."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        images = inputs.pixels(inputs.FOLDER_CLASSES * inputs.FOLDER_IMAGES_A_CLASS, 0, inputs.FOLDER_SIDE)
        for row, image in enumerate(images):
            of_class = Path(folder, f"class_{row % inputs.FOLDER_CLASSES}")
            of_class.mkdir(exist_ok=True)
            Image.fromarray(image).save(of_class / f"{row}.jpg", quality=90)
        first_step(start, "configs/lucir_folder.gin", (f"folder.path = {folder!r}",))


def show_finished(start: Callable[[], Turns]) -> None:
    """A run that is over, given again: it prints its result and does nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_run("configs/lucir_digits.gin", folder, _SHORTEST)]
        _finished(command)
        start().serve(lambda: _finished(command))


def refuse_absent(start: Callable[[], Turns]) -> None:
    """A data set that is not there, on a machine that reaches no other: refused, and not waited for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_offline(), *_run("configs/lucir_cifar100_short.gin", os.path.join(folder, "run"))]
        environment = {**os.environ, "TFDS_DATA_DIR": os.path.join(folder, "data")}
        for scheme in ("http", "https", "all"):
            environment[f"{scheme}_proxy"] = "http://127.0.0.1:9"  # where nobody listens
        start().serve(lambda: _finished(command, 2, environment))


def _run(configuration: str, folder: str, bindings: tuple[str, ...] = ()) -> list[str]:
    parameters = [f"--gin_param={binding}" for binding in bindings]
    return [*_MAIN, f"--gin_file={_PROJECT / configuration}", f"--output_dir={folder}", *parameters]


def _offline() -> list[str]:
    """What a command is begun with to have no network at all; nothing where only root may do that."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which(command[0]) and not subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        return command
    return []


def _finished(command: list[str], code: int = 0, environment: dict[str, str] | None = None):
    """Runs a command to its end, which must have this exit code: one that fails at once is not fast."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=_PROJECT, env=environment, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{command} ended with exit code {done.returncode}: {(done.stdout + done.stderr)[-500:]}")


def _first_step(configuration: str, bindings: tuple[str, ...]) -> None:
    """Runs a command in a terminal until its bar shows a step, and ends it."""
    with tempfile.TemporaryDirectory() as folder, _terminal() as (ours, theirs):
        command = _run(configuration, os.path.join(folder, "run"), bindings)
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=_PROJECT, start_new_session=True
        )
        os.close(theirs)
        shown = b""
        try:
            while not _FIRST_STEP.search(shown):
                try:
                    more = os.read(ours, 65536)
                except OSError:  # what Linux says where a terminal's other side is closed
                    more = b""
                if not more:
                    raise RuntimeError(f"{command} ended before its first step: {shown[-500:]!r}")
                shown += more
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def _terminal():
    """Both sides of a terminal that is wide enough for bars; who takes the second closes it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)
