"""Runs a heat: starts the processes of its cases and gives them turns, A B C, A B C, ..."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

from harness import machine
from harness.cases import MINUTE, Case, Heat
from harness.measured import Measured, predicted_memory
from harness.worker import CaseFailed, Worker

_TURN_SECONDS = 30 * MINUTE

# What must be left when a case has all the memory that it is predicted to take.
_MEMORY_MARGIN = 1e9


def measure(heat: Heat, pythons: dict[str, str], measured: list[Measured]) -> None:
    """Runs the processes of a heat; adds what each of its cases took to `measured`.

    Args:
      heat: its cases.
      pythons: the interpreter of each framework.
      measured: what heats before it took, from which memory is predicted.
    """
    print(f"\n{heat.title}: {len(heat.cases)} cases, {heat.rounds} rounds", flush=True)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark_"))
        live: list[tuple[Measured, Worker]] = []
        for case in heat.cases:
            entry = Measured(case, heat, reason=_memory_problem(case, heat, measured))
            measured.append(entry)
            with _recording_failure(entry):
                if entry.reason is None:
                    worker = stack.enter_context(Worker(pythons[case.framework], case, folder))
                    entry.about = worker.about
                    entry.add(worker.turn(case.first_limit), first=True)
                    live.append((entry, worker))
            print(f"  {case.name}: {entry.reason or f'first call {entry.first_seconds:.2f} s'}", flush=True)
        for number in range(1, heat.rounds + 1):
            for entry, worker in live:
                with _recording_failure(entry):
                    if entry.reason is None:
                        entry.add(worker.turn(_TURN_SECONDS), first=False)
            latest = ", ".join(f"{entry.case.name} {entry.seconds[-1]:.2f} s" for entry, _ in live if entry.seconds)
            print(f"  round {number}: {latest}", flush=True)


@contextlib.contextmanager
def _recording_failure(entry: Measured) -> Iterator[None]:
    """A case that fails is noted; the others go on."""
    try:
        yield
    except CaseFailed as error:
        entry.reason = str(error)


def _memory_problem(case: Case, heat: Heat, measured: list[Measured]) -> str | None:
    """Why there is not enough memory for a case; None if there is, or no telling."""
    needed, available = predicted_memory(case, heat, measured), machine.available_memory()
    if needed is None or available is None or needed + _MEMORY_MARGIN <= available:
        return None
    return f"not run: it would take some {needed / 1e9:.0f} GB, and {available / 1e9:.0f} GB are free"
