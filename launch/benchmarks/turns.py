"""The side of a case's process: it waits for its turn, does the work and tells what that took, a JSON line a turn.

A turn is a line on standard input, whatever is in it; the end of the input ends the process. By hand:

    printf 'turn\nturn\n' | python launch/benchmarks/case_tensorflow.py '{"work": "meta_step", "inner_steps": 4}'
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


class Turns:
    """Takes the time from a turn's beginning to its `done`.

    Args:
      about: facts for the first line, which says that the process is ready.
    """

    def __init__(self, **about: Any):
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

    def serve(self, work: Callable[[], Any], repeats: int = 1) -> None:
        """Does `work` in every turn: once in the first one, which traces or allocates, and `repeats` times later."""
        work()
        self.done()
        while True:
            for _ in range(repeats):
                work()
            self.done(repeats)

    def _tell(self, facts: dict[str, Any]) -> None:
        print(json.dumps({**facts, "peak_memory": peak_memory()}), flush=True)


def peak_memory() -> int:
    """Bytes of resident memory that this process had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_case(works: dict[str, Callable[..., None]], about: Callable[[], dict[str, Any]]) -> None:
    """Runs the case that the command line names: `{"work": one of works, further arguments of it}`."""
    settings = json.loads(sys.argv[1])
    works[settings.pop("work")](lambda: Turns(**about()), **settings)
