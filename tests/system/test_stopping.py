"""Signals end a command with one line, whatever its main thread is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

_SCRIPT = """
import signal, sys, threading, time
from mnemonics_tf.system import screen, stopping
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a suite that nohup has started ignores it
if {ignored!r}:
    signal.signal(getattr(signal, {ignored!r}), signal.SIG_IGN)
stopping.end_in_one_line("program", "It goes on.")
stopping.remove_when_stopped({folder!r})
{before}
print("ready", flush=True)
{busy}
"""


def _stopped(
    tmp_path, number: int, busy: str = "time.sleep(60)", ignored: str = "", before: str = ""
) -> tuple[int, str]:
    """Exit code and standard error of a process that gets a signal once it is ready."""
    (tmp_path / "scratch").mkdir()
    script = _SCRIPT.format(folder=str(tmp_path / "scratch"), busy=busy, ignored=ignored, before=before)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, shown = process.communicate(timeout=60)
    return process.returncode, shown


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")],
)
def test_signal_is_one_line_and_the_exit_code_of_shells(tmp_path, number, code, name):
    assert _stopped(tmp_path, number) == (code, f"program: stopped by {name}. It goes on.\n")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    "busy",
    [
        "threading.Lock().acquire(), (lock := threading.Lock()), lock.acquire(), lock.acquire()",
        "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass",
        "with screen.quiet():\n    time.sleep(60)",
        "from mnemonics_tf.data import complaints\nwith complaints.heard():\n    time.sleep(60)",
    ],
    ids=["blocked", "swallows exceptions", "standard error is turned aside", "libraries are listened to"],
)
def test_main_thread_cannot_keep_the_signal_from_ending_it(tmp_path, busy):
    code, shown = _stopped(tmp_path, signal.SIGINT, busy)
    assert (code, shown) == (130, "program: stopped by Ctrl-C. It goes on.\n")


def test_ignored_signal_stays_ignored(tmp_path):
    assert _stopped(tmp_path, signal.SIGHUP, "time.sleep(0.5)", ignored="SIGHUP") == (0, "")


def test_handler_that_is_set_later_takes_over(tmp_path):
    before = "signal.signal(signal.SIGINT, lambda *arguments: sys.exit(7))"
    assert _stopped(tmp_path, signal.SIGINT, before=before) == (7, "")


_AWAITED = """
import time
from mnemonics_tf.system import stopping
stopping.end_in_one_line("program", "Go on with: this.", 3)
stopping.wait_for_me({awaited})
print("ready", flush=True)
while True:
    time.sleep(0.05)
    if {looks} and stopping.asked():
        print("asked by", stopping.asked(), flush=True)
        raise SystemExit(7)
"""


def _told(numbers: list[int], awaited: bool, looks: bool = True) -> tuple[int, str, str]:
    """What a process says, and how it ends, whose work is or is not to be waited for, and which looks or hangs."""
    script = _AWAITED.format(awaited=awaited, looks=looks)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.3)
        output, shown = process.communicate(timeout=60)
    return process.returncode, output, shown


def test_work_that_is_waited_for_ends_the_process_itself():
    assert _told([signal.SIGTERM], awaited=True) == (7, "asked by SIGTERM\n", "")
    assert _told([signal.SIGTERM], awaited=False) == (3, "", "program: stopped by SIGTERM. Go on with: this.\n")


def test_second_ctrl_c_ends_the_process_at_once():
    signals = [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
    assert _told(signals, awaited=True, looks=False) == (130, "", "program: stopped by Ctrl-C. Go on with: this.\n")
