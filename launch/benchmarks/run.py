"""Measures what users wait for, against PyTorch where it does the same; launch/benchmark.sh calls this.

Groups of cases are in groups/, what a case's process does is in in_tensorflow/ and in_pytorch/, and harness/ gives them
turns and writes what came out.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from groups import GROUPS
from harness import machine, record, report
from harness.cases import MINUTE, PYTORCH, TENSORFLOW, Group
from harness.measured import Measured
from harness.taking_turns import measure

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
BUSY = 0.05


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        self.exit(USAGE_ERROR, f"benchmark.sh: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes. Returns the exit code."""
    options = parse_options(arguments)
    pythons = {TENSORFLOW: sys.executable, PYTORCH: options.torch_python}
    folder = pathlib.Path(options.output_dir or ("runs/benchmark_quick" if options.quick else "docs"))
    groups = [group for group in GROUPS if options.only is None or group.name in options.only]
    if problem := pytorch_problem(options.torch_python) or folder_problem(folder):
        print(f"benchmark.sh: {problem}", file=sys.stderr)
        return USAGE_ERROR
    records: dict[str, record.Record] = {}
    try:
        records = record.read(folder / "benchmarks.json")
    except record.NoRecord as error:
        if options.only is not None:  # otherwise all of it is replaced
            print(f"benchmark.sh: --only: {error}", file=sys.stderr)
            return USAGE_ERROR
    for group in groups:
        print(f"\n== {group.title}", flush=True)
        records[group.name] = measure_group(group, options.quick, pythons)
        write(folder, records, options.quick)
    print("\n" + (folder / "benchmarks.md").read_text(encoding="utf-8"))
    for name in ("benchmarks.md", "benchmarks.json"):
        print(f"written  {folder / name}")
    return exit_code(groups, records)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; a mistake in it ends the program."""
    parser = Parser(prog="benchmark.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--only", type=group_names, help="groups, such as steps,start: " + ", ".join(names()))
    parser.add_argument(
        "--torch_python", default=sys.executable, help="interpreter of another environment with PyTorch"
    )
    parser.add_argument("--output_dir", help="folder of benchmarks.md and benchmarks.json")
    return parser.parse_args(arguments)


def names() -> list[str]:
    """What `--only` takes."""
    return [group.name for group in GROUPS]


def group_names(value: str) -> list[str]:
    """The groups that `--only` names. Raises ArgumentTypeError for others."""
    chosen = [name.strip() for name in value.split(",")]
    unknown = [name for name in chosen if name not in names()]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no group: expected one or more of {', '.join(names())}, separated by commas."
        )
    return chosen


def measure_group(group: Group, quick: bool, pythons: dict[str, str]) -> record.Record:
    """Runs all heats of a group."""
    started, others = time.perf_counter(), machine.Others()
    measured: list[Measured] = []
    for heat in group.heats(quick):
        measure(heat, pythons, measured)
    share, seconds = others.share(), time.perf_counter() - started
    if share is not None and share > BUSY:
        print(f"The rest of the machine used {share:.0%} of the cores' time. {report.BUSY_NOTE}", file=sys.stderr)
    facts = {
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "took": f"{seconds / MINUTE:.1f} minutes",
        "used by others": "unknown" if share is None else f"{share:.0%} of the cores' time",
        **machine.describe(),
        **versions(measured),
    }
    return record.Record(facts, quick, measured)


def versions(measured: list[Measured]) -> dict[str, str]:
    """Of both frameworks, as far as processes of the group have told them."""
    told = {}
    for each in measured:
        if about := each.about:
            told |= {"Python": about["python"]}
            if "tensorflow" in about:
                threads = f"{about['threads']} threads"
                told["TensorFlow"] = f"{about['tensorflow']}, Keras {about['keras']}, {threads}"
            elif "pytorch" in about:
                told["PyTorch"] = f"{about['pytorch']}, {about['threads']} threads"
    return told


def pytorch_problem(python: str) -> str | None:
    """Why PyTorch cannot be imported, in a line; None if it can."""
    try:
        done = subprocess.run([python, "-c", "import numpy, torch"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"--torch_python={python} cannot be started: {error.strerror}."
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return f"PyTorch cannot be imported by {python} ({last[0]}): install requirements-benchmark.txt there."


def folder_problem(folder: pathlib.Path) -> str | None:
    """Why nothing can be written to a folder, in a line; None if it can. Makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"--output_dir={folder} cannot be written to: {error.strerror}."


def write(folder: pathlib.Path, records: dict[str, record.Record], quick: bool) -> None:
    """Writes both files; after each group, so that an interruption loses the group that is under way alone."""
    ordered = {name: records[name] for name in names() if name in records}
    data = record.as_json(ordered, report.ratios(ordered, GROUPS))
    for name, text in (("benchmarks.json", data), ("benchmarks.md", report.page(ordered, GROUPS, quick))):
        (folder / f"{name}.part").write_text(text, encoding="utf-8")
        (folder / f"{name}.part").replace(folder / name)


def exit_code(groups: list[Group], records: dict[str, record.Record]) -> int:
    """1 if a case broke or a group failed; a case left out for want of memory, time or a tool is stated only."""
    stated = ("not run", "given up")
    problems = [
        f"{each.heat.title}, {each.case.name}: {each.reason}"
        for group in groups
        for each in records[group.name].measured
        if each.reason and not each.reason.startswith(stated)
    ]
    problems += [problem for group in groups for problem in group.failures(records[group.name].results)]
    for problem in problems:
        print(f"benchmark.sh: {problem}", file=sys.stderr)
    return FAILED if problems else 0


if __name__ == "__main__":
    # Cases run in processes of their own, which must not go on without this one.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("benchmark.sh: interrupted; groups that were over are written.", file=sys.stderr)
        sys.exit(INTERRUPTED)
