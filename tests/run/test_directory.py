"""The run directory: what counts as complete, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.results import Results
from mnemonics_tf.run.directory import RunDirectory

_CONFIG = "Experiment.seed = 1\nModelLevel.epochs = 160\n"


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """An opened run without phases."""
    directory = RunDirectory(str(tmp_path / "run"))
    directory.open(_CONFIG)
    return directory


def _fill(folder: str, text: str = "weights") -> None:
    """What a phase leaves: a file, and one in a folder."""
    (Path(folder) / "checkpoint").mkdir()
    (Path(folder) / "checkpoint/model.weights.h5").write_text(text)
    (Path(folder) / "metrics.json").write_text('{"accuracy": 71.5}')


def _write_phase(run: RunDirectory, phase: int, text: str = "weights") -> None:
    with run.writing_phase(phase) as folder:
        _fill(folder, text)


def _fail_to_write_phase(run: RunDirectory, phase: int, error: type[BaseException], text: str = "half") -> None:
    with run.writing_phase(phase) as folder:
        _fill(folder, text)
        Path(folder, "half.npz").write_text("rubbish")
        raise error


def _results(seed: int) -> Results:
    """Results without phases; only the seed matters here."""
    values = {field.name: () for field in dataclasses.fields(Results)}
    return Results(**{**values, "seed": seed})


def test_folder_that_was_moved_under_way_is_told_and_not_made_again(run):
    _write_phase(run, 0)
    snapshots = run.snapshots(1, True, dict)
    moved = Path(run.path).rename(f"{run.path} elsewhere")
    for write in (
        lambda: snapshots.save("train_model", {}),
        lambda: _write_phase(run, 1),
        lambda: run.write_results(_results(1)),
        run.check_there,
    ):
        with pytest.raises(UsageError, match=r"was removed or moved while the run was working there\. Put it back"):
            write()
        assert not os.path.exists(run.path)
    moved.rename(run.path)
    _write_phase(run, 1)
    assert run.num_complete_phases() == 2


def _full_disk(*args):
    raise OSError(28, "No space left on device")


def _tree(folder: str | Path) -> dict[str, bytes | None]:
    """Contents of all files, and the folders, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in Path(folder).rglob("*")
    }


def test_creating_the_object_touches_nothing(tmp_path):
    RunDirectory(str(tmp_path / "run"))
    assert _tree(tmp_path) == {}


def test_opening_creates_the_folder_with_the_configuration(tmp_path):
    directory = RunDirectory(str(tmp_path / "deep/run"))
    directory.open(_CONFIG)
    assert (tmp_path / "deep/run/config.gin").read_text() == _CONFIG
    assert directory.num_complete_phases() == 0


def test_opening_again_with_the_same_configuration_changes_nothing(run):
    _write_phase(run, 0)
    path, before = run.path, _tree(run.path)
    run.open(_CONFIG)
    assert _tree(path) == before


def test_second_user_of_a_folder_is_refused_until_the_first_is_gone(tmp_path):
    first = RunDirectory(str(tmp_path / "run"))
    first.open(_CONFIG)
    with pytest.raises(UsageError, match="another process is working there"):
        RunDirectory(first.path).open(_CONFIG)
    path = first.path
    del first
    RunDirectory(path).open(_CONFIG)


def test_process_killed_at_its_first_write_leaves_a_usable_folder(tmp_path):
    (tmp_path / "config.gin.partial").write_text("half of it")
    RunDirectory(str(tmp_path)).open(_CONFIG)
    assert (tmp_path / "config.gin").read_text() == _CONFIG


def test_failed_opening_takes_its_folders_back(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UsageError, match="No space left"):
        RunDirectory(str(tmp_path / "new/run")).open(_CONFIG)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mark", ["", "[]", "null", "{}", '{"metrics'])
def test_damaged_mark_is_noticed(run, mark):
    _write_phase(run, 0)
    Path(run.phase_dir(0), "COMPLETE").write_text(mark)
    with pytest.raises(UsageError, match="COMPLETE is missing or was damaged"):
        run.verified(0)


def test_empty_folder_becomes_a_run(tmp_path):
    RunDirectory(str(tmp_path)).open(_CONFIG)
    assert (tmp_path / "config.gin").read_text() == _CONFIG


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    RunDirectory("~/run").open(_CONFIG)
    assert (tmp_path / "run/config.gin").is_file()


def test_another_configuration_is_refused_with_the_difference(run):
    before = _tree(run.path)
    with pytest.raises(UsageError) as raised:
        RunDirectory(run.path).open("Experiment.seed = 1\nModelLevel.epochs = 8\nModelLevel.decay = 0.5\n")
    lines = [line.strip() for line in str(raised.value).splitlines()]
    assert run.path in lines[0]
    # What the run has, what it would get, and not what both have.
    assert lines[1:] == ["-ModelLevel.epochs = 160", "+ModelLevel.epochs = 8", "+ModelLevel.decay = 0.5"]
    assert _tree(run.path) == before


def test_file_in_the_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("precious")
    with pytest.raises(UsageError, match="a file is there; expected a folder or nothing"):
        RunDirectory(str(path)).open(_CONFIG)
    assert path.read_text() == "precious"


def test_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"not empty and holds no run \(no config\.gin\)"):
        RunDirectory(str(tmp_path)).open(_CONFIG)
    assert _tree(tmp_path) == {"thesis.tex": b"precious"}


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used") as raised:
        RunDirectory(str(tmp_path / "file/run")).open(_CONFIG)
    assert str(tmp_path / "file/run") in str(raised.value)


def test_opening_that_failed_on_a_full_disk_can_be_tried_again(tmp_path, monkeypatch):
    directory = RunDirectory(str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full_disk)
        with pytest.raises(UsageError, match=r"cannot be used \(No space left on device\)"):
            directory.open(_CONFIG)
    assert not (tmp_path / "run/config.gin").exists()
    directory.open(_CONFIG)
    assert (tmp_path / "run/config.gin").read_text() == _CONFIG


def test_written_phase_is_complete_and_whole(run):
    _write_phase(run, 0)
    assert run.num_complete_phases() == 1
    run.verified(0)
    assert run.phase_dir(0) == os.path.join(run.path, "phases", "000")
    assert os.listdir(os.path.join(run.path, "phases")) == ["000"]


def test_completion_mark_holds_the_checksum_of_each_file(run):
    _write_phase(run, 0)
    mark = json.loads(Path(run.phase_dir(0), "COMPLETE").read_text())
    assert (mark["phase"], len(mark["run"])) == (0, 32)
    assert mark["files"] == {
        "checkpoint/model.weights.h5": hashlib.sha256(b"weights").hexdigest(),
        "metrics.json": hashlib.sha256(b'{"accuracy": 71.5}').hexdigest(),
    }


class _PowerCutError(BaseException):
    """Not even an Exception, as an interrupt from the keyboard."""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, _PowerCutError])
def test_failure_while_writing_leaves_nothing_that_counts(run, error):
    _write_phase(run, 0)
    with pytest.raises(error):
        _fail_to_write_phase(run, 1, error)
    assert run.num_complete_phases() == 1
    assert not os.path.exists(run.phase_dir(1))


def test_failure_while_the_mark_is_written_leaves_nothing_that_counts(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _full_disk)
        with pytest.raises(OSError, match="No space left"):
            _write_phase(run, 0)
    assert run.num_complete_phases() == 0
    _write_phase(run, 0)
    assert run.num_complete_phases() == 1


def test_what_a_failed_attempt_left_is_not_taken_over(run):
    with pytest.raises(RuntimeError):
        _fail_to_write_phase(run, 0, RuntimeError)
    _write_phase(run, 0)
    run.verified(0)
    assert not Path(run.phase_dir(0), "half.npz").exists()


def test_failure_while_rewriting_keeps_the_phase_that_was_there(run):
    _write_phase(run, 0, "first")
    before = _tree(run.phase_dir(0))
    with pytest.raises(RuntimeError):
        _fail_to_write_phase(run, 0, RuntimeError, "second")
    assert _tree(run.phase_dir(0)) == before
    run.verified(0)


def test_rewritten_phase_replaces_the_old_one(run):
    _write_phase(run, 0, "first")
    Path(run.phase_dir(0), "extra").write_text("of the first")
    _write_phase(run, 0, "second")
    run.verified(0)
    assert set(_tree(run.phase_dir(0))) == {"checkpoint", "checkpoint/model.weights.h5", "metrics.json", "COMPLETE"}
    assert Path(run.phase_dir(0), "checkpoint/model.weights.h5").read_text() == "second"


def test_folder_without_mark_is_no_complete_phase(run):
    _write_phase(run, 0)
    Path(run.phase_dir(0), "COMPLETE").unlink()
    assert run.num_complete_phases() == 0


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [_flip_a_bit, Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"weights ")],
    ids=["flipped bit", "missing", "emptied", "longer"],
)
def test_damaged_file_is_named(run, damage):
    _write_phase(run, 0)
    path = Path(run.phase_dir(0), "checkpoint/model.weights.h5")
    damage(path)
    with pytest.raises(UsageError, match="is missing or was damaged") as raised:
        run.verified(0)
    assert str(raised.value).startswith(str(path))
    assert "start the run again" in str(raised.value)


@pytest.mark.parametrize("content", [b"", b'{"metrics.json": "12', b"\xff\xfe"])
def test_damaged_mark_is_named(run, content):
    _write_phase(run, 0)
    path = Path(run.phase_dir(0), "COMPLETE")
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is missing or was damaged") as raised:
        run.verified(0)
    assert str(raised.value).startswith(str(path))


def test_phase_of_an_earlier_version_is_taken(run):
    """Its mark holds checksums and nothing else."""
    for phase in range(2):
        _write_phase(run, phase)
    mark = Path(run.phase_dir(0), "COMPLETE")
    mark.write_text(json.dumps(json.loads(mark.read_text())["files"]))
    for phase in range(2):
        run.verified(phase)
    Path(run.phase_dir(0), "metrics.json").write_text("{}")
    with pytest.raises(UsageError, match="is missing or was damaged"):
        run.verified(0)


def test_devices_are_no_part_of_what_a_phase_belongs_to(run):
    _write_phase(run, 0)
    again = RunDirectory(run.path)
    again.check_shared(f"{_CONFIG}Devices.slurm_port = 9999\n")
    again.verified(0)


@pytest.mark.parametrize("name", ["../001/metrics.json", "{folder}/metrics.json"])
def test_mark_that_lists_files_elsewhere_is_refused(run, name):
    for phase in range(2):
        _write_phase(run, phase)
    mark = Path(run.phase_dir(0), "COMPLETE")
    content = json.loads(mark.read_text())
    content["files"][name.format(folder=run.phase_dir(0))] = content["files"]["metrics.json"]
    mark.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="is missing or was damaged"):
        run.verified(0)


def test_pipe_in_the_place_of_a_file_is_refused(run):
    _write_phase(run, 0)
    path = Path(run.phase_dir(0), "metrics.json")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is missing or was damaged"):
        run.verified(0)


@pytest.mark.parametrize("name", ["phases", "tensorboard", "config.gin", ".lock"])
def test_links_that_someone_has_put_there_are_not_followed(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.gin").write_text(_CONFIG)
    target = tmp_path / "target"
    if name == "config.gin":
        target.write_text(_CONFIG)
        (tmp_path / "run/config.gin").unlink()
    (tmp_path / "run" / name).symlink_to(target)
    with pytest.raises(UsageError, match="link"):
        RunDirectory(str(tmp_path / "run")).open(_CONFIG)
    assert target.exists() == (name == "config.gin")


def test_planted_partial_file_is_replaced_and_not_followed(run, tmp_path):
    (tmp_path / "precious").write_text("keep")
    Path(run.path, "results.json.partial").symlink_to(tmp_path / "precious")
    run.write_results(_results(3))
    assert (tmp_path / "precious").read_text() == "keep"
    assert json.loads(Path(run.results_file).read_text())["seed"] == 3


def test_failure_leaves_no_half_of_a_phase_that_would_fill_a_disk(run):
    with pytest.raises(RuntimeError):
        _fail_to_write_phase(run, 0, RuntimeError)
    assert os.listdir(os.path.join(run.path, "phases")) == []


def test_results_are_replaced_as_a_whole(run):
    run.write_results(_results(1))
    run.write_results(_results(2))
    assert json.loads(Path(run.results_file).read_text())["seed"] == 2


def test_failure_while_results_are_written_keeps_the_old_ones(run, monkeypatch):
    run.write_results(_results(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full_disk)
        with pytest.raises(OSError, match="No space left"):
            run.write_results(_results(2))
    assert json.loads(Path(run.results_file).read_text())["seed"] == 1


def test_images_that_were_skipped_add_up(run):
    assert run.read_skipped() == {}
    run.add_skipped({})
    assert not Path(run.skipped_file).exists()
    run.add_skipped({"/birds/hen/1.png": "the file is empty", "/birds/żółw/2.png": "no picture"})
    run.add_skipped({})
    run.add_skipped({"/birds/hen/1.png": "there is no such file any more", "/birds/owl/3.png": "the file is empty"})
    expected = {
        "/birds/hen/1.png": "there is no such file any more",
        "/birds/żółw/2.png": "no picture",
        "/birds/owl/3.png": "the file is empty",
    }
    assert run.read_skipped() == json.loads(Path(run.skipped_file).read_text(encoding="utf-8")) == expected


def test_damaged_list_of_skipped_images_is_written_anew(run):
    for content in (b"", b'{"/birds/hen/1.p', b"\xff\xfe"):
        Path(run.skipped_file).write_bytes(content)
        assert run.read_skipped() == {}
        run.add_skipped({"/birds/hen/1.png": "the file is empty"})
        assert run.read_skipped() == {"/birds/hen/1.png": "the file is empty"}


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_what_a_phase_needs_on_disk_goes_when_it_is_over(run, error):
    _write_phase(run, 0)
    before = _tree(run.path)

    def work(folder: Path) -> None:
        assert folder.parent == Path(run.path)
        (folder / "exemplars.pixels").write_bytes(b"pixels")
        if error is not None:
            raise error

    with contextlib.suppress(RuntimeError, KeyboardInterrupt), run.scratch(0) as folder:
        work(Path(folder))
    assert _tree(run.path) == before


def test_what_a_killed_process_needed_on_disk_is_cleared_away(run):
    with run.scratch(1) as folder:
        left = Path(folder)
    left.mkdir()
    (left / "exemplars.pixels").write_bytes(b"pixels")
    with run.scratch(1) as folder:
        assert Path(folder) == left
        assert os.listdir(folder) == []


def test_workers_do_not_share_what_they_need_on_disk(run):
    before = _tree(run.path)
    with run.scratch(0) as first, run.scratch(1) as other:
        Path(first, "exemplars.pixels").write_bytes(b"pixels")
        assert first != other
        assert os.listdir(other) == []
    assert _tree(run.path) == before


def test_name_of_a_skipped_image_may_be_no_text(run):
    # How Python writes a byte of a file's name that is not UTF-8.
    run.add_skipped({"/images/bad\udcfe.jpg": "the file is empty"})
    run.add_skipped({"/images/<b>é\n.jpg": "not a file"})
    assert run.read_skipped() == {"/images/bad\udcfe.jpg": "the file is empty", "/images/<b>é\n.jpg": "not a file"}


def test_other_devices_may_go_on_with_a_run(run):
    RunDirectory(run.path).check_shared(_CONFIG)
    run.open(f'{_CONFIG}Devices.strategy = "mirrored"\n')
    run.open(_CONFIG)
    with pytest.raises(UsageError, match="another configuration") as raised:
        run.open(f'{_CONFIG}Devices.strategy = "mirrored"\nModelLevel.decay = 0.5\n')
    assert [line.strip() for line in str(raised.value).splitlines()[1:]] == ["+ModelLevel.decay = 0.5"]


def test_run_that_is_to_have_more_phases_is_told_how_to_go_on(run):
    hint = "Further classes are learned by IncrementalLearner.from_run"
    with pytest.raises(UsageError, match="another configuration") as raised:
        run.open(f"{_CONFIG}Protocol.num_phases = 9\n")
    assert str(raised.value).splitlines()[-1].startswith(hint)
    with pytest.raises(UsageError, match="another configuration") as raised:
        run.open(f"{_CONFIG}ModelLevel.decay = 0.5\n")
    assert hint not in str(raised.value)


def test_worker_that_does_not_see_the_run_is_told_so(run, tmp_path):
    with pytest.raises(UsageError, match="the first worker has opened a run there, which this one does not see"):
        RunDirectory(str(tmp_path / "elsewhere")).check_shared(_CONFIG)
    with pytest.raises(UsageError, match="another configuration"):
        RunDirectory(run.path).check_shared("Experiment.seed = 2\n")
    assert not (tmp_path / "elsewhere").exists()


def test_settings_that_came_later_do_not_keep_earlier_runs_from_going_on(run):
    added = "tfds.split_seed = 0\ntfds.test_share = 0.2\n"
    RunDirectory(run.path).check_shared(_CONFIG + added)
    with pytest.raises(UsageError, match="another configuration"):
        RunDirectory(run.path).check_shared(_CONFIG + "tfds.split_seed = 1\n")
