"""The command `mnemonics-tf`: one name for all that `python -m mnemonics_tf.<module>` does.

mnemonics-tf run --gin_file=configs/lucir_digits.gin     is  python -m mnemonics_tf.main --gin_file=...
mnemonics-tf report runs                                 is  python -m mnemonics_tf.report runs
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

import mnemonics_tf
from mnemonics_tf import checks
from mnemonics_tf.system import screen

PROGRAM = "mnemonics-tf"

# What each command runs, and what it is for.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("mnemonics_tf.main", "an experiment that gin files configure, phase after phase"),
    "report": ("mnemonics_tf.report", "tables of runs, and a page with figures"),
    "learn": ("mnemonics_tf.learn", "a learner is taught what is new in a folder of images"),
    "predict": ("mnemonics_tf.predict", "what images show"),
    "export": ("mnemonics_tf.export", "a model for TensorFlow Serving, TensorFlow Lite or ONNX"),
    "verify": ("mnemonics_tf.verify", "whether the files of runs and learners are whole"),
    "data-check": ("mnemonics_tf.data.check", "whether a run can use a folder of images"),
    "shards": ("mnemonics_tf.data.shards", "sorts a large TensorFlow Datasets set by class, ahead of a run"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names, with the rest. Returns the exit code where it comes back.

    Args:
      argv: the command line from the program's name on; None for that of the process.
    """
    arguments = list(sys.argv if argv is None else argv)[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else screen.USAGE_ERROR
    command, *rest = arguments
    if command in ("--version", "version"):
        print(f"mnemonics_tf {mnemonics_tf.__version__}")
        return 0
    if command not in COMMANDS:
        print(
            f"{PROGRAM}: {command!r} is no command: expected one of {', '.join(COMMANDS)}."
            f"{checks.nearest(command, COMMANDS)}",
            file=sys.stderr,
        )
        return screen.USAGE_ERROR
    module, _ = COMMANDS[command]
    # A run that is stopped says how to go on by the command line that began it.
    sys.argv = [f"{PROGRAM} {command}", *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            f"{PROGRAM} COMMAND [flags]; {PROGRAM} COMMAND --help; {PROGRAM} --version",
            "",
            *lines,
        ]
    )
