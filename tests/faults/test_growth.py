"""A run of many phases takes no more memory, and traces no more, from phase to phase."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.heavy
def test_memory_and_traces_stay_flat_over_fifty_phases():
    command = [sys.executable, str(ROOT / "tests/faults/growth.py"), "--phases=50"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=7_200)
    assert finished.returncode == 0, finished.stderr[-3_000:]
    rows = [line.split() for line in finished.stdout.splitlines() if line.endswith("gradients")]
    assert len(rows) == 50
    # Phase 0 differs, and what later ones keep for good is there after some of them.
    early, late = rows[5:15], rows[40:]
    for column, name in ((1, "MB"), (3, "graphs"), (5, "gradients")):
        first, last = (statistics.median(float(row[column]) for row in part) for part in (early, late))
        assert last <= 1.05 * first, (name, first, last)
