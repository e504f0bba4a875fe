"""What a memory is worth: from saved networks of phase 0, one real later phase with each memory of a grid.

    python launch/next_phase.py --grid=configs/sweeps/next_phase.gin --lengths=1,2 --training_seeds=2

The grid is that of `launch/sweep.py`; what it calls exemplars are the memories. Of every run the first two phases are
tried: phase 0 is trained once for all that share it, each memory is made once, and then comes the second phase, once
for each length and training seed. The table gives accuracy over all, old and new classes, bytes and steps. The same
command goes on where an earlier call stopped.
"""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING

from absl import app, flags, logging
from instrument import outcomes
from sweeping.grid import Grid, file_of, read_grid
from sweeping.output import prepared

from mnemonics_tf import checks
from mnemonics_tf.system import files
from mnemonics_tf.system.screen import explained, notice, parse_flags, quiet

if TYPE_CHECKING:
    from instrument.trials import Bench

_GRID = flags.DEFINE_string("grid", None, "The grid's gin file, such as configs/sweeps/next_phase.gin.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of outcomes. Default: runs/<name of the grid's file>.")
_LENGTHS = flags.DEFINE_list("lengths", ["1"], "By which the epochs of the later phase are multiplied.")
_TRAINING_SEEDS = flags.DEFINE_integer("training_seeds", 1, "Seeds of the later phase: 0 up to this number less one.")
_INITIAL_PHASES_DIR = flags.DEFINE_string(
    "initial_phases_dir", None, "Folder of trained initial phases. Default: one in the output's folder."
)

FAILED = 1


def main(argv: list[str]) -> int:
    """Does what the flags say. Returns the exit code: 0 if every later phase was run."""
    logging.set_verbosity(logging.FATAL)
    try:
        grid_file = file_of(argv, _GRID.value, "configs/sweeps/next_phase.gin")
        checks.check_positive_integer(**{"--training_seeds": _TRAINING_SEEDS.value})
        lengths = [_length(text) for text in _LENGTHS.value]
        if not lengths:
            raise checks.UsageError("--lengths is empty: expected numbers above 0, such as --lengths=1,2.")
        if len(set(lengths)) < len(lengths):
            raise checks.UsageError("--lengths has a number twice: both would be the same later phases. Leave one out.")
        grid = read_grid(grid_file)
        with quiet():
            from instrument.trials import Bench, Plan, configured  # TensorFlow: once the flags are known to be right

            from mnemonics_tf.run.initial_phases import InitialPhases
        for run in grid.runs():  # all of them, before the first is trained for minutes
            configured(run)
        folder = prepared(_OUTPUT_DIR.value or os.path.join("runs", pathlib.Path(grid_file).stem))
        initial_phases = InitialPhases(_INITIAL_PHASES_DIR.value or str(folder / "initial_phases"))
        bench = Bench(folder, initial_phases, Plan(lengths, range(_TRAINING_SEEDS.value)))
        return _measure(grid, folder, bench)
    except KeyboardInterrupt:
        print(f"next_phase: stopped. To go on: {shlex.join(['python', *sys.argv])}", file=sys.stderr)
        return 128 + 2
    except Exception as error:  # too little memory and a full disk among them
        code, text = explained(error, _OUTPUT_DIR.value or "runs", "the same command goes on")
        if code is None:
            raise
        print(f"next_phase: {text}", file=sys.stderr)
        return code


def _length(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise checks.UsageError(f"--lengths has {text!r}: expected numbers above 0, such as --lengths=1,2.") from None
    checks.check_positive(**{"--lengths": value})
    return value


def _measure(grid: Grid, folder: pathlib.Path, bench: Bench) -> int:
    """Runs what is still to be run; writes the table after each later phase, and prints it. Returns the exit code."""
    cells = itertools.product(grid.seeds, grid.methods, grid.exemplars, grid.num_phases)
    measured: list[outcomes.Outcome] = []
    code = 0
    for (seed, method, memory, _), run in zip(cells, grid.runs(), strict=True):
        try:
            for outcome in bench.outcomes_of(run, method, memory, seed):
                measured.append(outcome)
                files.write_text(str(folder / "table.md"), outcomes.table(measured) + "\n")
        except checks.DivergedError as error:
            notice(f"{run.name}: {error} It has no line in the table.")
            code = FAILED
    if measured:
        print(outcomes.table(measured))
        print(f"\nThis table: {folder / 'table.md'}")
    return code


if __name__ == "__main__":
    app.run(main, flags_parser=functools.partial(parse_flags, "next_phase"))
