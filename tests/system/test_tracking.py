"""TensorBoard's files: curves of a phase that is run again are drawn once, and no run ends for want of a picture."""

from __future__ import annotations

import resource
import sys
import threading

import pytest
import tensorflow as tf

from mnemonics_tf.system import tracking
from mnemonics_tf.system.tracking import Tracker


def _points(folder) -> list[tuple[str, int, float]]:
    """Tag, step and value of all that TensorBoard would draw."""
    found = []
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found += [
                (value.tag, event.step, float(tf.make_ndarray(value.tensor)))
                for value in event.summary.value
                if value.HasField("tensor")
            ]
    return sorted(found)


def _run_phase(tracker: Tracker, phase: int, value: float) -> None:
    tracker.start_phase(phase, 3)
    tracker.phase_scalars("train_model", {"loss": value}, 0)
    tracker.run_scalars({"accuracy": value})
    tracker.flush()


def test_phase_that_is_run_again_is_drawn_once(tmp_path):
    first = Tracker(str(tmp_path))
    for phase in range(3):
        _run_phase(first, phase, 1.0)
    # Another process goes on from the second phase.
    second = Tracker(str(tmp_path))
    _run_phase(second, 1, 2.0)
    assert _points(tmp_path) == [
        ("phase_0/train_model/loss", 0, 1.0),
        ("phase_1/train_model/loss", 0, 2.0),
        ("run/accuracy", 0, 1.0),
        ("run/accuracy", 1, 2.0),
    ]


def test_files_of_earlier_versions_and_of_others_stay(tmp_path):
    for name in ("events.out.tfevents.1.host.2.3.v2", "notes.phase", "notes.phasex"):
        (tmp_path / name).touch()
    Tracker(str(tmp_path)).start_phase(0, 1)
    assert len(list(tmp_path.iterdir())) == 4


def test_run_goes_on_without_tensorboard_if_its_files_cannot_be_written(tmp_path, capsys):
    tracker = Tracker(str(tmp_path))
    tracker.start_phase(0, 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        for _ in range(2):
            tracker.run_scalars({"accuracy": 1.0})
            tracker.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    tracker.start_phase(1, 2)
    tracker.flush()
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1
    assert "the run goes on without TensorBoard" in notice


@pytest.mark.parametrize("folder", [None, "file"])
def test_tracker_without_a_folder_writes_nothing(tmp_path, capsys, folder):
    (tmp_path / "file").touch()
    tracker = Tracker(folder and str(tmp_path / "file/below"))
    _run_phase(tracker, 0, 1.0)
    assert list(tracker.seconds) == []
    assert ("without TensorBoard" in capsys.readouterr().err) == (folder is not None)


def test_bars_are_drawn_by_nobody_but_the_one_that_counts(monkeypatch):
    # tqdm's own thread would write into standard error while it is turned aside.
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    before = set(threading.enumerate())
    with tracking.progress("check_images", 10, "images"):
        assert set(threading.enumerate()) == before


@pytest.mark.parametrize("watched", [True, False])
def test_terminals_have_bars_and_files_a_line_a_stage(monkeypatch, capsys, watched):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    now = [0.0]
    monkeypatch.setattr(tracking.time, "perf_counter", lambda: now[0])
    if watched:
        monkeypatch.setattr(tracking, "_SHORT", 0.0)  # bars have a clock of their own, and need not wait
    tracker = Tracker()
    tracker.start_phase(2, 6)
    with tracker.stage("evaluate"):
        now[0] += 0.9  # a moment needs no line
    with tracker.stage("train_model"), tracker.progress("train_model", 2, "steps") as bar:
        now[0] += 1.3
        bar.update()
        bar.refresh()
    shown = capsys.readouterr().err
    if watched:
        assert "phase 2/5 train_model:  50%" in shown
    else:
        assert shown == "phase 2/5 train_model: 1 s\n"


# The bar has 4 characters at least, what is around it 60 to 66 by its rate, loss 22, time 29, accuracy 13.
@pytest.mark.parametrize(
    ("columns", "told", "has_loss"),
    [
        (140, " (run: about 7 minutes to go; cnn 98.50 %):", True),
        (122, " (run: about 7 minutes to go):", True),
        (102, " (run: about 7 minutes to go):", False),
        (80, ":", None),
    ],
)
def test_bar_says_how_the_run_is_going_as_far_as_it_has_room(monkeypatch, capsys, columns, told, has_loss):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(tracking, "_SHORT", 0.0)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    tracker = Tracker()
    tracker.start_phase(2, 6)
    tracker.overview = lambda: ["run: about 7 minutes to go", "cnn 98.50 %"]
    with tracker.progress("train_model", 2, "steps") as bar:
        bar.dynamic_ncols, bar.ncols = None, columns
        bar.set_postfix(epoch=12, loss="1.234", refresh=False)
        bar.update(1)
        bar.refresh()
    shown = capsys.readouterr().err
    assert f"phase 2/5 train_model{told}  50%" in shown
    if has_loss is not None:
        assert (", epoch=12, loss=1.234]" in shown) == has_loss
    assert "\x1b[32m" in shown  # green
