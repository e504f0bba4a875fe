"""Runs a class-incremental experiment: `python -m mnemonics_tf.main --gin_file=configs/lucir_digits.gin`.

The same output folder and configuration go on where an earlier process stopped.
"""

from __future__ import annotations

import functools
import os
import shlex
from typing import TYPE_CHECKING

from absl import app, flags, logging

from mnemonics_tf import checks
from mnemonics_tf.system import files, gin_flags, lazy, screen, stopping

if TYPE_CHECKING:
    from mnemonics_tf.results import Results
    from mnemonics_tf.run.directory import RunDirectory

# TensorFlow takes seconds to import, and --help needs none of it: it is imported once the flags are known.

_GIN_FILES = flags.DEFINE_multi_string("gin_file", [], "Configuration file. Later files override earlier ones.")
_GIN_PARAMS = flags.DEFINE_multi_string("gin_param", [], "One binding, such as 'Experiment.seed = 2'. Overrides files.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the run. Default: runs/<names of the gin_files>.")
_INITIAL_PHASES_DIR = flags.DEFINE_string(
    "initial_phases_dir", None, "Folder in which runs share trained networks of phase 0. Default: none are shared."
)
flags.adopt_module_key_flags(gin_flags)


def main(argv: list[str]) -> int:
    """Parses, runs and prints the result. Returns the exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.FATAL)
    name = "-".join(os.path.splitext(os.path.basename(path))[0] for path in _GIN_FILES.value)
    output_dir = _OUTPUT_DIR.value or os.path.join("runs", name)
    try:
        if len(argv) > 1:
            raise checks.UsageError(f"Unexpected argument {argv[1]!r}: everything is a flag; see --help.")
        if not _GIN_FILES.value:
            raise checks.UsageError("No --gin_file was given. Try --gin_file=configs/lucir_digits.gin.")
        if _OUTPUT_DIR.value == "":  # such as of a variable that is not set
            raise checks.UsageError(f"--output_dir is empty: expected a folder. Leave it out for {output_dir}.")
        files.check_given(**{"--initial_phases_dir": _INITIAL_PHASES_DIR.value})
        for flag, path in (("--output_dir", output_dir), ("--initial_phases_dir", _INITIAL_PHASES_DIR.value or "")):
            files.check_path(flag, path)
        results, directory = _outcome(output_dir)
    except Exception as error:
        return screen.exit_code(error, output_dir, "the same command goes on")
    except stopping.StoppedError as stopped:
        screen.last_words(f"mnemonics_tf: {stopped} {screen.how_to_go_on('mnemonics_tf.main')}")
        return screen.STOPPED
    if results is None:
        return 0
    from mnemonics_tf.report import summary

    skipped = directory.read_skipped()
    print(
        f"\n{summary.summary(results)}\n\n"
        + (f"skipped      {len(skipped)} images, listed in {directory.skipped_file}\n" if skipped else "")
        + f"results      {directory.results_file}\n"
        f"last model   {directory.saved_model_dir(results.num_phases)}\n"
        f"TensorBoard  tensorboard --logdir {shlex.quote(directory.tensorboard_dir)}"
    )
    return 0


def _outcome(output_dir: str) -> tuple[Results | None, RunDirectory]:
    """Does what is left of the run that the flags ask for. Its results, None on workers that write none; its folder.

    Contradictions between settings are told, and results of a finished run found, before TensorFlow is imported.
    """
    with screen.quiet():  # a configuration may import modules of the user's own, and these TensorFlow
        from mnemonics_tf import config
        from mnemonics_tf.run import directory, finished
        from mnemonics_tf.system import gin_imports

        config.parse(_GIN_FILES.value, _GIN_PARAMS.value, gin_imports.Trusted(tuple(gin_flags.GIN_IMPORT.value)))
        configuration = config.resolved()
        config.check_read(_GIN_PARAMS.value)
        configuration.check()
    folder = directory.RunDirectory(output_dir)
    results = finished.results_of(folder, configuration)
    if results is not None:
        return results, folder
    with screen.quiet():
        lazy.import_quickly()
        from mnemonics_tf import experiment
    run = experiment.Run(output_dir, config.resolved, _INITIAL_PHASES_DIR.value)
    results = run.run()
    return (results if run.is_chief else None), run.directory


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf", screen.how_to_go_on("mnemonics_tf.main"), screen.STOPPED)
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
