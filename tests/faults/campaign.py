"""The campaign of faults: `bash launch/faults.sh --storage=20 --whole=10`. Writes docs/faults.md.

Exit code 0 if every trial ended as it should, else 1; trials that did not are told one by one.
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
from collections.abc import Iterable, Iterator

import storage_job
from trials import Tally, Trials, every_call, every_error

ROOT = pathlib.Path(__file__).resolve().parents[2]
_MEMORY = "/dev/shm"  # syncs take no time there, and a process that is killed loses nothing of what it has written
_PAGE = ROOT / "docs" / "faults.md"
_BEGIN, _END = "<!-- bash launch/faults.sh --{} -->", "<!-- end -->"


def storage_trials(trials: Trials, count: int, every: int) -> Iterator[Tally]:
    """Of the small job: each call, or every so many, with each error, and so many damages of each kind."""
    yield trials.kill_at_calls(every_call(trials.calls)[::every])
    yield trials.kill_at_random(5 * count)
    yield trials.errors_at_calls(every_error(trials.calls)[::every])
    yield trials.full_disks([1, 100, 500, 1_000, 2_000, 4_000, 6_000, 10_000, 15_000, 19_999])
    yield trials.small_disks(["16k", "32k", "48k", "64k", "96k", "128k", "160k"])
    yield from trials.damage(2 * count)


def whole_trials(trials: Trials, count: int, draw: random.Random) -> Iterator[Tally]:
    """Of the whole job: each trial takes as long as a run and a half."""
    yield trials.kill_at_random(count)
    yield trials.kill_at_calls([(draw.randrange(trials.calls), draw.random() < 0.5) for _ in range(count)])
    yield trials.full_disks([2_000, 20_000, 60_000][: max(1, count // 3)])
    yield from trials.damage(max(1, count // 5))


def main() -> int:
    """Runs the trials that the flags ask for, writes the page, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", type=int, default=20, help="size of the small job's campaign; 0 for none")
    parser.add_argument("--whole", type=int, default=10, help="size of the whole job's campaign; 0 for none")
    parser.add_argument("--every", type=int, default=1, help="of the small job's calls, only each so many is tried")
    parser.add_argument("--minutes", type=float, default=60, help="of each job, after which no trial is begun any more")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--page", type=pathlib.Path, default=_PAGE, help="the page whose figures are replaced")
    flags = parser.parse_args()
    failures: list[str] = []
    sections = {}
    draw = random.Random(flags.seed)
    room = _MEMORY if os.path.isdir(_MEMORY) else None
    with tempfile.TemporaryDirectory(dir=room) as folder:
        if flags.storage:
            small = Trials(storage_job.run, folder, draw, 60 * flags.minutes)
            tallies = storage_trials(small, flags.storage, flags.every)
            sections["storage"] = _section("The folder alone", small, tallies, failures)
    if flags.whole:
        import whole_job  # and with it TensorFlow, once for all children

        with tempfile.TemporaryDirectory(dir=room) as folder:
            whole = Trials(whole_job.run, folder, draw, 60 * flags.minutes)
            sections["whole"] = _section("Whole runs", whole, whole_trials(whole, flags.whole, draw), failures)
    _write(flags.page, sections, flags.seed)
    for failure in failures:
        print(f"FAILED  {failure}", file=sys.stderr)
    return 1 if failures else 0


def _section(title: str, trials: Trials, tallies: Iterable[Tally], failures: list[str]) -> str:
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
        failures += tally.failures
        total.update(trials=tried, failed=len(tally.failures))
    minutes = (time.monotonic() - start) / 60
    told = f"{total['trials']} trials in {minutes:.0f} minutes, {total['failed']} of them ended as they must not."
    counted = f"The undisturbed job makes {trials.calls} calls that change the file system."
    head = "| what was done | trials | how they ended | must not be |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {title}", "", f"{told} {counted}", "", head, *rows, ""])


def _write(page: pathlib.Path, sections: dict[str, str], seed: int) -> None:
    """Puts figures in the place of those that the page has of the same job."""
    for job, section in sections.items():
        begin = _BEGIN.format(job)
        before, _, rest = page.read_text(encoding="utf-8").partition(begin)
        _, _, after = rest.partition(_END)
        told = f"Measured on {datetime.date.today().isoformat()}, seed {seed}."
        page.write_text("\n".join([f"{before}{begin}", "", told, "", f"{section}{_END}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
