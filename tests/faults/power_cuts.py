"""Power cuts: a job runs in a file system of its own, whose image is copied while the job stands still.

The image holds what the system had given to the disk by then. What was only in the memory of the file system, unsynced,
is not in it, just as if the power had gone. Needs `mkfs.ext4`, and to be root for loop mounts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from children import NO_FAULT
from trials import Tally, Trials, damaged_files, every_call
from workers import Stops, Worker

_SIZE = "64M"
_CUTS_A_RUN = 5


def cut_power(trials: Trials, worker: Worker, count: int, journal: bool, draw: random.Random) -> Tally:
    """Goes on from what a disk holds after a cut; what `results.json` told of before the cut must not be lost.

    Args:
      trials: says what the job should come to.
      worker: runs the same job.
      count: of cuts, at random calls that change the file system.
      journal: whether ext4 has one.
      draw: decides at which.
    """
    tally = Tally(f"power cut, ext4 {'with' if journal else 'without'} journal")
    for done in range(0, count, _CUTS_A_RUN):
        calls = sorted(draw.sample(every_call(trials.calls), min(_CUTS_A_RUN, count - done)))
        with tempfile.TemporaryDirectory() as folder:
            cuts = _cuts_at(worker, calls, os.path.join(folder, "disk"), journal)
            if cuts is None:
                return tally
            for cut, call in zip(cuts, calls, strict=True):
                _judge(trials, tally, cut, journal, f"at {call}")
    return tally


@dataclasses.dataclass(frozen=True)
class _Cut:
    """What a cut has left: the image, and how many phases were told of in `results.json` before."""

    image: str
    phases: int


def _cuts_at(worker: Worker, calls: list[tuple[int, bool]], disk: str, journal: bool) -> list[_Cut] | None:
    """Copies of a disk on which the job runs, at some of its calls; None where no disk can be made."""
    cuts: list[_Cut] = []
    _called("truncate", "-s", _SIZE, disk)
    if not _called("mkfs.ext4", "-q", "-F", *(() if journal else ("-O", "^has_journal")), disk):
        return None
    with _mounted(disk) as place:
        if place is None:
            return None
        run = os.path.join(place, "run")

        def keep() -> None:
            image = f"{disk}.{len(cuts)}"
            shutil.copyfile(disk, image)
            cuts.append(_Cut(image, _phases_told(run)))

        outcome = worker.run(run, NO_FAULT, Stops(keep, calls=calls))
    if outcome.kind != "finished":
        raise RuntimeError(f"The job has failed on a disk of its own:\n{outcome.text}")
    return cuts


def _phases_told(run: str) -> int:
    try:
        with open(os.path.join(run, "results.json"), encoding="utf-8") as file:
            return len(json.load(file)["phases"])
    except OSError:
        return 0


def _judge(trials: Trials, tally: Tally, cut: _Cut, journal: bool, what: str) -> None:
    if not journal:
        _called("e2fsck", "-f", "-y", cut.image)
    with tempfile.TemporaryDirectory() as folder, _mounted(cut.image) as disk:
        place = os.path.join(folder, "run")
        if disk is not None and os.path.isdir(os.path.join(disk, "run")):
            shutil.copytree(os.path.join(disk, "run"), place)
        kept = len(glob.glob(os.path.join(place, "phases", "*", "COMPLETE")))
        if kept < cut.phases or (kept and _phases_told(place) > kept):
            tally.add("a phase is lost", f"{what}: {kept} phases are there, {cut.phases} were told of")
            return
        # Before the first phase is noted, `verify` finds no run, or no results.
        damaged = (damaged_files(place) if kept else set()) - {"results.json"}
        trials.go_on(tally, place, what, "same result, after damage was set aside" if damaged else "same result")


@contextlib.contextmanager
def _mounted(image: str) -> Iterator[str | None]:
    """The folder in which an image is mounted; None where this process may not."""
    with tempfile.TemporaryDirectory() as place:
        if not _called("mount", "-o", "loop", image, place):
            yield None
            return
        try:
            yield place
        finally:
            if not _called("umount", place):
                _called("umount", "-l", place)


def _called(*command: str) -> bool:
    """Whether a command has ended without an error."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
