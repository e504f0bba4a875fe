"""Calls commands of the package with many command lines: `python call_commands.py < lines.json`.

Standard input holds a list of command lines, each with the command's module before its arguments. Standard output gets
what became of each: the exit code, and all that was written. Each is called in a process of its own, forked from this
one, which has imported what commands share.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback

_PATIENCE = 120  # seconds of the clock


def main() -> None:
    """Answers for all command lines."""
    from mnemonics_tf import config, results  # noqa: F401  what most commands import, once for all processes
    from mnemonics_tf.system import screen

    answers = []
    for name, *line in json.load(sys.stdin):
        with tempfile.TemporaryFile() as told:
            child = os.fork()
            if child == 0:
                _answer(name, screen, line, told.fileno())
            status = os.waitpid(child, 0)[1]
            told.seek(0)
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            answers.append([code, told.read().decode(errors="replace")])
    json.dump(answers, sys.stdout)


def _answer(name: str, screen, line: list[str], told: int) -> None:
    """The life of a child. Never returns."""
    code = 99
    try:
        os.dup2(told, 1)
        os.dup2(told, 2)
        signal.alarm(_PATIENCE)
        sys.argv = ["mnemonics_tf", *line]
        module = importlib.import_module(name)
        code = module.main(screen.parse_flags("mnemonics_tf", sys.argv)) or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
