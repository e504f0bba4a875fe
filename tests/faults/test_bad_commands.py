"""Command lines that nobody should give: each is refused in a few lines, and leaves nothing behind.

`pytest -m heavy tests/faults` draws ten times as many as the suite does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from drawing import drawn
from hypothesis import strategies as st

_FLAGS = {
    "main": ("gin_file", "gin_param", "output_dir", "initial_phases_dir", "gin_import", "version"),
    "learn": ("method", "memory", "learn_exemplars", "backbone", "size", "flip", "held_out", "seed", "from_run",
              "epochs", "gin_import"),
    "predict": ("top",),
    "verify": (),
    "report": ("tables", "output_dir", "no_tsne"),
    "export": ("format", "name", "base_path", "copy"),
}  # fmt: skip
_MODULES = {**{name: f"mnemonics_tf.{name}" for name in _FLAGS}, "report": "mnemonics_tf.report.__main__"}

# What stands in the folder in which commands are called: none of it is a run, a learner, a model, or images.
_PLACES = ("missing", "empty", "file", "pipe", "loop", "junk", "/dev/null", "/proc/self/mem", "a" * 300, "no\0de", "")
_VALUES = st.one_of(
    st.sampled_from([
        *_PLACES, "-1", "0", "1e400", "nan", "9" * 400, "true", "@lucir", "None", "../..", "configs/methods/lucir.gin",
        "configs", "serving", "tflite", "lucir", "20", "2MB", "-3KB", "table1", "all", "\x1b[31mred", "żółw", "'",
    ]),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


@st.composite
def _lines(draw, command: str) -> list[str]:
    """Arguments for a command: flags, its own or of none, with any values, and places that hold something else."""
    names = st.sampled_from([*_FLAGS[command], "no_such_flag"])
    given_flags = draw(st.lists(st.tuples(names, _VALUES), max_size=3))
    found = [f"--{name}={value}" for name, value in given_flags]
    fewest = draw(st.sampled_from([0, 2]))  # two are what some commands need
    found += draw(st.lists(st.sampled_from(_PLACES), min_size=fewest, max_size=3))
    found += draw(st.lists(st.sampled_from(["--", "-", "--top", "--=", "--format", "-v"]), max_size=1))
    # No process can be given a zero byte.
    return [argument.replace("\0", "\\0").encode(errors="replace").decode() for argument in found]


def _strange_places(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(bytes(range(256)))
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    for name, content in (
        ("config.gin", b"\xff\xfe"),
        ("results.json", b"[" * 10_000),
        ("learner.json", b'{"state": "../../etc", "checksum": 0}'),
        ("saved_model.pb", b"\x08\x01\x12"),
        ("phases/000/COMPLETE", b"{}"),
        ("cat/1.png", b"no picture"),
    ):
        (folder / "junk" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "junk" / name).write_bytes(content)


def _content(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else "no file"
        for path in sorted(folder.rglob("*"))
    }


def _check(folder: Path, count: int) -> None:
    lines = [
        [_MODULES[command], *line]
        for seed, command in enumerate(_FLAGS)
        for line in drawn(_lines(command), count, seed)
    ]
    _strange_places(folder)
    before = _content(folder)
    called = subprocess.run(
        [sys.executable, str(ROOT / "tests/faults/call_commands.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=3_000,
    )
    assert called.returncode == 0, called.stderr[-3_000:]
    refused = set()
    for line, (code, told) in zip(lines, json.loads(called.stdout), strict=True):
        assert "Traceback" not in told, (line, told[-2_000:])
        # Nothing was asked for that could be done, but the version, and the paper's figures.
        assert code in (0, 1, 2), (line, code, told[-500:])
        if code == 2:
            refused.add(line[0])
            assert told.strip().count("\n") <= 3, (line, told)
    assert refused == set(_MODULES.values())
    assert _content(folder) == before


def test_bad_command_lines_are_refused_in_a_message(tmp_path):
    _check(tmp_path, 10)


@pytest.mark.heavy
def test_many_bad_command_lines_are_refused_in_a_message(tmp_path):
    _check(tmp_path, 100)
