"""What a sweep shows: lines that fit the terminal, redrawn in their place."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "launch"))

from sweeping.grid import PlannedRun
from sweeping.progress import Entry, Progress, State
from sweeping.screen import table


def _entry(name: str, state: State, num_complete: int = 0, average: float | None = None, seconds: float = 0) -> Entry:
    run = PlannedRun(name, 5, ())
    return Entry(run, Path(name), Path(f"{name}.txt"), state, Progress(num_complete, None, average), seconds)


@pytest.fixture
def entries() -> list[Entry]:
    """A run in each state."""
    return [
        _entry("first", State.FINISHED, 6, 70.125, 100.4),
        _entry("second", State.FAILED, 2, 60.0, 30),
        _entry("third", State.BUSY),
        _entry("fourth", State.RUNNING, 3, 61.5, 7),
        _entry("fifth", State.WAITING),
    ]


def test_table_has_a_line_for_each_run(entries):
    assert [line.split() for line in table(entries, 80, 24)] == [
        ["run", "state", "average", "(%)", "seconds"],
        ["first", "finished", "70.12", "100"],
        ["second", "failed", "60.00", "30"],
        ["third", "busy", "elsewhere", "0"],
        ["fourth", "phase", "3/5", "61.50", "7"],
        ["fifth", "waiting", "0"],
        ["5", "runs:", "1", "waiting,", "1", "running,", "1", "finished,", "1", "failed,", "1", "busy", "elsewhere"],
    ]


def test_run_between_its_last_phase_and_its_end_is_still_in_it():
    assert "phase 5/5" in table([_entry("run", State.RUNNING, 6, 70.0)], 80, 24)[1]


def test_number_of_phases_is_that_of_the_runs_results():
    entry = _entry("run", State.RUNNING)
    entry.progress = Progress(2, 8, 70.0)
    assert "phase 2/8" in table([entry], 80, 24)[1]


@pytest.mark.parametrize("height", [1, 3, 4, 6, 7, 8, 50])
def test_table_leaves_out_finished_runs_first_and_never_fills_the_terminal(entries, height):
    lines = table(entries, 80, height)
    # One line stays for the cursor; header and counts are always there.
    assert len(lines) <= max(height - 1, 2)
    names = [line.split()[0] for line in lines[1:-1]]
    by_importance = ["fourth", "second", "third", "fifth", "first"]
    num_shown = min(max(height - 3, 0), 5)
    assert set(names) == set(by_importance[:num_shown])
    assert names == [entry.run.name for entry in entries if entry.run.name in names]
    assert lines[-1].startswith("5 runs: " if num_shown == 5 else f"5 runs ({5 - num_shown} not shown): ")


def test_lines_are_cut_to_the_width(entries):
    assert max(len(line) for line in table(entries, 20, 24)) == 19


class _Terminal:
    """Understands what the table needs of a terminal: line feeds, going up, clearing."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0

    def write(self, text: str) -> None:
        for code, count, plain in re.findall(r"\x1b\[(?:(\d*)([A-Z]))|([^\x1b\r]+|\r)", text.replace("\r\n", "\n")):
            if count == "F":
                self.row -= int(code)
                assert self.row >= 0
            elif count == "J":
                self.lines[self.row :] = [""]
            elif count == "K":
                self.lines[self.row] = self.lines[self.row][: self._column]
            else:
                self._print(plain)

    def _print(self, text: str) -> None:
        for number, part in enumerate(text.split("\n")):
            if number:
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            self._column = len(part)
            self.lines[self.row] = part + self.lines[self.row][len(part) :]


def test_terminal_shows_one_table_at_the_end(tmp_path):
    grid = tmp_path / "grid.gin"
    grid.write_text(
        'Grid.methods = ("lucir",)\n'
        'Grid.configs = ("configs/datasets/digits.gin",)\n'
        'Grid.exemplars = {"good": (), "bad": ("fake.fail_at = 2",)}\n'
        "Grid.num_phases = (2,)\nGrid.seeds = (0, 1, 2)\n"
    )
    command = [sys.executable, str(ROOT / "tests/launch/sweep_of_fakes.py"), f"--grid={grid}"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 70, 0, 0))
    with subprocess.Popen(
        [*command, f"--output_dir={tmp_path / 'runs'}"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    ) as sweep:
        os.close(theirs)
        written = _read_all(ours)
        assert sweep.wait(60) == 1
    assert max(int(count) for count in re.findall(r"\x1b\[(\d+)F", written)) <= 7
    terminal = _Terminal()
    terminal.write(written)
    shown = [line.rsplit(maxsplit=1)[0].split() for line in terminal.lines[1:6]]
    # 8 lines less header, counts and cursor; (90 + 89) / 2 = 89.5.
    assert shown == [
        ["lucir-good-n2-seed0", "finished", "89.00"],
        ["lucir-bad-n2-seed0", "failed", "89.50"],
        ["lucir-good-n2-seed1", "finished", "89.00"],
        ["lucir-bad-n2-seed1", "failed", "89.50"],
        ["lucir-bad-n2-seed2", "failed", "89.50"],
    ]
    assert terminal.lines[6] == "6 runs (1 not shown): 3 finished, 3 failed"
    assert terminal.lines[8].startswith("tables  python -m mnemonics_tf.report ")


def _read_all(descriptor: int) -> str:
    parts = []
    # Linux reports an error when the other side is closed, other systems the end of the file.
    try:
        while part := os.read(descriptor, 4096):
            parts.append(part)
    except OSError:
        pass
    os.close(descriptor)
    return b"".join(parts).decode()
