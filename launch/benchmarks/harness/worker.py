"""A case's process, seen from the program that gives it its turns."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import tempfile
import threading
from typing import Any

from harness.cases import PYTORCH, Case
from harness.turns import NOT_HERE

_SCRIPT = pathlib.Path(__file__).parent.parent / "case.py"
_EXIT_SECONDS = 30.0


class CaseFailed(Exception):  # noqa: N818
    """A case could not be measured; the text says why."""


class Worker:
    """Starts a case's process and waits until it is ready. A context manager: leaving it ends the process.

    Args:
      python: the interpreter.
      case: what it does.
      folder: where it may leave files, for cases after it in the same heat too.
      limit: seconds it may take to get ready.

    Attributes:
      about: versions, threads and memory before the first turn, as the process tells them.

    Raises:
      CaseFailed: it ended, or took too long.
    """

    def __init__(self, python: str, case: Case, folder: str, limit: float = 600.0):
        side = "in_pytorch" if case.framework == PYTORCH else "in_tensorflow"
        # PyTorch's wheels and TensorFlow's see different GPUs; resident memory is measured, so both keep to the CPU.
        environment = {
            **os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1", "BENCHMARK_FOLDER": folder
        }  # fmt: skip
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(_SCRIPT), f"{side}.{case.work}", json.dumps({**case.settings, "repeats": case.repeats})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        try:
            self.about = self._answer(limit)
        except BaseException as error:
            self._end(error)
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._end(error)

    def turn(self, limit: float) -> dict[str, Any]:
        """Gives the process a turn; returns what it tells: `seconds`, `peak_memory` (bytes) and results.

        Raises:
          CaseFailed: it ended, or took more than `limit` seconds.
        """
        try:
            self._process.stdin.write("turn\n")
            self._process.stdin.flush()
        except OSError:
            pass  # It has ended, which the answer will show.
        return self._answer(limit)

    def _answer(self, limit: float) -> dict[str, Any]:
        too_long = threading.Event()

        def give_up() -> None:
            too_long.set()
            self._process.kill()

        timer = threading.Timer(limit, give_up)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        code = self._process.wait()
        if too_long.is_set():
            raise CaseFailed(f"given up after {limit:.0f} s")
        if code < 0:
            raise CaseFailed(f"ended by signal {-code}" + (", perhaps for want of memory" if code == -9 else ""))
        self._errors.seek(0)
        last_lines = self._errors.read().strip().splitlines()[-1:]
        last_line = "".join(last_lines)
        raise CaseFailed(last_line if code == NOT_HERE else f"ended with exit code {code}: {last_line}")

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, SystemExit):  # nobody waits for what it is at
            self._process.kill()
        try:
            self._process.communicate(timeout=_EXIT_SECONDS)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.communicate()
        self._errors.close()
