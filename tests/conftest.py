"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The same arithmetic here, where TensorFlow is imported before the package, and in processes that tests start: bits are
# compared. oneDNN, which the package switches on, takes longer to compile than the tests' networks to compute.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# The job of a shell in the background ignores Ctrl-C, and so would every process that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

# A run of two phases that takes seconds: 5 digits, then the 5 others, on a network of one block.
TINY_BINDINGS = (
    "Protocol.num_phases = 1",
    "ResNet.blocks = (1,)",
    "ResNet.widths = (8,)",
    "ResNet.embedding_dim = 8",
    "ModelLevel.epochs = 2",
    "ModelLevel.milestones = (1,)",
    'ModelLevel.weight_transfer = "per_neuron"',
    'ExemplarMemory.initial = "random"',
    "ExemplarMemory.per_class = 4",
    "ExemplarLevel.epochs = 1",
    "ExemplarLevel.steps_per_epoch = 2",
    "ExemplarLevel.inner_steps = 2",
    "ExemplarLevel.learning_rate = 100.0",  # moves pixels by more than rounding in so few steps
    "ExemplarLevel.adjust_learning_rate = 100.0",
    "BalancedFinetune.epochs = 1",
    "Probe.repeats = 2",
    "Probe.epochs = 1",
    "Probe.scratch_epochs = 1",
)


def tiny_arguments(output_dir: Path, *bindings: str) -> list[str]:
    """Arguments of `mnemonics_tf.main` for the tiny run with further bindings."""
    return [
        f"--gin_file={ROOT / 'configs/lucir_digits.gin'}",
        *(f"--gin_param={binding}" for binding in (*TINY_BINDINGS, *bindings)),
        f"--output_dir={output_dir}",
    ]


def run_main(arguments: Sequence[str]) -> subprocess.CompletedProcess:
    """Runs `python -m mnemonics_tf.main` as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mnemonics_tf.main", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of whole runs come first, so that the last process of `launch/test.sh` does not end with a long one."""
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")


@pytest.fixture(autouse=True)
def no_scope_is_left_open():
    """Names the test that leaves a strategy's scope open, rather than all that come after it."""
    yield
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and hasattr(tensorflow, "distribute"):
        assert not tensorflow.distribute.has_strategy()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run. Read only."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    finished = run_main(tiny_arguments(folder))
    if finished.returncode:
        raise RuntimeError(f"The tiny run failed:\n{finished.stderr}")
    (folder.parent / "stdout.txt").write_text(finished.stdout)
    (folder.parent / "stderr.txt").write_text(finished.stderr)
    return folder


@pytest.fixture
def call_main(capsys: pytest.CaptureFixture) -> Callable[[Sequence[str]], tuple[int, str]]:
    """Calls `main` in this process: returns its exit code and what it wrote to standard error."""
    import gin
    from absl import flags
    from absl.testing import flagsaver

    from mnemonics_tf import main

    def call(arguments: Sequence[str]) -> tuple[int, str]:
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            rest = flags.FLAGS(["mnemonics_tf", *arguments])
            code = main.main(rest)
        gin.clear_config()
        return code, capsys.readouterr().err

    return call
