"""Errors in docs/faq.md are what the commands beside them say, word by word."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import gin
import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import ROOT
from doc_pages import blocks

from mnemonics_tf.system import locks

_HOME = "/home/me"


def _examples() -> list[tuple[str, str]]:
    """Command and message of each example."""
    found = [block.removeprefix("$ ").split("\n", 1) for block in blocks(ROOT / "docs/faq.md", "console")]
    return [(command, message) for command, message in found]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with what the commands of the page find there."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "photos/january/heron").mkdir(parents=True)
    (folder / "photos/january/heron/1.jpg").write_bytes(b"never opened")
    (folder / "runs/first").mkdir(parents=True)
    (folder / "runs/first/config.gin").write_text("Experiment.seed = 0\n")
    (folder / "runs/busy").mkdir()
    (folder / "configs").symlink_to(ROOT / "configs")  # as in the project's folder, from which readers call
    with locks.hold(str(folder / "runs/busy/.lock")):
        yield folder


def _said(command: str) -> tuple[int, str]:
    """Exit code and standard error of `python -m MODULE ...`, run in this process."""
    _, _, module, *arguments = shlex.split(command)
    name = f"{module}.__main__" if module == "mnemonics_tf.report" else module
    main = importlib.import_module(name).main  # ahead of the saver, which would take its flags back
    stderr = io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr):
        flags.FLAGS.unparse_flags()
        code = main(flags.FLAGS(["mnemonics_tf", *arguments]))
    gin.clear_config()
    return code, stderr.getvalue()


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("command", "message"), _examples(), ids=[command for command, _ in _examples()])
def test_command_of_the_page_says_what_the_page_says(command, message, home, monkeypatch):
    monkeypatch.chdir(home)
    before = sorted(path.relative_to(home) for path in home.rglob("*"))
    code, said = _said(command)
    assert code == (4 if "/busy" in command else 2)
    said = said.replace(str(home), _HOME)
    if "undo the difference" in message:  # the run that is there has nothing but a seed: all else differs, too
        said = "\n".join([said.partition("\n")[0], *re.findall(r"^ *[-+]Experiment\.seed.*", said, re.MULTILINE)])
    assert _in_one_line(said) == _in_one_line(message)
    assert sorted(path.relative_to(home) for path in home.rglob("*")) == before


def test_there_are_examples_of_each_command():
    modules = {shlex.split(command)[2] for command, _ in _examples()}
    assert modules == {f"mnemonics_tf.{name}" for name in ("main", "learn", "predict", "report")}
    assert len(_examples()) > 20


def test_log_of_exemplars_that_did_not_move_is_quoted_as_it_is():
    import numpy as np

    from mnemonics_tf.data.types import LabelledImages
    from mnemonics_tf.memory.optimising.movement import movement_of, told

    same = LabelledImages(np.zeros((100, 2, 2, 1), np.uint8), np.zeros(100, np.int64))
    quoted = re.search(r"\"(learned exemplars have not moved: .*?)\"", Path(ROOT / "docs/faq.md").read_text())[1]
    assert told(movement_of(same, same, rounded=True), "learned", 100).startswith(_in_one_line(quoted))
