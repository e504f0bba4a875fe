"""So many damages of each kind of file that a run holds, finished or not: seen, or harmless, and never another result.

A trial damages one file, asks `verify`, and asks whoever else reads that file without going on with the run (`report`,
`predict`). Then the job is run up to where it would learn (`beginnings`). What it would learn from must be what
the undamaged folder has it learn from; a snapshot may be missing if that was said. Of those trials some
go on to the end, and must come to the same bytes. Jobs that have nothing to learn end, and are compared as such.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from beginnings import told, until_it_learns
from children import Outcome
from kinds import Damager, files_by_kind
from readers import answers_of, asked
from trials import Tally, Trials, content_of, damaged_files, is_told
from workers import Stops, Worker

_UNFINISHED = 7  # states of a run under way that are damaged
_PHASES = 2  # of the jobs
_READ = ("COMPLETE", "config.gin", "results.json", "saved_model/")  # by others than the run itself


@dataclasses.dataclass(frozen=True)
class Base:
    """A folder of which copies are damaged.

    Attributes:
      place: its path.
      kinds: its files by their kinds.
      begins: what the job would learn from there; None if it is finished.
      earlier: the same by the phase that it begins with, where that and what follows is set aside.
      answers: what those say who read it.
    """

    place: str
    kinds: dict[str, list[str]]
    begins: dict[str, Any] | None
    earlier: dict[int, dict[str, Any]]
    answers: dict[str, str]


class FileTrials(Trials):
    """The trials of one job.

    Args:
      job: is given the folder of a run.
      folder: where trials have their folders.
      draw: decides which file is damaged, and how.
      seconds: after which no further trial is begun.
      ends_every: one of so many trials in which something would be learned goes on to the end.
    """

    def __init__(
        self,
        job: Callable[[str], None],
        folder: str,
        draw: random.Random,
        seconds: float = float("inf"),
        ends_every: int = 20,
    ):
        self._worker, self._beginner = Worker(job), Worker(until_it_learns(job))
        self._reader = Worker(asked)
        self._worker.run(os.path.join(folder, "first"))  # compiles what later runs find, and takes longer than they
        super().__init__(self._worker.run, folder, draw, seconds)
        self._damager, self._ends_every, self._ended = Damager(draw), ends_every, 0
        self._bases = [self._base(self.whole), *map(self._base, self._unfinished())]

    @property
    def kinds(self) -> list[str]:
        """All kinds of file that the job leaves."""
        return sorted({kind for base in self._bases for kind in base.kinds})

    def close(self) -> None:
        """Ends the processes that run the job."""
        for worker in (self._worker, self._beginner, self._reader):
            worker.close()

    def damage_kind(self, kind: str, count: int) -> Tally:
        """Damages so many files of a kind, in each way in turn; half of them in the finished run, if it has any."""
        tally = Tally(kind)
        having = [base for base in self._bases if kind in base.kinds]
        finished, unfinished = [each for each in having if not each.begins], [each for each in having if each.begins]
        for number in self._in_time(range(count)):
            base = self._draw.choice((finished if number % 2 else unfinished) or having)
            with self._place() as place:
                shutil.copytree(base.place, place)
                name = self._draw.choice(base.kinds[kind])
                suffix = os.path.splitext(name)[1]
                others = [each for paths in base.kinds.values() for each in paths if each.endswith(suffix)]
                way = self._damager.damage(place, name, others)
                self._judge(tally, base, place, f"{way} of {name} ({'' if not base.begins else 'un'}finished)")
        return tally

    def _judge(self, tally: Tally, base: Base, place: str, what: str) -> None:
        damaged, before = damaged_files(place), content_of(place)
        if tally.name.startswith(_READ):
            self._check_readers(tally, base, place, what)
        outcome = self._beginner.run(place)
        begins = told(place)
        if is_told(outcome):
            changed = content_of(place) != before
            tally.add("refused in one message", f"{what}: and files were changed" if changed else "")
        elif outcome.kind != "finished":
            tally.add(outcome.kind, f"{what}: {outcome.text[-500:]}")
        elif begins is None:
            self._judge_end(tally, place, damaged, what)
        elif (failure := self._of_beginning(base, begins, outcome, place, damaged)) is not None:
            tally.add(failure, f"{what}: {begins}, {base.begins} {outcome.text[-500:]}")
        else:
            self._judge_beginning(tally, place, damaged, what)

    def _judge_end(self, tally: Tally, place: str, damaged: set[str], what: str) -> None:
        """Of a run that had nothing to learn, or has gone on to its end."""
        if self._is_same(place):
            tally.add("seen, and mended" if damaged else "harmless")
        elif damaged and self._is_same(place, but=damaged_files(place)):
            tally.add("seen, and not needed any more")
        else:
            tally.add("another result", f"{what}: {'seen' if damaged else 'not seen'}")

    def _of_beginning(
        self, base: Base, begins: dict[str, Any], outcome: Outcome, place: str, damaged: set[str]
    ) -> str | None:
        """What is wrong with what the job would learn from; None if nothing is."""
        expected = base.earlier[begins["phase"]]
        if begins["state"] != expected["state"]:
            return "learns from another state"
        for stage, found in begins["stages"].items():
            if found is None and f"{stage}.npz is not used" not in outcome.text:
                return "a snapshot is lost in silence"
            if found is not None and found != expected["stages"].get(stage):
                return "goes on from another snapshot"
        kept = {f"phases/{phase:03d}/" for phase in range(begins["phase"])}
        content, whole = content_of(place), self._expected
        names = [name for name in whole if name.startswith(tuple(kept)) and name not in damaged]
        return None if all(content.get(name) == whole[name] for name in names) else "earlier phases are others"

    def _judge_beginning(self, tally: Tally, place: str, damaged: set[str], what: str) -> None:
        self._ended += 1
        if self._ended % self._ends_every:
            tally.add("seen, and learned again from the same" if damaged else "harmless")
            return
        outcome = self._worker.run(place)
        if outcome.kind != "finished":
            tally.add(f"then {outcome.kind}", f"{what}: {outcome.text[-500:]}")
        else:
            self._judge_end(tally, place, damaged, what)

    def _check_readers(self, tally: Tally, base: Base, place: str, what: str) -> None:
        outcome = self._reader.run(place)
        if outcome.kind != "finished":
            tally.failures.append(f"{tally.name}, {what}: whoever reads the run ends as {outcome.text[-500:]}")
            return
        for reader, answer in answers_of(place).items():
            if not answer.startswith("refused") and answer != base.answers[reader]:
                tally.failures.append(
                    f"{tally.name}, {what}: {reader} reads something else: {answer}, {base.answers[reader]}"
                )

    def _base(self, place: str) -> Base:
        """A folder with what is expected of undamaged copies of it."""
        with self._place() as copy:
            shutil.copytree(place, copy)
            read, outcome = self._reader.run(copy), self._beginner.run(copy)
            if read.kind != "finished" or outcome.kind != "finished":
                raise RuntimeError(f"The undamaged job cannot be read:\n{read.text}\n{outcome.text}")
            begins, answers = told(copy), answers_of(copy)
            earlier = {} if begins is None else {begins["phase"]: begins}
            for phase in reversed(range(_PHASES if begins is None else begins["phase"])):
                shutil.rmtree(os.path.join(copy, "phases", f"{phase:03d}"))
                self._beginner.run(copy)
                earlier[phase] = told(copy) or {}
            return Base(place, files_by_kind(place), begins, earlier, answers)

    def _unfinished(self) -> list[str]:
        """Copies of what a run's folder holds at random moments after its first snapshot."""
        kept: list[str] = []
        moments = sorted(self._draw.uniform(0.05, 1) * self.seconds for _ in range(_UNFINISHED))
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            place = os.path.join(folder, "run")

            def keep() -> None:
                if os.path.isdir(os.path.join(place, "phases")):
                    kept.append(os.path.join(self._folder, f"unfinished{len(kept)}"))
                    shutil.copytree(place, kept[-1], symlinks=True)

            self._worker.run(place, stops=Stops(keep, moments))
        return kept
