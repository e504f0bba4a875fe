"""What a run says when it starts and after each phase."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import tensorflow as tf

from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.sources import Digits
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.learner import expected
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.run import telling
from mnemonics_tf.run.telling import Teller


def _result(phase: int, seconds: float) -> PhaseResult:
    return PhaseResult(
        phase=phase,
        num_classes=5 + phase,
        accuracy={"cnn": 98.5, "nme": 97.25},
        initial_classes_accuracy={},
        group_accuracy={},
        exemplars_per_class=20,
        probe={},
        seconds={"train_model": seconds - 1, "save": 1.0},
    )


@pytest.fixture
def teller(monkeypatch) -> Teller:
    # Each phase is expected to take 10, 20, ... seconds.
    monkeypatch.setattr(expected, "seconds", lambda settings, shape, planned, _: [10.0 * (n + 1) for n in range(6)])
    return Teller(Settings(LUCIR()), ClassStream(Digits().load(), Protocol()), tf.distribute.get_strategy())


def test_start_says_data_phases_method_devices_and_time(teller, capsys):
    teller.begin([])
    assert capsys.readouterr().err == (
        "phases 0 to 5: lucir with mnemonics exemplars (per_class_20) on digits, 10 classes (5 + 5 x 1), 1,347 "
        "training images, 1 CPU; about 4 minutes to go\n"
    )


def test_time_that_is_left_follows_what_finished_phases_took(teller, capsys):
    # 10 and 20 s were expected and 60 s taken, so that 30 + 40 + 50 + 60 s become 360 s.
    teller.phase([_result(0, 20.0), _result(1, 40.0)])
    shown = capsys.readouterr().err
    assert shown == "phase 1/5: cnn 98.50 %, nme 97.25 % of 6 classes, in 40 s; about 6 minutes to go\n"
    teller.begin([_result(0, 20.0), _result(1, 40.0)])
    shown = capsys.readouterr().err
    assert shown.startswith("phases 2 to 5: ")
    assert shown.endswith("; about 6 minutes to go; phases 0 to 1 are complete\n")


def test_network_of_an_earlier_run_tells_nothing_of_the_time_and_the_last_phase_has_none_left(teller, capsys):
    reused = dataclasses.replace(_result(0, 1.0), reused=True)
    teller.phase([reused])
    assert "; about 3 minutes to go" in capsys.readouterr().err  # 200 s
    teller.phase([_result(phase, 10.0) for phase in range(6)])
    assert capsys.readouterr().err == "phase 5/5: cnn 98.50 %, nme 97.25 % of 10 classes, in 10 s\n"


def test_bars_say_what_is_left_of_the_run_and_what_the_last_phase_reached(teller, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])
    assert teller.overview() == []
    teller.begin([])  # 210 s
    assert teller.overview() == ["run: about 4 minutes to go"]
    now[0] += 150.0
    assert teller.overview() == ["run: about 60 s to go"]
    now[0] += 60.0  # it takes longer than was thought
    assert teller.overview() == []
    teller.phase([_result(0, 20.0)])  # twice as long as expected: 400 s are left
    assert teller.overview() == ["run: about 7 minutes to go", "cnn 98.50 %, nme 97.25 %"]


@pytest.mark.parametrize(("terminal", "refused", "bold"), [(True, "", 2), (True, "1", 0), (False, "", 0)])
def test_colours_are_for_terminals_alone(teller, monkeypatch, capsys, terminal, refused, bold):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", refused)
    monkeypatch.setenv("TERM", "xterm")
    teller.phase([_result(0, 20.0)])
    assert capsys.readouterr().err.count("\x1b[1m") == bold
