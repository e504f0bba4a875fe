"""Runs a class-incremental experiment: `python -m mnemonics_tf.main --gin_file=configs/lucir_digits.gin`.

The same output folder and configuration go on where an earlier process stopped.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from typing import TYPE_CHECKING

from absl import app, flags, logging

import mnemonics_tf
from mnemonics_tf import checks
from mnemonics_tf.system import files, screen, stopping

if TYPE_CHECKING:
    from mnemonics_tf import experiment

# TensorFlow takes seconds to import, and --help needs none of it: it is imported once the flags are known.

_GIN_FILES = flags.DEFINE_multi_string("gin_file", [], "Configuration file. Later files override earlier ones.")
_GIN_PARAMS = flags.DEFINE_multi_string("gin_param", [], "One binding, such as 'Experiment.seed = 2'. Overrides files.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the run. Default: runs/<names of the gin_files>.")
_INITIAL_PHASES_DIR = flags.DEFINE_string(
    "initial_phases_dir", None, "Folder in which runs share trained networks of phase 0. Default: none are shared."
)
_VERSION = flags.DEFINE_bool("version", False, "Print the package's version, and do nothing else.")


def main(argv: list[str]) -> int:
    """Parses, runs and prints the result. Returns the exit code."""
    if _VERSION.value:
        print(f"mnemonics_tf {mnemonics_tf.__version__}")
        return 0
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.FATAL)
    name = "-".join(os.path.splitext(os.path.basename(path))[0] for path in _GIN_FILES.value)
    output_dir = _OUTPUT_DIR.value or os.path.join("runs", name)
    try:
        if len(argv) > 1:
            raise checks.UsageError(f"Unexpected argument {argv[1]!r}: everything is a flag; see --help.")
        if not _GIN_FILES.value:
            raise checks.UsageError("No --gin_file was given. Try --gin_file=configs/lucir_digits.gin.")
        for flag, path in (("--output_dir", output_dir), ("--initial_phases_dir", _INITIAL_PHASES_DIR.value or "")):
            files.check_path(flag, path)
        run = _configured_run(output_dir)
        results = run.run()
    except Exception as error:
        code, text = screen.explained(error, output_dir, "the same command goes on after the last complete phase")
        if code is None or flags.FLAGS["verbosity"].present:
            raise
        print(f"mnemonics_tf: {text}", file=sys.stderr)
        return code
    if not run.is_chief:
        return 0
    from mnemonics_tf.report import summary

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


def _configured_run(output_dir: str) -> experiment.Run:
    """The run that the flags ask for. Contradictions between settings are told before TensorFlow is imported."""
    with screen.quiet():  # a configuration may import modules of the user's own, and these TensorFlow
        from mnemonics_tf import config

        config.parse(_GIN_FILES.value, _GIN_PARAMS.value)
        config.resolved().check()
        from mnemonics_tf import experiment
    return experiment.Run(output_dir, config.resolved, _INITIAL_PHASES_DIR.value)


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf", "The same command goes on after the last complete phase.")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
