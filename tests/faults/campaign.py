"""The campaign of faults: `bash launch/faults.sh --jobs=storage,digits`. Writes docs/faults.md.

Exit code 0 if every trial ended as it should, else 1; trials that did not are told one by one, as they come.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import children
import storage_job
from children import NO_FAULT, Fault
from file_trials import FileTrials
from loading_trials import LoadingTrials
from power_cuts import cut_power
from trials import Tally, Trials, every_call, every_error
from whole_trials import WholeTrials, killed
from worker_trials import WorkerTrials
from workers import Worker

ROOT = pathlib.Path(__file__).resolve().parents[2]
_MEMORY = "/dev/shm"  # syncs take no time there, and a process that is killed loses nothing of what it has written
_PAGE = ROOT / "docs" / "faults.md"
_JOBS = ("storage", "cuts", "digits", "folder", "files", "workers")
_BEGIN, _END = "<!-- bash launch/faults.sh --jobs={} -->", "<!-- end -->"


def storage_trials(trials: Trials, count: int, every: int) -> Iterator[Tally]:
    """Of the small job: each call, or every so many, with each error, and so many damages of each kind."""
    yield trials.kill_at_calls(every_call(trials.calls)[::every])
    yield trials.kill_at_random(5 * count)
    yield trials.errors_at_calls(every_error(trials.calls)[::every])
    yield trials.full_disks([1, 100, 500, 1_000, 2_000, 4_000, 6_000, 10_000, 15_000, 19_999])
    yield trials.small_disks(["16k", "32k", "48k", "64k", "96k", "128k", "160k"])
    yield from trials.damage(2 * count)


def whole_trials(trials: WholeTrials, count: int) -> Iterator[Tally]:
    """Of one of the whole jobs."""
    yield trials.stop_at_random(46 * count // 10)
    yield killed(trials, max(1, 4 * count // 10))
    yield trials.stop_at_calls(15 * count // 10)
    yield trials.full_at_random(max(1, 4 * count // 10))
    yield trials.full_disks([3_000, 30_000][: max(1, count // 5)])
    yield trials.errors_at_random(max(1, 6 * count // 10))
    yield from trials.damage(2 * count)


def file_trials(jobs: Mapping[str, Callable[[str], None]], folder: str, draw: random.Random, flags) -> Iterator[Tally]:
    """Of each kind of file: those of digits, then those that the job with statistics has besides, then loaded ones."""
    end = time.monotonic() + 60 * flags.minutes
    known: set[str] = set()
    for name, job in jobs.items():
        place = os.path.join(folder, name)
        os.makedirs(place)
        trials = FileTrials(job, place, draw, end - time.monotonic())
        for kind in trials.kinds:
            if kind not in known:
                yield trials.damage_kind(kind, flags.files)
        known |= set(trials.kinds)
        trials.close()
    loading = LoadingTrials(folder, draw, end - time.monotonic())
    for owner, kind in loading.kinds:
        yield loading.damage_kind(owner, kind, flags.files)


def worker_trials(trials: WorkerTrials, count: int) -> Iterator[Tally]:
    """Of two workers."""
    yield trials.lose_one(count)


def power_cuts(small: Trials, worker: Worker, count: int, draw: random.Random) -> Iterator[Tally]:
    """Of the small job, which can be cut at any call."""
    for journal in (True, False):
        yield cut_power(small, worker, count, journal, draw)


def main() -> int:
    """Runs the trials that the flags ask for, writes the page, and returns the exit code."""
    flags = _flags()
    failures: list[str] = []
    room = _MEMORY if os.path.isdir(_MEMORY) else None
    for job in flags.jobs:
        draw = random.Random(f"{flags.seed} {job}")
        with tempfile.TemporaryDirectory(dir=room) as folder:
            title, calls, tallies = _campaign(job, folder, draw, flags)
            section = _section(title, calls, tallies, failures)
        _write(flags.page, job, section, flags.seed)
    return 1 if failures else 0


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default=",".join(_JOBS), help=f"any of {', '.join(_JOBS)}, separated by commas")
    parser.add_argument("--storage", type=int, default=20, help="size of the small job's campaign")
    parser.add_argument("--whole", type=int, default=10, help="size of the campaign of each whole job")
    parser.add_argument("--cuts", type=int, default=20, help="power cuts, of each kind of file system")
    parser.add_argument("--files", type=int, default=40, help="damages of each kind of file")
    parser.add_argument("--workers", type=int, default=10, help="how often one of two workers is killed")
    parser.add_argument("--every", type=int, default=1, help="of the small job's calls, only each so many is tried")
    parser.add_argument("--minutes", type=float, default=60, help="of each job, after which no trial is begun any more")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--page", type=pathlib.Path, default=_PAGE, help="the page whose figures are replaced")
    flags = parser.parse_args()
    flags.jobs = [job.strip() for job in flags.jobs.split(",")]
    for job in flags.jobs:
        if job not in _JOBS:
            parser.error(f"--jobs: {job!r} is none of {', '.join(_JOBS)}")
        if not flags.page.is_file() or _BEGIN.format(job) not in flags.page.read_text(encoding="utf-8"):
            parser.error(f"--page: {flags.page} has no place for the figures of {job!r} ({_BEGIN.format(job)})")
    return flags


def _campaign(job: str, folder: str, draw: random.Random, flags) -> tuple[str, int | None, Iterator[Tally]]:
    """The title, the calls that the undisturbed job makes, where they are counted, and the tallies of a job."""
    seconds = 60 * flags.minutes
    if job == "workers":
        workers = WorkerTrials(folder, draw, seconds)
        return "Two workers", None, worker_trials(workers, flags.workers)
    if job in ("storage", "cuts"):
        small = Trials(_small_job, folder, draw, seconds)
        if job == "storage":
            return "The folder alone", small.calls, storage_trials(small, flags.storage, flags.every)
        return "Power cuts", small.calls, power_cuts(small, Worker(storage_job.run), flags.cuts, draw)
    import whole_job  # TensorFlow, once for all children

    if job == "files":
        jobs = {"digits": whole_job.digits_on_resnet}
        jobs["statistics"] = whole_job.with_statistics(os.path.join(folder, "images"))
        return "Each kind of file", None, file_trials(jobs, folder, draw, flags)
    run = whole_job.digits if job == "digits" else whole_job.on_folder(os.path.join(folder, "images"))
    trials = WholeTrials(Worker(run), folder, draw, seconds)
    title = "Whole runs on digits" if job == "digits" else "Whole runs on a folder of images"
    return title, trials.calls, whole_trials(trials, flags.whole)


def _small_job(place: str, fault: Fault = NO_FAULT) -> children.Outcome:
    return children.run(lambda: storage_job.run(place), fault)


def _section(title: str, calls: int | None, tallies: Iterable[Tally], failures: list[str]) -> str:
    """A heading and a table, told on the screen as they come."""
    start = time.monotonic()
    rows = []
    total: collections.Counter = collections.Counter()
    for tally in tallies:
        if not tally.counts:
            continue
        tried = sum(tally.counts.values()) - tally.counts["nothing to damage"]
        ended = ", ".join(
            f"{count} {what}" for what, count in tally.counts.most_common() if what != "nothing to damage"
        )
        rows.append(f"| {tally.name} | {tried} | {ended} | {len(tally.failures)} |")
        print(rows[-1], flush=True)
        for failure in tally.failures:
            print(f"FAILED  {failure}", file=sys.stderr, flush=True)
        failures += tally.failures
        total.update(trials=tried, failed=len(tally.failures))
    minutes = (time.monotonic() - start) / 60
    told = f"{total['trials']} trials in {minutes:.0f} minutes, {total['failed']} of them ended as they must not."
    counted = f" The undisturbed job makes {calls} calls that change the file system." if calls else ""
    head = "| what was done | trials | how they ended | must not be |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {title}", "", f"{told}{counted}", "", head, *rows, ""])


def _write(page: pathlib.Path, job: str, section: str, seed: int) -> None:
    """Puts figures in the place of those that the page has of the same job."""
    begin = _BEGIN.format(job)
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(_END)
    told = f"Measured on {datetime.date.today().isoformat()}, seed {seed}."
    page.write_text("\n".join([f"{before}{begin}", "", told, "", f"{section}{_END}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
