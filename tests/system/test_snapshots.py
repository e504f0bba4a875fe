"""When the state of long work is kept, and what a process that is asked to stop does."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.system import snapshots, stopping
from mnemonics_tf.system.snapshots import Snapshots


class _Memory:
    """Keeps states in memory; each takes so many seconds to be saved."""

    def __init__(self, states=None, clock=None, cost=0.0):
        self.states, self.saved, self.aside = dict(states or {}), [], []
        self._clock, self._cost = clock, cost

    def load(self, stage):
        return self.states.get(stage)

    def save(self, stage, state):
        self.states[stage] = dict(state)
        self.saved.append(int(state["done"]))
        if self._clock is not None:
            self._clock.now += self._cost

    def remove(self, stage):
        self.states.pop(stage, None)

    def set_aside(self, stage, reason):
        self.aside.append((stage, reason))
        self.remove(stage)


class _Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = _Clock()
    monkeypatch.setattr(snapshots, "time", made)
    return made


@pytest.fixture(autouse=True)
def nobody_asks():
    yield
    stopping.forget()


class _Counting:
    """Work of `total` steps of a second; its state is how many are done."""

    def __init__(self, total=200, clock=None, before_step=None):
        self.done, self._total, self._clock, self._before = 0, total, clock, before_step

    def state(self):
        return {"done": np.array(self.done)}

    def take(self, arrays):
        self.done = int(arrays["done"])

    def run(self, kept: Snapshots, name="count", **identity):
        work = kept.stage(name, self.take, **identity)
        started = self.done
        with work:
            while self.done < self._total:
                if self._before is not None:
                    self._before(self.done)
                self.done += 1
                if self._clock is not None:
                    self._clock.now += 1
                work.after_step(self.state)
            work.finish(self.state)
        return started


def test_state_is_kept_every_so_many_seconds_and_at_the_end(clock):
    kept, memory = Snapshots(60.0), _Memory()
    with kept.of_phase(memory):
        _Counting(200, clock).run(kept)
    assert memory.saved == [60, 120, 180, 200]
    # Within three seconds of the last, the end is soon come to again.
    memory = _Memory()
    with kept.of_phase(memory):
        _Counting(122, clock).run(kept)
    assert memory.saved == [60, 120]


def test_slow_snapshots_take_a_fortieth_of_the_time(clock):
    kept, memory = Snapshots(10.0), _Memory(clock=clock, cost=2.0)
    with kept.of_phase(memory):
        _Counting(400, clock).run(kept)
    # The first tells that it takes 2 seconds; from then on 80 seconds of work come before each.
    assert memory.saved == [10, 90, 170, 250, 330, 400]


def test_nothing_is_kept_without_an_interval_or_without_a_place():
    memory, kept = _Memory(), Snapshots(0.0)
    with kept.of_phase(memory):
        _Counting().run(kept)
    _Counting().run(Snapshots(1e-9))
    assert memory.saved == []


def test_work_goes_on_from_its_state_if_it_is_the_same_work():
    state = {"done": np.array(150), "identity": np.array('{"images": 7}')}
    for images, started, aside in ((7, 150, 0), (8, 0, 1)):
        memory, kept = _Memory({"count": state}), Snapshots(60.0)
        with kept.of_phase(memory):
            assert _Counting().run(kept, images=images) == started
        assert len(memory.aside) == aside
    # A state that does not have what the work needs.
    memory, kept = _Memory({"count": {"identity": np.array("{}")}}), Snapshots(60.0)
    with kept.of_phase(memory):
        assert _Counting().run(kept) == 0
    assert "it does not fit" in memory.aside[0][1]


def test_second_work_of_the_same_name_is_not_taken_for_the_first(clock):
    memory, kept = _Memory(), Snapshots(1.0)
    with kept.of_phase(memory):
        assert _Counting(3, clock).run(kept) == 0
        assert _Counting(3, clock).run(kept) == 0
    with kept.of_phase(memory):
        assert _Counting(3, clock).run(kept) == 3


def test_signal_ends_the_work_after_its_step_with_the_state_kept():
    accepted = []

    def ask(done):
        if done in (0, 2):
            accepted.append(stopping.ask("SIGTERM"))

    memory, kept = _Memory(), Snapshots(60.0)
    with (
        kept.of_phase(memory),
        pytest.raises(stopping.StoppedError, match="by SIGTERM; what count has come to"),
    ):
        _Counting(before_step=ask).run(kept)
    # Before the first step there is nothing to wait for, and the process would have ended at once.
    assert (accepted, memory.saved) == ([False, True], [3])
    assert not isinstance(stopping.StoppedError("SIGTERM", "count"), Exception)
    assert (stopping.ask("SIGTERM"), stopping.ask("Ctrl-C")) == (True, False)  # the second Ctrl-C ends it at once


def test_signal_that_comes_after_the_last_look_is_not_lost():
    memory, kept = _Memory(), Snapshots(60.0)
    with kept.of_phase(memory):
        work = kept.stage("count", dict)
        work.__enter__()
        work.after_step(lambda: {"done": np.array(1)})
        assert stopping.ask("SIGHUP")
        with pytest.raises(stopping.StoppedError):
            work.__exit__(None)


class _Workers:
    """This worker and another one, who says what it says."""

    def __init__(self, asked_at=None, common=True):
        self.calls, self._asked_at, self._common = 0, asked_at, common

    def any(self, flag):
        self.calls += 1
        return flag or self.calls == self._asked_at

    def is_common(self, number):
        return self._common


def test_workers_stop_together_and_go_on_from_the_same_state():
    workers, memory = _Workers(asked_at=3), _Memory()
    kept = Snapshots(60.0, workers)
    with kept.of_phase(memory), pytest.raises(stopping.StoppedError, match="another worker"):
        _Counting(before_step=lambda done: done == 15 and stopping.ask("SIGTERM") and stopping.forget()).run(kept)
    assert memory.saved == [30]  # they ask one another every tenth step
    kept = Snapshots(60.0, _Workers(common=False))
    with kept.of_phase(memory), pytest.raises(UsageError, match="does not see the snapshot of count"):
        _Counting().run(kept)
