"""Locks: one holder at a time, and none that outlives its process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest

from mnemonics_tf.system import locks


def test_second_holder_is_refused_until_the_first_lets_go(tmp_path):
    path = str(tmp_path / ".lock")
    with locks.hold(path), pytest.raises(locks.HeldError):
        locks.hold(path)
    with locks.hold(path):
        pass


def test_lock_is_held_while_something_refers_to_it(tmp_path):
    path = str(tmp_path / ".lock")
    held = locks.hold(path)
    with pytest.raises(locks.HeldError):
        locks.hold(path)
    del held
    locks.hold(path).release()


def test_waiting_is_said_and_ends_when_the_holder_lets_go(tmp_path, capsys):
    path = str(tmp_path / ".lock")
    first = locks.hold(path)
    timer = threading.Timer(0.2, first.release)
    timer.start()
    with locks.hold(path, lambda: print("Waiting for another ...")):
        assert capsys.readouterr().out == "Waiting for another ...\n"
    timer.join()


def test_killed_process_holds_nothing(tmp_path):
    path = str(tmp_path / ".lock")
    script = f"import fcntl; file = open({path!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
    with subprocess.Popen(
        [sys.executable, "-c", script + "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(locks.HeldError):
            locks.hold(path)
        other.kill()
    locks.hold(path).release()


def test_link_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        locks.hold(str(tmp_path / ".lock"))
    assert not (tmp_path / "elsewhere").exists()


def test_file_system_without_locks_is_told_apart(tmp_path, monkeypatch):
    def unknown(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with pytest.raises(locks.NoLocksError, match="No locks available"):
        locks.hold(str(tmp_path / ".lock"))
