"""A sample of the campaign of faults: kills, failing calls, full disks and damage, done to a run's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PAGE = "# Page\n<!-- bash launch/faults.sh --jobs=storage -->\nfigures of before\n<!-- end -->\nrest\n"


def test_sample_of_trials_ends_as_an_undisturbed_job_does(tmp_path):
    page = tmp_path / "faults.md"
    page.write_text(_PAGE)
    # In a process of its own, which forks: that of the tests may have threads of TensorFlow's.
    command = [
        sys.executable,
        "tests/faults/campaign.py",
        "--jobs=storage",
        "--storage=1",
        "--every=19",
        f"--page={page}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    rows = [line.split(" | ") for line in finished.stdout.splitlines()]
    assert len(rows) == 12
    assert sum(int(row[1]) for row in rows) > 50
    text = page.read_text()
    assert text.startswith("# Page\n<!-- bash launch/faults.sh --jobs=storage -->\n\nMeasured on")
    assert text.endswith("<!-- end -->\nrest\n")
    assert "of before" not in text
