"""Power cuts: a job runs in a file system of its own, whose image is copied while the job stands still.

The image holds what the system had given to the disk by then. What was only in the memory of the file system, unsynced,
is not in it, just as if the power had gone. Needs `mkfs.ext4`, and to be root for loop mounts.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from children import NO_FAULT
from trials import Tally, Trials, every_call, is_whole
from workers import Stops, Worker

_SIZE = "64M"
_CUTS_A_RUN = 5


def cut_power(trials: Trials, worker: Worker, count: int, journal: bool, draw: random.Random) -> Tally:
    """Goes on from what a disk holds after a cut.

    Args:
      trials: says what the job should come to.
      worker: runs the same job.
      count: of cuts, at random calls that change the file system.
      journal: whether ext4 has one.
      draw: decides at which.
    """
    tally = Tally(f"power cut, ext4 {'with' if journal else 'without'} journal")
    for done in range(0, count, _CUTS_A_RUN):
        number = min(_CUTS_A_RUN, count - done)
        calls = sorted(draw.sample(every_call(trials.calls), number))
        with tempfile.TemporaryDirectory() as folder:
            images = _images_at(worker, calls, os.path.join(folder, "disk"), journal)
            if images is None:
                return tally
            for image in images:
                _judge(trials, tally, image, journal, f"one of {calls}")
    return tally


def _images_at(worker: Worker, calls: list[tuple[int, bool]], disk: str, journal: bool) -> list[str] | None:
    """Copies of a disk on which the job runs, at some of its calls; None where no disk can be made."""
    images: list[str] = []

    def keep() -> None:
        images.append(f"{disk}.{len(images)}")
        shutil.copyfile(disk, images[-1])

    _called("truncate", "-s", _SIZE, disk)
    if not _called("mkfs.ext4", "-q", "-F", *(() if journal else ("-O", "^has_journal")), disk):
        return None
    with _mounted(disk) as place:
        if place is None:
            return None
        outcome = worker.run(os.path.join(place, "run"), NO_FAULT, Stops(keep, calls=calls))
    if outcome.kind != "finished":
        raise RuntimeError(f"The job has failed on a disk of its own:\n{outcome.text}")
    return images


def _judge(trials: Trials, tally: Tally, image: str, journal: bool, what: str) -> None:
    if not journal:
        _called("e2fsck", "-f", "-y", image)
    with tempfile.TemporaryDirectory() as folder, _mounted(image) as disk:
        place = os.path.join(folder, "run")
        if disk is not None and os.path.isdir(os.path.join(disk, "run")):
            shutil.copytree(os.path.join(disk, "run"), place)
        whole = not os.path.isdir(place) or is_whole(place)
        trials.go_on(tally, place, what, "same result" if whole else "same result, after damage was set aside")


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
