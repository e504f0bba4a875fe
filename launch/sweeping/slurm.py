"""A Slurm array script of a sweep, with one task a run."""

from __future__ import annotations

import os
import pathlib
import shlex
import sys

from mnemonics_tf import checks
from sweeping import scheduler
from sweeping.grid import ROOT


def write_script(path: str, grid_file: str, output_dir: pathlib.Path, num_runs: int, jobs: int) -> None:
    """Writes the script. The folder of logs must exist before it is submitted: Slurm does not make it.

    Args:
      path: where the script is written to.
      grid_file: the gin file of the grid.
      output_dir: the folder of all runs, an absolute path.
      num_runs: how many runs the grid has.
      jobs: how many tasks may run at once.

    Raises:
      UsageError: a file is there already, or it cannot be written.
    """
    text = _script(path, os.path.abspath(grid_file), output_dir, num_runs, jobs)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise checks.UsageError(
            f"--slurm = {path}: the file exists, and may have been edited. Name another, or delete it."
        ) from None
    except OSError as error:
        raise checks.UsageError(f"--slurm = {path}: cannot be written ({error.strerror}).") from error


def _script(path: str, grid_file: str, output_dir: pathlib.Path, num_runs: int, jobs: int) -> str:
    sweep = str(ROOT / "launch/sweep.py")
    task = shlex.join([sys.executable, sweep, f"--grid={grid_file}", f"--output_dir={output_dir}"])
    log = str(scheduler.logs_dir(output_dir) / "slurm-").replace("%", "%%") + "%a.txt"
    for text in (path, grid_file, log):
        if not text.isprintable():  # a line break would end a comment or an #SBATCH line
            raise checks.UsageError(f"--slurm: the path {text!r} has characters that a Slurm script cannot hold.")
    return f"""#!/usr/bin/env bash
# The {num_runs} runs of {grid_file}, one task a run.
#
# Submit:  sbatch {shlex.quote(path)}
#
# Submitted again, it goes on: finished runs are left alone, others go on from the step they were in. The tasks
# read the grid when they start, so leave it as it is until all have. Edit the lines below to suit your cluster.
#SBATCH --job-name=sweep
#SBATCH --array=0-{num_runs - 1}%{jobs}
#SBATCH --output={_sbatch_quoted(log)}
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00

set -euo pipefail
cd {shlex.quote(str(ROOT))}
exec {task} --only="$SLURM_ARRAY_TASK_ID"
"""


def _sbatch_quoted(text: str) -> str:
    """As #SBATCH lines quote: within double quotes, with backslashes before what would end them."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
