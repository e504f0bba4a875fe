"""Runs a grid of experiments, methods x exemplars x N x seeds.

    python launch/sweep.py --grid=configs/sweeps/digits.gin

The same command goes on where an earlier sweep stopped: finished runs are left alone unless a gin file of theirs has
changed, others go on from the step they were in. Runs share their trained phase 0 where their settings allow it.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from sweeping import process, scheduler, screen, slurm
from sweeping.grid import PlannedRun, file_of, read_grid
from sweeping.output import folder_of, prepared
from sweeping.progress import Entry, State

from mnemonics_tf import checks
from mnemonics_tf.system import stopping
from mnemonics_tf.system.screen import STOPPED, USAGE_ERROR, parse_flags, say, shown

_GRID = flags.DEFINE_string("grid", None, "The grid's gin file, such as configs/sweeps/digits.gin.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of all runs. Default: runs/<name of the grid's file>.")
_JOBS = flags.DEFINE_integer("jobs", 1, "How many runs go on at once; they share cores and GPUs.")
_ONLY = flags.DEFINE_integer("only", None, "Runs the run of this index alone, counted from 0 in the grid's order.")
_SLURM = flags.DEFINE_string("slurm", None, "Starts nothing; writes a Slurm array script to this file.")

RUN_COMMAND = (sys.executable, "-m", "mnemonics_tf.main")

FAILED = 1


def main(argv: list[str], command: Sequence[str] = RUN_COMMAND) -> int:
    """Does what the flags say.

    Args:
      argv: the command line without its flags.
      command: what starts a run; its arguments are added.

    Returns:
      The exit code: 0 if all runs are finished, 1 if one is not, 3 if a signal has stopped the sweep.
    """
    logging.set_verbosity(logging.FATAL)
    try:
        grid_file = file_of(argv, _GRID.value, "configs/sweeps/digits.gin")
        checks.check_positive_integer(**{"--jobs": _JOBS.value})
        runs = _chosen(read_grid(grid_file).runs())
        shown_dir = folder_of(_OUTPUT_DIR.value, grid_file)
        output_dir = prepared(shown_dir, scheduler.LOGS)
        if _SLURM.value is not None:
            script = os.path.expanduser(_SLURM.value)
            slurm.write_script(script, grid_file, output_dir, len(runs), _JOBS.value)
            print(f"{len(runs)} runs. Submit them with: sbatch {shlex.quote(script)}")
            return 0
    except checks.UsageError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return USAGE_ERROR
    with process.Stop() as stop:
        work = scheduler.Scheduler(runs, output_dir, command, _JOBS.value)
        work.work(screen.shower(sys.stdout), stop)
    if stop.signal_number is not None:
        print(f"sweep: stopped. {_how_to_go_on()}", file=sys.stderr)
        return 128 + signal.SIGINT if stop.is_hurried else STOPPED
    say(f"\ntables  python -m mnemonics_tf.report {shlex.quote(shown_dir)}")
    return _report_unfinished(work.entries)


def _how_to_go_on() -> str:
    return f"To go on: {shlex.join(['python', *sys.argv])}"


def _chosen(runs: list[PlannedRun]) -> list[PlannedRun]:
    """The runs that --only leaves. Raises UsageError if there is none of that index."""
    if _ONLY.value is None:
        return runs
    if _SLURM.value is not None:
        raise checks.UsageError("--slurm and --only: the script's tasks are all runs. Leave one of them out.")
    if not 0 <= _ONLY.value < len(runs):
        raise checks.UsageError(f"--only = {_ONLY.value}: expected 0 to {len(runs) - 1}, for {len(runs)} runs.")
    return [runs[_ONLY.value]]


def _report_unfinished(entries: Sequence[Entry]) -> int:
    """Lists the runs that are not finished. Returns the exit code."""
    failed = [entry for entry in entries if entry.state == State.FAILED]
    busy = [entry for entry in entries if entry.state == State.BUSY]
    for entry in failed:
        said = shown(entry.message) or "it said nothing"
        how = "failed" if entry.exit_code is None else f"failed with exit code {entry.exit_code}"
        print(f"sweep: {entry.run.name} {how}: {said}\n       {entry.log}", file=sys.stderr)
    for entry in busy:
        print(f"sweep: {entry.run.name} is being run by another process, and was left to it.", file=sys.stderr)
    return FAILED if failed or busy else 0


if __name__ == "__main__":
    stopping.end_in_one_line("sweep", _how_to_go_on(), STOPPED)
    app.run(main, flags_parser=functools.partial(parse_flags, "sweep"))
