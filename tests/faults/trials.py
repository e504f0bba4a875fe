"""Trials: a fault, then the same job again, and whether it ends with what an undisturbed job ends with."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import itertools
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import children
from children import ERRORS, NO_FAULT, Fault
from damages import DAMAGES

from mnemonics_tf import checks, verify

Runner = Callable[[str, Fault], children.Outcome]  # runs a job in a folder, and does something to it
T = TypeVar("T")

# What may differ between two runs that came to the same: names drawn at random, times, and what is only looked at.
_UNCOMPARED = ("COMPLETE", "config.gin", ".lock")
_MODEL = "saved_model"  # its files have names in them that TensorFlow draws; the weights are compared in their own file
_TIMES = ("seconds",)


@dataclasses.dataclass
class Tally:
    """What has become of the trials of one kind.

    Attributes:
      name: of the kind.
      counts: of each outcome.
      failures: a text for each trial that ended as it must not.
    """

    name: str
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, outcome: str, failure: str = "") -> None:
        """Counts a trial; with a text if it ended as it must not."""
        self.counts[outcome] += 1
        if failure:
            self.failures.append(f"{self.name}, {outcome}: {failure}")


class Trials:
    """The trials of one job.

    Args:
      runner: runs the job in a folder, or goes on there.
      folder: where trials have their folders.
      draw: decides what is not exhausted.
      seconds: after which no further trial is begun.
    """

    def __init__(self, runner: Runner, folder: str, draw: random.Random, seconds: float = float("inf")):
        self._runner, self._folder, self._draw = runner, folder, draw
        self._end = time.monotonic() + seconds
        self.whole = os.path.join(folder, "undisturbed")
        outcome = self._run(self.whole)
        if outcome.kind != "finished":
            raise RuntimeError(f"The undisturbed job has failed:\n{outcome.text}")
        self.calls, self.seconds = outcome.calls, outcome.seconds
        self._expected = content_of(self.whole)

    def kill_at_calls(self, calls: list[tuple[int, bool]]) -> Tally:
        """Ends the job by SIGKILL before or after a call that changes the file system, and runs it again."""
        tally = Tally("SIGKILL at a rename, sync, removal")
        for call, after in self._in_time(calls):
            with self._place() as place:
                self._run(place, Fault(call=call, after=after))
                self.go_on(tally, place, f"call {call}, after={after}")
        return tally

    def kill_at_random(self, count: int) -> Tally:
        """Ends the job by SIGKILL at any time, and runs it again."""
        tally = Tally("SIGKILL at random times")
        for _ in self._in_time(range(count)):
            seconds = self._draw.uniform(0, self.seconds)
            with self._place() as place:
                self._run(place, Fault(seconds=seconds))
                self.go_on(tally, place, f"{seconds:.2f} s of {self.seconds:.2f}")
        return tally

    def errors_at_calls(self, faults: list[tuple[int, int]]) -> Tally:
        """Lets a call fail: the job must say so in one line, and go on once the cause is gone."""
        tally = Tally("a call fails (full, read-only, denied, lost, stale)")
        for call, number in self._in_time(faults):
            with self._place() as place:
                outcome = self._run(place, Fault(call=call, number=number))
                self._must_be_told(tally, outcome, place, f"call {call}, {os.strerror(number)}")
        return tally

    def full_disks(self, sizes: list[int]) -> Tally:
        """Limits the size of files: writing ends in the middle of one."""
        tally = Tally("a file may not grow any further")
        for size in self._in_time(sizes):
            with self._place() as place:
                self._must_be_told(tally, self._run(place, Fault(file_size=size)), place, f"{size} bytes")
        return tally

    def small_disks(self, sizes: list[str]) -> Tally:
        """Runs in a file system that is too small, moves what is there to a larger one, and goes on."""
        tally = Tally("a small file system is full")
        for size in self._in_time(sizes):
            with children.small_disk(size) as disk, self._place() as place:
                if disk is None:
                    return tally
                inside = os.path.join(disk, "run")
                outcome = self._run(inside)
                if os.path.isdir(inside):
                    shutil.copytree(inside, place)
                self._must_be_told(tally, outcome, place, size)
        return tally

    def damage(self, count: int) -> list[Tally]:
        """Damages a file of a finished run in each way, asks `verify`, and runs the job again."""
        tallies = []
        for damage in DAMAGES:
            tally = Tally(f"damage: {damage.__name__}")
            tallies.append(tally)
            for _ in self._in_time(range(count)):
                with self._place() as place:
                    shutil.copytree(self._to_damage(), place)
                    name = self._draw.choice([each for each in _files(place) if "tensorboard" not in each])
                    if not damage(os.path.join(place, name), self._draw):
                        tally.add("nothing to damage")
                        continue
                    self._judge_damage(tally, place, name)
        return tallies

    def _to_damage(self) -> str:
        """The run that is damaged next, as a copy."""
        return self.whole

    def _judge_damage(self, tally: Tally, place: str, name: str) -> None:
        seen, before = not is_whole(place), content_of(place)
        outcome = self._run(place)
        if is_told(outcome):
            changed = content_of(place) != before
            tally.add("seen, refused in one message", f"{name}: and files were changed" if changed else "")
        elif outcome.kind != "finished":
            tally.add(outcome.kind, f"{name}: {outcome.text[-500:]}")
        elif self._is_same(place):
            tally.add("seen, and mended" if seen else "not seen, harmless")
        elif self._is_same(place, but=damaged_files(place)):
            tally.add("seen, and not needed any more")
        else:
            tally.add("another result", f"{name}: {'seen' if seen else 'not seen'}")

    def _must_be_told(self, tally: Tally, outcome: children.Outcome, place: str, what: str) -> None:
        if outcome.kind == "finished":
            tally.add("finished all the same", "" if self._is_same(place) else what)
        elif not is_told(outcome):
            tally.add(outcome.kind, f"{what}: {outcome.text[-800:]}")
        else:
            self.go_on(tally, place, what)

    def go_on(self, tally: Tally, place: str, what: str, same: str = "same result") -> None:
        """Runs the job again: it must end as the undisturbed one has, which counts under the name `same`."""
        outcome = self._run(place)
        if outcome.kind != "finished":
            tally.add(f"then {outcome.kind}", f"{what}: {outcome.text[-800:]}")
        elif not self._is_same(place):
            tally.add("another result", what)
        elif not is_whole(place):
            tally.add("same result, and not whole", what)
        else:
            tally.add(same)

    def _in_time(self, trials: Iterable[T]) -> Iterator[T]:
        return itertools.takewhile(lambda _: time.monotonic() < self._end, trials)

    def _is_same(self, place: str, but: set[str] | None = None) -> bool:
        """Whether a run has come to what the undisturbed one has, but for some files, which are never its results."""
        passed_over = (but or set()) - {"results.json"}
        found, expected = content_of(place), dict(self._expected)
        for name in passed_over:
            found.pop(name, None)
            expected.pop(name, None)
        return found == expected

    def _run(self, place: str, fault: Fault = NO_FAULT) -> children.Outcome:
        return self._runner(place, fault)

    @contextlib.contextmanager
    def _place(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield os.path.join(folder, "run")


_LINES = 12  # of a refusal: notices, and a difference of configurations, have a line each


def is_told(outcome: children.Outcome) -> bool:
    """Whether a job ended with a message of a few lines, beside what it told of its phases before."""
    message = [line for line in outcome.text.splitlines() if not line.startswith("phase")]
    return outcome.kind == "told" and 0 < len(message) <= _LINES


def damaged_files(place: str) -> set[str]:
    """What `verify` says is not whole; of a phase whose mark is lost, all files. `the folder` if it is no run."""
    try:
        named = {verdict.path for verdict in verify.verdicts(place) if verdict.state == verify.DAMAGED}
    except checks.UsageError:
        return {"the folder"}
    unmarked = [os.path.dirname(name) for name in named if name.endswith("COMPLETE")]
    return named | {name for name in _files(place) if name.startswith(tuple(f"{each}/" for each in unmarked))}


def is_whole(place: str) -> bool:
    """Whether `verify` says that nothing is damaged."""
    return not damaged_files(place)


def _files(place: str) -> list[str]:
    found = (
        os.path.relpath(os.path.join(parent, name), place) for parent, _, names in os.walk(place) for name in names
    )
    return sorted(name for name in found if name != ".lock")


def content_of(place: str) -> dict[str, object]:
    """What a run has come to, in a form that can be compared."""
    found: dict[str, object] = {}
    for name in _files(place):
        if (
            os.path.basename(name) in _UNCOMPARED
            or f"/{_MODEL}/" in name
            or not name.startswith(("phases/", "results.json", "data.json"))
        ):
            continue
        with open(os.path.join(place, name), "rb") as file:
            content = file.read()
        if name.endswith(".json"):
            with contextlib.suppress(ValueError):
                value = json.loads(content)
                if name == "results.json" and isinstance(value, dict):
                    value.pop("checksum", None)  # of the times, too
                found[name] = json.dumps(_without_times(value), sort_keys=True)
                continue
        found[name] = _weights(content) if name.endswith(".h5") and content[1:4] == b"HDF" else content
    return found


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in _TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _weights(content: bytes) -> list[bytes]:
    """The arrays of a file of weights: HDF5 keeps the time in it."""
    import h5py

    arrays: list[bytes] = []
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems(lambda name, item: arrays.append(item[()].tobytes()) if hasattr(item, "dtype") else None)
    except (OSError, RuntimeError, KeyError, ValueError):
        return [content]
    return arrays


def every_call(count: int) -> list[tuple[int, bool]]:
    """Each of so many calls, before and after."""
    return [(call, after) for call in range(count) for after in (False, True)]


def every_error(count: int) -> list[tuple[int, int]]:
    """Each of so many calls with each error."""
    return [(call, number) for call in range(count) for number in ERRORS]
