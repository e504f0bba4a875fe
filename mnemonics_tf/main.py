"""Runs a class-incremental experiment: `python -m mnemonics_tf.main --gin_file=configs/lucir_digits.gin`.

The same output folder and configuration go on where an earlier process stopped.
"""

import functools
import os
import shlex
import sys

from absl import app, flags, logging

from mnemonics_tf.system import screen

# TensorFlow takes seconds to import, and --help needs none of it: it is imported once the flags are known.

_GIN_FILES = flags.DEFINE_multi_string("gin_file", [], "Configuration file. Later files override earlier ones.")
_GIN_PARAMS = flags.DEFINE_multi_string("gin_param", [], "One binding, such as 'Experiment.seed = 2'. Overrides files.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the run. Default: runs/<names of the gin_files>.")
_INITIAL_PHASES_DIR = flags.DEFINE_string(
    "initial_phases_dir", None, "Folder in which runs share trained networks of phase 0. Default: none are shared."
)


def main(argv: list[str]) -> int:
    """Parses, runs and prints the result. Returns the exit code."""
    from mnemonics_tf.checks import BusyError, DivergedError, LostWorkerError, UsageError

    exit_codes: dict[type[Exception], int] = {
        BusyError: screen.BUSY,  # before UsageError, of which it is one
        UsageError: screen.USAGE_ERROR,
        DivergedError: screen.USAGE_ERROR,
        LostWorkerError: screen.LOST_WORKER,
    }
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.FATAL)
    with screen.quiet():
        from mnemonics_tf import config, experiment
        from mnemonics_tf.report import summary
    try:
        if len(argv) > 1:
            raise UsageError(f"Unexpected argument {argv[1]!r}: everything is a flag; see --help.")
        if not _GIN_FILES.value:
            raise UsageError("No --gin_file was given. Try --gin_file=configs/lucir_digits.gin.")
        config.parse(_GIN_FILES.value, _GIN_PARAMS.value)
        name = "-".join(os.path.splitext(os.path.basename(path))[0] for path in _GIN_FILES.value)
        output_dir = _OUTPUT_DIR.value or os.path.join("runs", name)
        run = experiment.Run(output_dir, config.resolved, _INITIAL_PHASES_DIR.value)
        results = run.run()
    except tuple(exit_codes) as error:
        if flags.FLAGS["verbosity"].present:
            raise
        # gin adds to an exception's text where it was raised.
        print(f"mnemonics_tf: {str(error).partition(chr(10) + '  In call to configurable')[0]}", file=sys.stderr)
        return next(code for kind, code in exit_codes.items() if isinstance(error, kind))
    if not run.is_chief:
        return 0
    directory = run.directory
    skipped = directory.read_skipped()
    print(
        f"\n{summary.summary(results)}\n\n"
        + (f"skipped      {len(skipped)} images, listed in {directory.skipped_file}\n" if skipped else "")
        + f"results      {directory.results_file}\n"
        f"last model   {directory.saved_model_dir(run.num_phases - 1)}\n"
        f"TensorBoard  tensorboard --logdir {shlex.quote(directory.tensorboard_dir)}"
    )
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
