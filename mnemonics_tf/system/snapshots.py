"""What long work has come to, kept now and then, so that a process that is killed or stopped loses little of it.

A *stage* is one piece of work of a phase that is done step by step, under a name of its own: the training of a network,
the optimisation of some exemplars, a pass over images. Whoever does the work says after each step how its state would
be told, and this module decides when it is: after so many seconds, when a signal asks the process to stop, and at the
end. All that is drawn is a function of seeds and of the step, so work that goes on from such a state ends with the bits
that it would have ended with.
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.system import stopping

Arrays = Mapping[str, np.ndarray]

# Work since the last snapshot takes this many times as long as the snapshot did: 2.5 % of the time goes there at most.
_TIMES_ITS_COST = 40
# A stage that is over is kept if this share of the interval has passed since it was: there are many short ones.
_SHARE_AT_END = 0.05
_WORKERS_AGREE_EVERY = 10  # steps: to agree takes as long as a small step
_IDENTITY = "identity"


class Store(Protocol):
    """Where the states of one phase are kept."""

    def load(self, stage: str) -> Arrays | None:
        """What was saved last for the stage; None if nothing was, or it cannot be used. In all processes alike."""

    def save(self, stage: str, state: Arrays) -> None:
        """Keeps the state in the place of what the stage had before."""

    def remove(self, stage: str) -> None:
        """Forgets the stage, if it is known."""

    def set_aside(self, stage: str, reason: str) -> None:
        """Says in a notice why what is kept of a stage cannot be used, and moves it out of the way."""


class Workers(Protocol):
    """Processes that do the same work and must come to the same decisions."""

    def any(self, flag: bool) -> bool:
        """Whether the flag of any of them is True. All must call it."""

    def is_common(self, number: int) -> bool:
        """Whether all have the same number, from 0 up to 2^32. All must call it."""


class Snapshots:
    """The snapshots of a run. One object for all phases: `of_phase` says where those of the present one are.

    Args:
      every: seconds between two snapshots of a stage; 0 keeps no stage, and results of steps alone. Where a
        snapshot takes so long that more than 2.5 % of the time would go there, they are fewer.
      workers: processes that share the work; None for one that works alone.
    """

    def __init__(self, every: float = 0.0, workers: Workers | None = None):
        self.every, self.workers = every, workers
        self._store: Store | None = None
        self._begun: set[str] = set()

    def begin(self, store: Store | None) -> None:
        """From here on a phase is under way whose states go to a store, or nowhere."""
        self._store, self._begun = store, set()

    @contextlib.contextmanager
    def of_phase(self, store: Store | None) -> Iterator[None]:
        """Inside, a phase is under way whose states go to a store, or nowhere; outside, none is."""
        self.begin(store)
        try:
            yield
        finally:
            self.begin(None)

    @property
    def alone(self) -> bool:
        """Whether no other process shares the work."""
        return self.workers is None

    def stage(self, name: str, take: Callable[[Arrays], None], **identity: int) -> Stage:
        """A stage of the present phase, which goes on from the state that an interrupted process has come to.

        One whose name comes a second time in a phase is not kept.

        Args:
          name: of a file.
          take: is given that state, if there is one. It raises ValueError, KeyError or TypeError, before anything is
            changed, if it cannot go on from there; the stage then begins anew.
          identity: what must not have changed for a snapshot to be used, such as the number of steps.

        Raises:
          UsageError: another worker sees another state.
        """
        known = name in self._begun
        self._begun.add(name)
        store = None if known or not self.every else self._store
        stage = Stage(self.every, store, self.workers, name, json.dumps(identity, sort_keys=True))
        stage.resume(take)
        return stage

    def load(self, name: str) -> Arrays | None:
        """The result of a step that is over, as `save` has kept it; None if there is none."""
        return None if self._store is None else self._store.load(name)

    def save(self, name: str, result: Callable[[], Arrays]) -> None:
        """Keeps the result of a step that is over."""
        if self._store is not None:
            self._store.save(name, result())

    def remove(self, name: str) -> None:
        """Forgets a stage that led to a result that is kept by itself."""
        if self._store is not None:
            self._store.remove(name)


class Stage:
    """One piece of work. A context manager: inside, a signal that asks the process to stop waits for a step's end.

    `Snapshots.stage` makes it.
    """

    def __init__(self, every: float, store: Store | None, workers: Workers | None, name: str, identity: str):
        self._every, self._store, self._name, self._identity = every, store, name, identity
        self._workers = None if store is None else workers
        self._saved_at, self._cost = (
            time.monotonic(),
            0.0,
        )  # when the last was done, and how long it took
        self._steps = 0

    def resume(self, take: Callable[[Arrays], None]) -> None:
        """See `Snapshots.stage`."""
        state = None if self._store is None else self._store.load(self._name)
        if state is not None and not self._is_taken(state, take):
            state = None
        # A snapshot is of the first worker; all go on from it, or none does.
        if self._workers is not None and not self._workers.is_common(0 if state is None else _number_of(state)):
            raise checks.UsageError(
                f"This worker does not see the snapshot of {self._name} that other workers see. Name a folder that "
                "all workers share."
            )
        self._saved_at = time.monotonic()

    def _is_taken(self, state: Arrays, take: Callable[[Arrays], None]) -> bool:
        if self._store is None:
            return False
        try:
            if str(state[_IDENTITY]) != self._identity:
                raise ValueError(f"it is of {state[_IDENTITY]}, and this is {self._identity}")
            take({name: array for name, array in state.items() if name != _IDENTITY})
        except (ValueError, KeyError, TypeError) as error:
            self._store.set_aside(self._name, f"it does not fit ({error})")
            return False
        return True

    def after_step(self, state: Callable[[], Arrays]) -> None:
        """Keeps the state if it is time to. Call it after each step.

        Args:
          state: tells all that further steps depend on.

        Raises:
          StoppedError: a signal has asked the process to stop; the state is kept.
        """
        if self._store is None:
            return
        stopping.wait_for_me(True)
        self._steps += 1
        if self._workers is None or self._steps % _WORKERS_AGREE_EVERY == 0:
            self._stop_if_asked(state)
        if time.monotonic() - self._saved_at >= self._interval:
            self._save(state)

    def finish(self, state: Callable[[], Arrays]) -> None:
        """Keeps the state after the last step, if it would take some time to come to it again.

        Raises:
          StoppedError: a signal has asked the process to stop; the state is kept.
        """
        if self._store is None:
            return
        if self._steps:
            self._stop_if_asked(state)
        if time.monotonic() - self._saved_at >= _SHARE_AT_END * self._interval:
            self._save(state)

    @property
    def _interval(self) -> float:
        """Seconds from one snapshot to the next."""
        return max(self._every, _TIMES_ITS_COST * self._cost)

    def _stop_if_asked(self, state: Callable[[], Arrays]) -> None:
        asked = stopping.asked()
        if self._workers is not None:
            asked = (asked or "another worker") if self._workers.any(asked is not None) else None
        if asked is not None:
            self._save(state)
            raise stopping.StoppedError(asked, self._name)

    def _save(self, state: Callable[[], Arrays]) -> None:
        if self._store is None:
            return
        start = time.monotonic()
        self._store.save(self._name, {**state(), _IDENTITY: np.array(self._identity)})
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        asked = stopping.wait_for_me(False)
        # A signal that has come since the last step was looked at. Other workers would be left behind.
        if asked is not None and kind is None and self._workers is None:
            raise stopping.StoppedError(asked, self._name)


def _number_of(state: Arrays) -> int:
    """A checksum that tells states apart, above 0."""
    number = 1
    for name in sorted(state):
        number = zlib.crc32(name.encode() + np.asarray(state[name]).tobytes(), number)
    return number | 1
