"""The side of a case's process: it waits for its turn, does the work and tells what that took, a JSON line a turn.

A turn is a line on standard input, whatever is in it; the end of the input ends the process. By hand:

    printf 'turn\nturn\n' | python launch/benchmarks/case.py in_tensorflow.exemplar_level.meta_step '{"inner_steps": 4}'
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

NOT_HERE = 75  # exit code of a case that this machine has not what it takes for


class NotHere(Exception):  # noqa: N818
    """The case cannot be measured on this machine, which is no failure of it; the text says what is missing."""


class Turns:
    """Takes the time from a turn's beginning to its `done`.

    Args:
      repeats: how often a turn of `serve` after the first one does the work.
      about: facts for the first line, which says that the process is ready.
      out: where the lines go.
    """

    def __init__(self, repeats: int, about: dict[str, Any], out: TextIO):
        self._repeats, self._out = repeats, out
        self._tell(about)
        self.wait()

    def wait(self) -> None:
        """Waits for the next turn; leaves the process if there is none."""
        if not sys.stdin.readline():
            sys.exit(0)
        self._start = time.perf_counter()

    def done(self, repeats: int = 1, **results: Any) -> None:
        """Tells of the turn that ends, in which the work was done `repeats` times, and waits for the next."""
        self._tell({"seconds": (time.perf_counter() - self._start) / repeats, **results})
        self.wait()

    def serve(self, work: Callable[[], Any]) -> None:
        """Does `work` in every turn: once in the first one, which traces or allocates, and `repeats` times later.

        A dictionary that the last call in a turn returns is told as the turn's results; nothing else is.
        """
        results = work()
        self.done(**(results if isinstance(results, dict) else {}))
        while True:
            for _ in range(self._repeats):
                results = work()
            self.done(self._repeats, **(results if isinstance(results, dict) else {}))

    def _tell(self, facts: dict[str, Any]) -> None:
        print(json.dumps({**facts, "peak_memory": peak_memory()}), file=self._out, flush=True)


def peak_memory() -> int:
    """Bytes of resident memory that this process had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
