"""Measures training step and meta-step against PyTorch; launch/benchmark.sh prepares the environment and calls this.

Each case has a process of its own. The processes of a group take turns, A B C, A B C, ..., so that what else the
machine does falls on all of them alike. An idle one waits for a line on its standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import cases
import machine
import report
from results import Measured, Results, predicted_memory
from worker import CaseFailed, Worker

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
BUSY = 0.05
TURN_SECONDS = 30 * cases.MINUTE

# What must be left when a case has all the memory that it is predicted to take.
_MEMORY_MARGIN = 1e9


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        self.exit(USAGE_ERROR, f"benchmark.sh: {message} (see --help)\n")


def main() -> int:
    """Measures, prints and writes. Returns the exit code."""
    started = time.perf_counter()
    options = parse_options()
    pythons = {cases.TENSORFLOW: sys.executable, cases.PYTORCH: options.torch_python}
    output_dir = pathlib.Path(options.output_dir or ("runs/benchmark_quick" if options.quick else "docs"))
    if problem := pytorch_problem(options.torch_python) or folder_problem(output_dir):
        print(f"benchmark.sh: {problem}", file=sys.stderr)
        return USAGE_ERROR
    facts = {"made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), **machine.describe()}
    others = machine.Others()
    try:
        differences, versions = same_numbers(pythons)
    except CaseFailed as error:
        print(f"benchmark.sh: the comparison of the two frameworks {error}", file=sys.stderr)
        return FAILED
    measured: list[Measured] = []
    for group in cases.groups(options.quick):
        measure(group, pythons, measured)
    facts |= versions
    facts["took"] = f"{(time.perf_counter() - started) / cases.MINUTE:.0f} minutes"
    share = others.share()
    facts["used by others"] = "unknown" if share is None else f"{share:.0%} of the cores' time"
    results = Results(measured)
    tables = report.header(facts, options.quick) + report.tables(results, differences)
    print(f"\n{tables}")
    write(output_dir, tables, report.as_json(results, differences, facts))
    if share is not None and share > BUSY:
        print(f"The rest of the machine used {share:.0%} of the cores' time. {report.BUSY_NOTE}", file=sys.stderr)
    return exit_code(measured, differences)


def parse_options() -> argparse.Namespace:
    """The command line; a mistake in it ends the program."""
    parser = Parser(prog="benchmark.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a few cases and two rounds")
    parser.add_argument(
        "--torch_python", default=sys.executable, help="interpreter of another environment with PyTorch"
    )
    parser.add_argument("--output_dir", help="folder of benchmarks.md and benchmarks.json")
    return parser.parse_args()


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


def same_numbers(pythons: dict[str, str]) -> tuple[dict[str, float], dict[str, str]]:
    """Relative differences between the two frameworks, and their versions.

    Raises:
      CaseFailed: a process ended.
    """
    print("Both frameworks on the same weights and images ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"file": str(pathlib.Path(folder, "numbers.npz"))}
        answers = {}
        for framework in (cases.TENSORFLOW, cases.PYTORCH):
            with Worker(pythons[framework], cases.Case(framework, "", "same_numbers", settings)) as worker:
                answers[framework] = worker.turn(TURN_SECONDS)
                answers[framework]["about"] = worker.about
    differences = answers[cases.PYTORCH]["differences"]
    for name, difference in differences.items():
        print(f"  {name}: {difference:.1e}")
    for name in report.same_numbers_failures(differences):
        print(f"  NOT THE SAME: {name}")
    tensorflow, pytorch = (answers[framework]["about"] for framework in (cases.TENSORFLOW, cases.PYTORCH))
    versions = {
        "Python": tensorflow["python"],
        "TensorFlow": f"{tensorflow['tensorflow']}, Keras {tensorflow['keras']}, {tensorflow['threads']} threads",
        "PyTorch": f"{pytorch['pytorch']}, Python {pytorch['python']}, {pytorch['threads']} threads",
    }
    return differences, versions


def measure(group: cases.Group, pythons: dict[str, str], measured: list[Measured]) -> None:
    """Runs the processes of a group; adds what each of its cases took to `measured`."""
    print(f"\n{group.title}: {len(group.cases)} cases, {group.rounds} rounds", flush=True)
    with contextlib.ExitStack() as stack:
        live: list[tuple[Measured, Worker]] = []
        for case in group.cases:
            entry = Measured(case, group, reason=memory_problem(case, group, measured))
            measured.append(entry)
            with recording_failure(entry):
                if entry.reason is None:
                    worker = stack.enter_context(Worker(pythons[case.framework], case))
                    entry.about = worker.about
                    answer = worker.turn(case.first_limit)
                    entry.first_seconds, entry.peak_memory = answer["seconds"], answer["peak_memory"]
                    live.append((entry, worker))
            first = entry.reason or f"first call {entry.first_seconds:.2f} s"
            print(f"  {case.name}: {first}", flush=True)
        for number in range(1, group.rounds + 1):
            for entry, worker in live:
                with recording_failure(entry):
                    if entry.reason is None:
                        answer = worker.turn(TURN_SECONDS)
                        entry.seconds.append(answer["seconds"])
                        entry.peak_memory = answer["peak_memory"]
            latest = ", ".join(f"{entry.case.name} {entry.seconds[-1]:.2f} s" for entry, _ in live if entry.seconds)
            print(f"  round {number}: {latest}", flush=True)


@contextlib.contextmanager
def recording_failure(entry: Measured):
    """A case that fails is noted; the others go on."""
    try:
        yield
    except CaseFailed as error:
        entry.reason = str(error)


def memory_problem(case: cases.Case, group: cases.Group, measured: list[Measured]) -> str | None:
    """Why there is not enough memory for a case; None if there is, or no telling."""
    needed, available = predicted_memory(case, group, measured), machine.available_memory()
    if needed is None or available is None or needed + _MEMORY_MARGIN <= available:
        return None
    return f"not run: it would take some {needed / 1e9:.0f} GB, and {available / 1e9:.0f} GB are free"


def write(folder: pathlib.Path, markdown: str, data: dict) -> None:
    """Writes both files and says where they are."""
    for name, text in (("benchmarks.md", markdown), ("benchmarks.json", json.dumps(data, indent=1) + "\n")):
        (folder / name).write_text(text, encoding="utf-8")
        print(f"written  {folder / name}")


def exit_code(measured: list[Measured], differences: dict[str, float]) -> int:
    """1 if the frameworks differ or a case broke; a case left out for want of memory or time is stated only."""
    stated = ("not run", "given up")
    broken = [entry for entry in measured if entry.reason and not entry.reason.startswith(stated)]
    for entry in broken:
        print(f"benchmark.sh: {entry.group.title}, {entry.case.name}: {entry.reason}", file=sys.stderr)
    return FAILED if broken or report.same_numbers_failures(differences) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("benchmark.sh: interrupted; nothing was written.", file=sys.stderr)
        sys.exit(INTERRUPTED)
