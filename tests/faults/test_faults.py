"""A sample of the campaign of faults: kills, failing calls, full disks and damage, done to a run's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PAGE = "# Page\n<!-- bash launch/faults.sh --jobs={} -->\nfigures of before\n<!-- end -->\nrest\n"


def _rows(page: Path, job: str, *flags: str) -> list[list[str]]:
    """The table of a small campaign, in which nothing may have gone wrong."""
    page.write_text(_PAGE.format(job))
    # In a process of its own, which forks: that of the tests may have threads of TensorFlow's.
    command = [sys.executable, "tests/faults/campaign.py", f"--jobs={job}", *flags, f"--page={page}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3600)
    assert finished.returncode == 0, finished.stderr
    text = page.read_text()
    assert text.startswith(f"# Page\n<!-- bash launch/faults.sh --jobs={job} -->\n\nMeasured on")
    assert text.endswith("<!-- end -->\nrest\n")
    assert "of before" not in text
    return [line.split(" | ") for line in finished.stdout.splitlines() if line.startswith("| ")]


def test_sample_of_trials_ends_as_an_undisturbed_job_does(tmp_path):
    rows = _rows(tmp_path / "faults.md", "storage", "--storage=1", "--every=19")
    assert len(rows) == 12
    assert sum(int(row[1]) for row in rows) > 50


@pytest.mark.heavy
def test_sample_of_damages_of_each_kind_of_file_is_seen_or_harmless(tmp_path):
    rows = _rows(tmp_path / "faults.md", "files", "--files=2")
    kinds = {row[0].removeprefix("| ") for row in rows}
    assert {
        "COMPLETE", "config.gin", "data.json", "results.json", "metrics.json", "exemplars.npz", "statistics.npz",
        "checkpoint/model.weights.h5", "saved_model/saved_model.pb", "snapshots: exemplars", "a learner's learner.json",
        "a shared phase 0", "an instrument's outcome",
    } <= kinds  # fmt: skip
    assert {row[1] for row in rows} == {"2"}
