"""Trials of whole runs, of which each takes seconds: one run leaves many states to go on from."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile

import children
from children import NO_FAULT
from trials import Tally, Trials, every_call
from workers import Stops, Worker

_STATES_A_RUN = 8
_MOST_UNFINISHED = 12  # states that are kept to be damaged later


class WholeTrials(Trials):
    """The trials of a job that a worker runs.

    Args:
      worker: runs the job.
      folder: where trials have their folders.
      draw: decides what is not exhausted.
      seconds: after which no further trial is begun.
    """

    def __init__(self, worker: Worker, folder: str, draw: random.Random, seconds: float = float("inf")):
        self._worker = worker
        first = worker.run(os.path.join(folder, "first"))  # compiles what later runs find, and takes longer than they
        if first.kind != "finished":
            raise RuntimeError(f"The job has failed:\n{first.text}")
        super().__init__(worker.run, folder, draw, seconds)
        self._unfinished: list[str] = []
        self._whole_or_not = itertools.cycle([True, True, False])

    def stop_at_random(self, count: int) -> Tally:
        """Goes on from what the folder holds at random moments of processor time: what SIGKILL leaves."""
        tally = Tally("what SIGKILL leaves at random moments")
        for moments in self._in_time(_dealt(count)):
            drawn = sorted(self._draw.uniform(0, self.seconds) for _ in range(moments))
            self._from_states(tally, seconds=drawn)
        return tally

    def stop_at_calls(self, count: int) -> Tally:
        """Goes on from what the folder holds before and after renames, syncs and removals: what SIGKILL leaves."""
        tally = Tally("what SIGKILL leaves at a rename, sync, removal")
        for number in self._in_time(_dealt(count)):
            self._from_states(tally, calls=sorted(self._draw.sample(every_call(self.calls), number)))
        return tally

    def full_at_random(self, count: int) -> Tally:
        """Fills the file system at a random moment; there is room again when the job goes on."""
        tally = Tally("the disk is full from a random moment on")
        for _ in self._in_time(range(count)):
            moment = self._draw.uniform(0, self.seconds)
            with children.small_disk("64m") as disk, self._place() as place:
                if disk is None:
                    return tally
                inside = os.path.join(disk, "run")
                outcome = self._worker.run(inside, NO_FAULT, Stops(lambda disk=disk: _fill(disk), [moment]))
                if os.path.isdir(inside):
                    shutil.copytree(inside, place)
                self._must_be_told(tally, outcome, place, f"{moment:.2f} s of {self.seconds:.2f}")
        return tally

    def errors_at_random(self, count: int) -> Tally:
        """Lets calls fail, each with another error."""
        errors = itertools.cycle(children.ERRORS)
        return self.errors_at_calls([(self._draw.randrange(self.calls), next(errors)) for _ in range(count)])

    def _from_states(self, tally: Tally, **moments) -> None:
        """Runs the job once, keeps its folder at the moments, and goes on from each of these states."""
        with tempfile.TemporaryDirectory(dir=self._folder) as states, self._place() as place:
            kept: list[str] = []

            def keep() -> None:
                kept.append(os.path.join(states, str(len(kept)), "run"))
                os.makedirs(os.path.dirname(kept[-1]))
                if os.path.isdir(place):
                    shutil.copytree(place, kept[-1], symlinks=True)

            outcome = self._worker.run(place, NO_FAULT, Stops(keep, **moments))
            if outcome.kind != "finished" or not self._is_same(place):
                tally.add(f"undisturbed, and {outcome.kind}", f"of {moments}: {outcome.text[-500:]}")
            for number, state in enumerate(kept):
                self._keep_for_damage(state)
                self.go_on(tally, state, f"state {number} of {moments}")

    def _keep_for_damage(self, state: str) -> None:
        if len(self._unfinished) < _MOST_UNFINISHED and os.path.isdir(os.path.join(state, "phases")):
            self._unfinished.append(os.path.join(self._folder, f"unfinished{len(self._unfinished)}"))
            shutil.copytree(state, self._unfinished[-1])

    def _to_damage(self) -> str:
        finished = next(self._whole_or_not) or not self._unfinished
        return self.whole if finished else self._draw.choice(self._unfinished)


def killed(trials: WholeTrials, count: int) -> Tally:
    """Ends the job by SIGKILL indeed: the process that goes on is a new one."""
    tally = trials.kill_at_random(count)
    tally.name = "SIGKILL at random moments, gone on with in a new process"
    return tally


def _dealt(count: int) -> list[int]:
    """How many states each run is to leave."""
    return [min(_STATES_A_RUN, count - done) for done in range(0, count, _STATES_A_RUN)]


def _fill(disk: str) -> None:
    """Takes all that is free."""
    with open(os.path.join(disk, "ballast"), "wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        os.posix_fallocate(file.fileno(), 0, max(1, free))
