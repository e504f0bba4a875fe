"""What a memory is worth: from saved networks of phase 0, one real later phase with each memory of a grid.

    python launch/next_phase.py --grid=configs/sweeps/next_phase.gin --lengths=1,2 --training_seeds=2

The grid is that of `launch/sweep.py`; what it calls exemplars are the memories. Of every run the first two phases are
tried: phase 0 is trained once for all that share it, each memory is made once, and then comes the second phase, once
for each length and training seed. The table gives accuracy over all, old and new classes, bytes and steps; with
`--against=MEMORY` a second one has the differences from that memory, pair by pair. Where there are several lengths,
`curves.png` shows accuracy over the number of steps. The same command goes on where an earlier call stopped.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING

from absl import app, flags, logging
from instrument import outcomes, pairs
from sweeping.grid import Grid, file_of, read_grid
from sweeping.output import folder_of, prepared

from mnemonics_tf import checks
from mnemonics_tf.system import files, locks, stopping
from mnemonics_tf.system.screen import STOPPED, explained, notice, parse_flags, quiet, say, shown

if TYPE_CHECKING:
    from instrument.trials import Bench

_GRID = flags.DEFINE_string("grid", None, "The grid's gin file, such as configs/sweeps/next_phase.gin.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of outcomes. Default: runs/<name of the grid's file>.")
_LENGTHS = flags.DEFINE_list("lengths", ["1"], "By which the epochs of the later phase are multiplied.")
_TRAINING_SEEDS = flags.DEFINE_integer("training_seeds", 1, "Seeds of the later phase: 0 up to this number less one.")
_AGAINST = flags.DEFINE_string("against", None, "The memory of the grid that the others are held against.")
_INITIAL_PHASES_DIR = flags.DEFINE_string(
    "initial_phases_dir", None, "Folder of trained initial phases. Default: one in the output's folder."
)

FAILED = 1
_LONGEST = 1000  # times the epochs that are configured


def main(argv: list[str]) -> int:
    """Does what the flags say. Returns the exit code: 0 if every later phase was run, 1 if a loss has diverged."""
    logging.set_verbosity(logging.FATAL)
    try:
        grid_file = file_of(argv, _GRID.value, "configs/sweeps/next_phase.gin")
        checks.check_positive_integer(**{"--training_seeds": _TRAINING_SEEDS.value})
        lengths = _lengths()
        files.check_path("--initial_phases_dir", _INITIAL_PHASES_DIR.value or "")
        given = folder_of(_OUTPUT_DIR.value, grid_file)
        grid = read_grid(grid_file)
        if _AGAINST.value is not None:
            checks.check_choice("--against", _AGAINST.value, list(grid.exemplars))
        with quiet():
            from instrument.trials import Bench, Plan, configured  # TensorFlow: once the flags are known to be right

            from mnemonics_tf.run.initial_phases import InitialPhases
        for run in grid.runs():  # all of them, before the first is trained for minutes
            configured(run, lengths)
        folder = prepared(given)
        with _alone(folder):
            initial_phases = InitialPhases(_INITIAL_PHASES_DIR.value or str(folder / "initial_phases"))
            bench = Bench(folder, initial_phases, Plan(lengths, range(_TRAINING_SEEDS.value)))
            return _measure(grid, folder, bench)
    except Exception as error:  # too little memory and a full disk among them
        code, text = explained(error, _OUTPUT_DIR.value or "runs", "the same command goes on")
        if code is None:
            raise
        print(f"next_phase: {shown(text)}", file=sys.stderr)
        return code


def _lengths() -> list[float]:
    """The numbers of --lengths. Raises UsageError unless they are different, and each is one that epochs can have."""
    lengths = []
    for text in _LENGTHS.value:
        try:
            lengths.append(float(text))
        except ValueError:
            raise checks.UsageError(
                f"--lengths has {text!r}: expected numbers above 0, such as --lengths=1,2."
            ) from None
        checks.check_positive(**{"--lengths": lengths[-1]})
        if lengths[-1] > _LONGEST:
            raise checks.UsageError(f"--lengths has {text}: expected at most {_LONGEST} times the epochs.")
    if not lengths:
        raise checks.UsageError("--lengths is empty: expected numbers above 0, such as --lengths=1,2.")
    # As files of outcomes are called.
    if len({f"{length:g}" for length in lengths}) < len(lengths):
        raise checks.UsageError("--lengths has a number twice: both would be the same later phases. Leave one out.")
    return lengths


def _alone(folder: pathlib.Path) -> contextlib.AbstractContextManager[object]:
    """Keeps other processes out of a folder of outcomes, where the file system knows locks.

    Raises:
      BusyError: one is working there.
    """
    try:
        return locks.hold(str(folder / ".lock"))
    except locks.HeldError:
        raise checks.BusyError(f"{folder}: another process is working there. Wait for it, or name another.") from None
    except locks.NoLocksError:
        return contextlib.nullcontext()


def _measure(grid: Grid, folder: pathlib.Path, bench: Bench) -> int:
    """Runs what is still to be run; writes the table after each later phase, and prints it. Returns the exit code."""
    cells = itertools.product(grid.seeds, grid.methods, grid.exemplars, grid.num_phases)
    measured: list[outcomes.Outcome] = []
    code = 0
    for (seed, method, memory, _), run in zip(cells, grid.runs(), strict=True):
        try:
            for outcome in bench.outcomes_of(run, method, memory, seed):
                measured.append(outcome)
                files.write_text(str(folder / "table.md"), _tables(measured) + "\n")
        except checks.DivergedError as error:
            notice(f"{run.name}: {error} It has no line in the table.")
            code = FAILED
    code = FAILED if bench.has_diverged else code
    if measured:
        say(_tables(measured))
        say(f"\nThis table: {folder / 'table.md'}")
        if len({outcome.length for outcome in measured}) > 1:
            say(_drawn(measured, folder))
    return code


def _drawn(measured: list[outcomes.Outcome], folder: pathlib.Path) -> str:
    """Draws accuracy over steps. Returns a line that says where, or why not."""
    if importlib.util.find_spec("matplotlib") is None:
        return "No curves were drawn: matplotlib is not installed. Install it by: pip install 'mnemonics_tf[report]'"
    from instrument import curves

    curves.draw(measured, folder)
    return f"Accuracy over steps: {folder / curves.NAME}.png"


def _tables(measured: list[outcomes.Outcome]) -> str:
    """What is printed and written: the table, and the one of pairs if one is wanted."""
    paired = "" if _AGAINST.value is None else pairs.table(measured, _AGAINST.value)
    return "\n\n".join(text for text in (outcomes.table(measured), paired) if text)


if __name__ == "__main__":
    stopping.end_in_one_line("next_phase", f"To go on: {shlex.join(['python', *sys.argv])}", STOPPED)
    app.run(main, flags_parser=functools.partial(parse_flags, "next_phase"))
