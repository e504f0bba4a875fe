"""`python -m mnemonics_tf.verify`: what it says of each file, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnemonics_tf import verify
from mnemonics_tf.system import complete, locks
from mnemonics_tf.verify import DAMAGED, NOTE, WHOLE

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A copy of a finished run of two phases."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def learner(tmp_path) -> Path:
    """A folder as learners are saved in, with a state of one file and what is left of an earlier one."""
    folder = tmp_path / "learner"
    for number in range(2):
        (folder / f"states/00000{number}").mkdir(parents=True)
        (folder / f"states/00000{number}/exemplars.npz").write_text("exemplars")
        complete.write_mark(str(folder / f"states/00000{number}"))
    card = {"format": 1, "state": "states/000001"}
    (folder / "learner.json").write_text(json.dumps({**card, "checksum": complete.checksum_of(card)}))
    return folder


def _said(folder: Path, state: str) -> dict[str, str]:
    return {verdict.path: verdict.why for verdict in verify.verdicts(str(folder)) if verdict.state == state}


def _code(*arguments: object) -> int:
    return verify.main(["verify", *map(str, arguments)])


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_each_file_of_a_whole_run_is_named(run, capsys):
    before = _tree(run)
    assert _code(run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"{run}: ")
    named = {line.split(maxsplit=1)[1] for line in lines[:-1] if line.startswith(WHOLE)}
    files = {os.path.relpath(path, run) for path in before}
    assert files - named == {name for name in files if name.startswith(("tensorboard", ".lock"))}
    assert _tree(run) == before


_EVERY = [
    "config.gin", "data.json", "results.json", "phases/000/COMPLETE", "phases/001/COMPLETE", "phases/000/metrics.json",
    "phases/001/exemplars.npz", "phases/001/checkpoint/model.weights.h5", "phases/000/saved_model/saved_model.pb",
]  # fmt: skip


@pytest.mark.parametrize("damage", [_flip, Path.unlink, lambda path: os.truncate(path, 5)], ids=["flip", "gone", "cut"])
def test_damage_to_any_file_is_told(run, damage):
    for name in _EVERY:
        before = (run / name).read_bytes()
        damage(run / name)
        assert name in _said(run, DAMAGED), name
        assert _code(run) == 1
        (run / name).write_bytes(before)
    assert _code(run) == 0


def test_whole_phases_in_the_wrong_place_are_told(run):
    shutil.rmtree(run / "phases/001")
    shutil.copytree(run / "phases/000", run / "phases/001")
    assert _said(run, DAMAGED)["phases/001"] == "it is phase 0"


def test_figures_that_are_not_those_of_the_phases_are_told(run):
    results = json.loads((run / "results.json").read_text())
    results["phases"][1]["accuracy"]["cnn"] = 99.0
    (run / "results.json").write_text(json.dumps(results))
    assert _said(run, DAMAGED) == {"results.json": "is damaged: its checksum is another"}
    del results["checksum"]  # earlier versions wrote none
    (run / "results.json").write_text(json.dumps(results))
    assert _said(run, DAMAGED) == {"results.json": "its figures of phase 1 are not those of the phase"}


def test_unfinished_state_is_told(run):
    snapshots = run / "phases/002.snapshots"
    snapshots.mkdir()
    np.savez(snapshots / "train_model.npz", weights=np.zeros(100))
    (run / "phases/002.partial").mkdir()
    (run / "phases/001/notes.txt").touch()
    (run / "set_aside/002").mkdir(parents=True)
    notes = _said(run, NOTE)
    assert {"phases/002.partial", "phases/001/notes.txt", "set_aside"} <= set(notes)
    assert _said(run, DAMAGED) == {}
    _flip(snapshots / "train_model.npz")
    (run / "phases/002").mkdir()
    assert _said(run, DAMAGED) == {
        "phases/002.snapshots/train_model.npz": "its step will begin anew",
        "phases/002/COMPLETE": "is missing",
    }


def test_run_that_has_just_begun_is_whole(tmp_path):
    (tmp_path / "config.gin").write_text("Experiment.seed = 1\n")
    (tmp_path / "phases").mkdir()
    assert _code(tmp_path) == 0


def test_process_that_works_in_the_folder_is_told(run):
    with locks.hold(str(run / ".lock")):
        assert "another process is working there" in _said(run, NOTE)[".lock"]
    assert ".lock" not in _said(run, NOTE)


def test_learner_is_told_file_by_file(learner, capsys):
    assert _said(learner, WHOLE) == dict.fromkeys(
        ("learner.json", "states/000001/COMPLETE", "states/000001/exemplars.npz"), ""
    )
    assert _said(learner, NOTE) == {"states/000000": "is not used any more"}
    assert _code(learner) == 0
    _flip(learner / "states/000001/exemplars.npz")
    assert _said(learner, DAMAGED) == {"states/000001/exemplars.npz": "was changed"}
    _flip(learner / "learner.json")
    assert "learner.json" in _said(learner, DAMAGED)
    capsys.readouterr()
    assert _code(learner) == 1
    assert capsys.readouterr().out.endswith("1 not. Put back a copy of the learner's folder.\n")


@pytest.mark.parametrize("state", ["../elsewhere", "/etc", "states", 7, None, "states/../.."])
def test_learner_whose_state_lies_elsewhere_is_damaged(learner, state):
    (learner / "learner.json").write_text(json.dumps({"format": 1, "state": state}))
    assert list(_said(learner, DAMAGED)) == ["learner.json"]


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, f'{{"a": {"9" * 5000}}}', "", "\0", '"text"']
)
def test_hostile_json_is_damage(run, learner, content):
    for path in (run / "phases/001/COMPLETE", run / "data.json", run / "results.json", learner / "learner.json"):
        before = path.read_bytes()
        path.write_text(content)
        assert _code(path.parents[2] if path.name == "COMPLETE" else path.parent) == 1
        path.write_bytes(before)


def test_pipes_and_devices_are_not_waited_for(run):
    for name in ("phases/001/metrics.json", "config.gin", "data.json"):
        (run / name).unlink()
        os.mkfifo(run / name)
    (run / "results.json").unlink()
    (run / "results.json").symlink_to("/dev/zero")
    assert set(_said(run, DAMAGED)) == {"phases/001/metrics.json", "config.gin", "data.json", "results.json"}


def test_misuse_is_one_line_and_exit_code_2(tmp_path, capsys):
    for arguments, message in (
        ([], "No folder was given"),
        ([tmp_path], "neither a run nor a learner"),
        ([tmp_path / "a\033[31m"], "no such folder"),
    ):
        assert _code(*arguments) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.count("\n") == 1
        assert "\033" not in shown


def test_folder_that_cannot_be_listed_is_one_line_and_exit_code_2(run, capsys, monkeypatch):
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("/phases"):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert _code(run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mnemonics_tf: {run}/phases cannot be listed: Permission denied.")


def test_command_needs_no_tensorflow(learner):
    script = (
        "import sys\nfrom mnemonics_tf import verify\n"
        f"code = verify.main(['verify', {str(learner)!r}])\n"
        "sys.exit(code or sum(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True).returncode == 0
