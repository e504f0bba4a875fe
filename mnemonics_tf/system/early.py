"""What Ctrl-C does to one of the package's commands in its first moments, before `stopping` has taken over.

Imported with the package itself, so it imports nothing but what Python has loaded already.
"""

from __future__ import annotations

import os
import signal
import sys

_PACKAGE = "mnemonics_tf"
_SCRIPT = "mnemonics-tf"  # the console command


def is_command() -> bool:
    """Whether this process has been started as a command of the package, and is no program of somebody else's."""
    script = sys.argv[0] if sys.argv else ""
    if script == "-m":  # Python imports the package of the module that it is about to run
        given = sys.orig_argv
        module = given[given.index("-m") + 1] if "-m" in given[:-1] else ""
        return module.split(".")[0] == _PACKAGE
    return os.path.basename(script) == _SCRIPT


def end_in_one_line() -> None:
    """Lets Ctrl-C end this process by a line, not by a traceback through the imports. `stopping` sets its own handler.

    A signal that is ignored, as in the background of a shell, stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    os.write(2, f"{_PACKAGE}: stopped by Ctrl-C before anything was begun.\n".encode())
    os._exit(128 + number)
