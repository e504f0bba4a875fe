"""Ctrl-C in a command's first moments, while it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

_CTRL_C = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
_LINE = "mnemonics_tf: stopped by Ctrl-C before anything was begun.\n"


def _interrupted(tmp_path, *command: str) -> tuple[int, str]:
    """Exit code and standard error of a process in which somebody presses Ctrl-C when it imports absl."""
    (tmp_path / "absl").mkdir()
    (tmp_path / "absl" / "__init__.py").write_text(_CTRL_C)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("module", ["main", "learn", "predict", "report"])
def test_commands_end_in_one_line(tmp_path, module):
    assert _interrupted(tmp_path, "-m", f"mnemonics_tf.{module}", "--help") == (130, _LINE)


def test_console_command_ends_in_one_line(tmp_path):
    script = tmp_path / "mnemonics-tf"
    script.write_text("from mnemonics_tf.commands import main\nmain()\n")
    assert _interrupted(tmp_path, str(script), "run") == (130, _LINE)


@pytest.mark.parametrize("command", [("-c", "import mnemonics_tf, absl"), ("-m", "theirs")])
def test_programs_that_import_the_package_keep_their_own_handler(tmp_path, command):
    (tmp_path / "theirs.py").write_text("import mnemonics_tf, absl\n")
    _, shown = _interrupted(tmp_path, *command)
    assert shown.splitlines()[-1] == "KeyboardInterrupt"
    assert _LINE not in shown
