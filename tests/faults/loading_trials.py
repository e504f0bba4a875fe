"""So many damages of each kind of file in folders that are loaded: refused in one message, or loaded as it was."""

from __future__ import annotations

import os
import random
import shutil
import time

from children import NO_FAULT
from kinds import Damager, files_by_kind
from loaded import load, make
from trials import Tally, damaged_files, is_told
from workers import Worker

_SUFFIX = ".loaded"  # of the file beside a folder in which a worker says what it has found there


def _load(place: str) -> None:
    found = load(place)
    with open(f"{place}{_SUFFIX}", "w", encoding="utf-8") as file:
        file.write(found)


class LoadingTrials:
    """The trials of a learner's folder, of shared phases 0, and of outcomes of the instrument.

    Args:
      folder: where trials have their folders.
      draw: decides what is damaged, and how.
      seconds: after which no further trial is begun.
    """

    def __init__(self, folder: str, draw: random.Random, seconds: float = float("inf")):
        self._folder, self._draw, self._end = os.path.join(folder, "loaded"), draw, time.monotonic() + seconds
        os.makedirs(self._folder)
        making = Worker(make)
        outcome = making.run(self._folder)
        making.close()
        if outcome.kind != "finished":
            raise RuntimeError(f"Nothing can be made that could be loaded:\n{outcome.text}")
        self._worker, self._damager = Worker(_load), Damager(draw)
        self._kinds = {
            (name, kind): paths
            for name in sorted(os.listdir(self._folder))
            for kind, paths in files_by_kind(os.path.join(self._folder, name)).items()
        }
        self._expected = {name: self._loaded(os.path.join(self._folder, name))[1] for name, _ in self._kinds}

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """All kinds of file, with the folder that has them."""
        return list(self._kinds)

    def damage_kind(self, name: str, kind: str, count: int) -> Tally:
        """Damages so many files of a kind, in each way in turn."""
        titles = {"learner": f"a learner's {kind}", "shared": "a shared phase 0", "outcomes": "an instrument's outcome"}
        tally = Tally(titles[name])
        paths = self._kinds[name, kind]
        for _ in range(count):
            if time.monotonic() > self._end:
                break
            place = os.path.join(self._folder, "trial", name)
            shutil.copytree(os.path.join(self._folder, name), place)
            path = self._draw.choice(paths)
            others = [each for all_paths in files_by_kind(place).values() for each in all_paths]
            same_suffix = [each for each in others if os.path.splitext(each)[1] == os.path.splitext(path)[1]]
            way = self._damager.damage(place, path, same_suffix)
            self._judge(tally, name, place, f"{way} of {path}")
            shutil.rmtree(os.path.dirname(place))
        return tally

    def _judge(self, tally: Tally, name: str, place: str, what: str) -> None:
        seen = name == "learner" and bool(damaged_files(place))
        outcome, found = self._loaded(place)
        if is_told(outcome):
            unsaid = name == "learner" and not seen
            tally.add("refused in one message", f"{what}: verify does not say so" if unsaid else "")
        elif outcome.kind != "finished":
            tally.add(outcome.kind, f"{what}: {outcome.text[-500:]}")
        elif found != self._expected[name]:
            tally.add("loaded as something else", f"{what}: {'seen' if seen else 'not seen'}")
        elif "is damaged" in outcome.text:
            tally.add("seen, and made anew")
        else:
            tally.add("loaded as it was")

    def _loaded(self, place: str) -> tuple:
        """What became of loading, and what was found; None if nothing."""
        outcome = self._worker.run(place, NO_FAULT)
        path = f"{place}{_SUFFIX}"
        if outcome.kind != "finished":
            return outcome, None
        with open(path, encoding="utf-8") as file:
            found = file.read()
        os.remove(path)
        return outcome, found
