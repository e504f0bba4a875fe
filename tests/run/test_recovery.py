"""What an earlier process has left: which phases count, what is set aside, what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import types
from pathlib import Path

import pytest

from mnemonics_tf import __version__
from mnemonics_tf.checks import UsageError
from mnemonics_tf.results import PhaseResult, Results, phase_to_text, summarise
from mnemonics_tf.run import data_note, finished
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.recovery import check_room, recover

_CONFIG = "Experiment.seed = 1\n"
_DATA = {"class_names": ["hen", "owl", "kea"], "class_order": [2, 0, 1], "phase_sizes": [1, 1, 1]}


def _reached(phase: int) -> PhaseResult:
    accuracy = {"cnn": 90.0 - phase / 3}
    groups = {"cnn": [50.0] * (phase + 1)}
    return PhaseResult(phase, phase + 1, accuracy, accuracy, groups, 4, {}, {"train_model": 1.5})


def _results(count: int) -> Results:
    setup = {field.name: "none" for field in dataclasses.fields(Results)[1:16]}
    for name in ("num_phases", "phase_sizes", "class_order"):
        setup.pop(name, None)
    setup |= {"adjust_exemplars": False, "balanced_finetune": None, "distillation": True, "seed": 1, "order_seed": None}
    phases = [_reached(phase) for phase in range(count)]
    return summarise(phases, phase_sizes=[1, 1, 1], class_order=[2, 0, 1], **{**setup, "primary_classifier": "cnn"})


def _opened(folder: Path, config: str = _CONFIG, data: dict | None = None) -> RunDirectory:
    run = RunDirectory(str(folder))
    run.open(config)
    if data_note.read(run, {}) is None:
        data_note.write(run, data or _DATA)
    return run


def _learned(folder: Path, *, count: int = 3, **kwargs) -> RunDirectory:
    """A run with `count` phases."""
    run = _opened(folder, **kwargs)
    for phase in range(count):
        with run.writing_phase(phase) as place:
            Path(place, "exemplars.npz").write_text(f"exemplars {phase}")
            Path(place, "metrics.json").write_text(phase_to_text(_reached(phase)))
        run.write_results(_results(phase + 1))
    return run


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return _learned(tmp_path / "run")


def _phases(run: RunDirectory) -> list[int]:
    return [result.phase for result in recover(run, writes=True)]


def _flip(path: str | Path) -> None:
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


def _files(run: RunDirectory) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(Path(run.path).rglob("*")) if each.is_file()}


def test_whole_run_is_left_as_it_is(run, capsys):
    before = _files(run)
    assert recover(run, writes=True) == [_reached(phase) for phase in range(3)]
    assert _files(run) == before
    assert capsys.readouterr().err == ""


def test_each_mark_names_run_phase_data_code_and_the_mark_before(run):
    marks = [json.loads(Path(run.phase_dir(phase), "COMPLETE").read_text()) for phase in range(3)]
    assert [mark["phase"] for mark in marks] == [0, 1, 2]
    assert len({mark["run"] for mark in marks}) == 1
    noted = json.loads(Path(run.path, "data.json").read_text())
    assert {mark["data"] for mark in marks} == {noted["checksum"]}
    assert {(mark["version"], len(mark["code"])) for mark in marks} == {(__version__, 64)}
    before = [hashlib.sha256(Path(run.phase_dir(phase), "COMPLETE").read_bytes()).hexdigest() for phase in range(2)]
    assert [mark["before"] for mark in marks] == [None, *before]


@pytest.mark.parametrize("name", ["exemplars.npz", "metrics.json", "COMPLETE"])
@pytest.mark.parametrize("damage", [_flip, os.remove, lambda path: os.truncate(path, 3)], ids=["flip", "gone", "cut"])
def test_damaged_last_phase_is_set_aside(run, capsys, name, damage):
    damage(os.path.join(run.phase_dir(2), name))
    kept = {name: content for name, content in _files(run).items() if "phases/002" in name}
    assert _phases(run) == [0, 1]
    shown = capsys.readouterr().err.splitlines()
    place = os.path.join(run.path, "set_aside", "002")
    assert len(shown) == 1
    assert f"phases/002/{name}" in shown[0]
    assert place in shown[0]
    assert {each.replace("phases/002", "set_aside/002") for each in kept} == {
        each for each in _files(run) if "set_aside" in each
    }
    # A second one has a place of its own, and the phase can be learned again.
    with run.writing_phase(2) as folder:
        Path(folder, "metrics.json").write_text(phase_to_text(_reached(2)))
    assert _phases(run) == [0, 1, 2]
    damage(os.path.join(run.phase_dir(2), "metrics.json"))
    assert _phases(run) == [0, 1]
    assert sorted(os.listdir(os.path.join(run.path, "set_aside"))) == ["002", "002-1"]


def test_phases_behind_a_damaged_one_are_used(run, capsys):
    # Network and exemplars of phase 0 are needed by nobody any more.
    _flip(os.path.join(run.phase_dir(0), "exemplars.npz"))
    before = _files(run)
    assert recover(run, writes=True) == [_reached(phase) for phase in range(3)]
    assert "phases/000/exemplars.npz is missing or was damaged. Only the figures" in capsys.readouterr().err
    assert _files(run) == before


@pytest.mark.parametrize("name", ["metrics.json", "COMPLETE"])
def test_figures_are_proved_by_what_is_left(run, name):
    os.remove(os.path.join(run.phase_dir(0), name))
    assert recover(run, writes=True) == [_reached(phase) for phase in range(3)]
    assert os.path.isfile(os.path.join(run.phase_dir(2), "COMPLETE"))


def test_lost_figures_of_an_early_phase_are_told_and_nothing_is_overwritten(run):
    os.remove(os.path.join(run.phase_dir(0), "COMPLETE"))
    results = Path(run.results_file)
    results.write_text(results.read_text().replace("90.0", "91.0", 1))  # one of two copies is wrong; which?
    before = _files(run)
    with pytest.raises(UsageError, match=r"000/COMPLETE is missing .* while phase 2 is whole") as raised:
        recover(run, writes=True)
    assert "\n" not in str(raised.value)
    assert _files(run) == before


def test_process_that_only_reads_changes_nothing(run):
    _flip(os.path.join(run.phase_dir(2), "exemplars.npz"))
    before = _files(run)
    assert [result.phase for result in recover(run, writes=False)] == [0, 1]
    assert _files(run) == before


def _replace(run: RunDirectory, phase: int, source: str) -> str:
    shutil.rmtree(run.phase_dir(phase))
    shutil.copytree(source, run.phase_dir(phase))
    before = _files(run)
    with pytest.raises(UsageError) as raised:
        recover(run, writes=True)
    assert _files(run) == before
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_whole_phase_that_belongs_elsewhere_is_refused(run, tmp_path):
    assert _replace(run, 1, run.phase_dir(2)).startswith(f"{run.phase_dir(1)} holds phase 2.")
    other = _learned(tmp_path / "other")
    assert "a phase of another run than" in _replace(run, 1, other.phase_dir(1))
    configured = _learned(tmp_path / "configured", config="x.y = 3\n")
    assert "a phase of another configuration" in _replace(run, 1, configured.phase_dir(1))


def test_phases_of_another_configuration_do_not_become_the_results_of_a_finished_run(tmp_path):
    whole, other = (_learned(tmp_path / name, config=config) for name, config in (("a", _CONFIG), ("b", "x.y = 3\n")))
    shutil.rmtree(os.path.join(whole.path, "phases"))
    shutil.copytree(os.path.join(other.path, "phases"), os.path.join(whole.path, "phases"))
    setup = {"source": types.SimpleNamespace(is_fixed=True), "devices": types.SimpleNamespace(works_alone=True)}
    configuration = types.SimpleNamespace(text=lambda: _CONFIG, setup={}, **setup)
    before = _files(whole)
    path = whole.path
    del whole  # with it goes the lock
    with pytest.raises(UsageError, match=r"phases/000 holds a phase of another configuration\."):
        finished.results_of(RunDirectory(path), configuration)
    assert _files(RunDirectory(path)) == before


def test_phase_that_came_of_another_is_refused(run, tmp_path):
    # The same run, learned once more from phase 1 on in a copy: all but the chain fits.
    copy = Path(shutil.copytree(run.path, tmp_path / "copy", ignore=shutil.ignore_patterns("001", "002", ".lock")))
    again = _opened(copy)
    with again.writing_phase(1) as place:
        Path(place, "metrics.json").write_text(phase_to_text(dataclasses.replace(_reached(1), seconds={"x": 2.0})))
    assert f"{run.phase_dir(2)} holds a phase that came of another than" in _replace(run, 1, again.phase_dir(1))


def test_phases_of_other_data_are_refused(run):
    path = Path(run.path, "data.json")
    path.unlink()
    with pytest.raises(UsageError, match=r"phases/000 holds a phase of other data than .*data\.json tells of"):
        data_note.write(run, {**_DATA, "class_order": [0, 1, 2]})
    data_note.write(run, _DATA)
    assert data_note.read(run, {}) == _DATA


def test_damaged_note_on_the_data_is_set_aside_where_phases_can_tell(run, capsys):
    path = Path(run.path, "data.json")
    before = path.read_bytes()
    _flip(path)
    with pytest.raises(UsageError, match="is damaged"):
        data_note.read(run, {})
    assert data_note.read(run, {}, renews=True) is None
    assert "It is set aside in" in capsys.readouterr().err
    assert os.listdir(os.path.join(run.path, "set_aside")) == ["data.json"]
    data_note.write(run, _DATA)
    assert path.read_bytes() == before
    # Marks of earlier versions do not name the data: then nothing would tell that a new note is of the same.
    mark = Path(run.phase_dir(0), "COMPLETE")
    mark.write_text(json.dumps(json.loads(mark.read_text())["files"]))
    _flip(path)
    with pytest.raises(UsageError, match="is damaged"):
        data_note.read(run, {}, renews=True)


def test_stray_files_are_told_and_left_alone(run, capsys):
    Path(run.phase_dir(1), ".DS_Store").touch()
    Path(run.phase_dir(1), "notes.txt").touch()
    assert _phases(run) == [0, 1, 2]
    assert (
        capsys.readouterr().err == f"{run.phase_dir(1)}/notes.txt is none of the run's own files: it is left alone.\n"
    )
    assert Path(run.phase_dir(1), "notes.txt").exists()


def test_other_code_is_told(run, capsys, monkeypatch):
    monkeypatch.setattr("mnemonics_tf.system.sources.checksum_of_all", lambda: "another")
    assert _phases(run) == [0, 1, 2]
    assert "was learned by another state of the code" in capsys.readouterr().err
    monkeypatch.setattr("mnemonics_tf.run.recovery.__version__", "9.9")
    assert _phases(run) == [0, 1, 2]
    assert f"was learned by version {__version__} of mnemonics_tf (this is 9.9)" in capsys.readouterr().err


def test_phases_of_earlier_versions_count(run):
    for phase in range(3):
        mark = Path(run.phase_dir(phase), "COMPLETE")
        content = json.loads(mark.read_text())
        some = {name: content[name] for name in ("phase", "run", "configuration", "files")}
        mark.write_text(json.dumps(content["files"] if phase == 0 else some))
    assert _phases(run) == [0, 1, 2]


def test_phase_is_not_begun_without_room_for_it(run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=10_000_000))
    check_room(run, 3)
    Path(run.phase_dir(2), "exemplars.npz").write_bytes(bytes(6_000_000))
    with pytest.raises(UsageError, match=r"10\.0 MB are free there, and phase 3 may need 12\.0 MB\. Make room"):
        check_room(run, 3)
    check_room(run, 0)
