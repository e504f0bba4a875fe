"""The command that sorts images by class ahead of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from absl.testing import flagsaver
from birds import EXAMPLES, SPLITS, shard_files, store
from conftest import ROOT

from mnemonics_tf.data import class_files, shards


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Where TFDS keeps the birds. Read only."""
    folder = tmp_path_factory.mktemp("tfds")
    store(folder, EXAMPLES)
    return folder


@pytest.fixture
def builder(stored):
    return tfds.builder("birds", data_dir=stored)


@pytest.fixture
def call(capsys):
    """Calls the command in this process: returns its exit code, the lines of standard output, and standard error."""

    def called(*arguments):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            code = shards.main(flags.FLAGS(["mnemonics_tf.data.shards", *map(str, arguments)]))
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err

    return called


def test_command_builds_the_classes_that_a_run_draws(call, builder, stored, tmp_path):
    arguments = ("birds", f"--data_dir={stored}", f"--shards_dir={tmp_path}", "--num_classes_drawn=2", "--draw_seed=0")
    code, lines, errors = call(*arguments)
    assert (code, errors.count("\n")) == (0, 1)
    # RandomState(0).permutation(4) is 2, 3, 1, 0: of emu, hen, kea, owl (ids 3, 0, 2, 1) it draws kea and owl.
    np.testing.assert_array_equal(np.random.RandomState(0).permutation(4)[:2], [2, 3])
    folders = class_files.split_folders(builder, SPLITS, str(tmp_path))
    assert shard_files(folders[0]) == ["00001.tfrecord", "00002.tfrecord"]
    counts = [sum(label in (1, 2) for _, label in EXAMPLES[split]) for split in SPLITS]
    for line, count, folder in zip(lines, counts, folders, strict=True):
        assert line.startswith(f"{folder.split:<11} {count} images of 2 classes, 0.000 GB, in {folder.path}")
    assert call(*arguments) == (0, lines, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No NAME was given"),
        (("birds", "hens"), "Unexpected argument 'hens'"),
        (("birds", "--data_dir=/nowhere"), "there is no such folder"),
        (("birds", "--num_classes_drawn=0"), "tfds.num_classes_drawn = 0"),
        (("birds", "--num_classes_drawn=5"), "the data set has 4 classes"),
        (("birds", "--draw_seed=-1"), "tfds.draw_seed = -1"),
        (("cifar10O",), "Did you mean 'cifar10'?"),
    ],
    ids=str,
)
def test_mistake_is_one_line_and_exit_code_2(call, stored, tmp_path, arguments, message):
    code, lines, errors = call(f"--data_dir={stored}", f"--shards_dir={tmp_path}", *arguments)
    assert (code, lines) == (2, [])
    assert errors.startswith("mnemonics_tf: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_help_does_not_wait_for_tensorflow():
    program = "import runpy, sys; sys.argv = ['shards', '--help']\n"
    program += "try: runpy.run_module('mnemonics_tf.data.shards', run_name='__main__')\n"
    program += "except SystemExit: print('tensorflow' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "--shards_dir" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "False"
