"""A case's process: does the work that the command line names, whenever it is given a turn (see harness/turns.py).

    python launch/benchmarks/case.py in_tensorflow.exemplar_level.meta_step '{"inner_steps": 4}'

The module is of in_tensorflow or in_pytorch, and runs in an interpreter that has that framework. The function's first
argument, `start`, tells that the process is ready and waits for the first turn; the others are its settings.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from harness.turns import NOT_HERE, NotHere, Turns


def main() -> None:
    """Finds the function and calls it."""
    # Read when TensorFlow is imported; the default on some processors and systems only.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    path, _, function = sys.argv[1].rpartition(".")
    settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    repeats = settings.pop("repeats", 1)
    module = importlib.import_module(path)
    about = importlib.import_module(f"{path.partition('.')[0]}.about")
    # What the work prints is for people: the lines of turns alone go to the program that gives them.
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        getattr(module, function)(lambda: Turns(repeats, about.about(), out), **settings)
    except NotHere as missing:
        print(f"not run: {missing}", file=sys.stderr)
        sys.exit(NOT_HERE)


if __name__ == "__main__":
    main()
