"""Ctrl-C, SIGTERM and a closed terminal end a command with one line and the exit code that shells have for them.

Nothing that is half-written counts, so a process may end at any moment. It does so from a thread of its own: TensorFlow
can hold the main one for long, and progress bars swallow what is raised in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading

from mnemonics_tf.system import screen

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}

_temporary: set[str] = set()  # folders that go when the process is stopped
_installed: list[socket.socket] = []  # kept, or Python would close them


def end_in_one_line(program: str, advice: str = "") -> None:
    """Makes the signals end this process so, for good. One that is ignored stays so: `nohup` does that to SIGHUP.

    Call it in the main thread. A handler that is set later, as by a sweep, takes its signal over.

    Args:
      program: what the line begins with.
      advice: a sentence on how to go on; empty for none.
    """
    if _installed:
        return
    listening, told = socket.socketpair()
    told.setblocking(False)
    _installed.extend((listening, told))
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    # Python writes a signal's number there at once, whatever the main thread is doing.
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(listening, program, advice), daemon=True).start()


def remove_when_stopped(folder: str) -> None:
    """Notes a folder that is to go if a signal ends the process."""
    _temporary.add(folder)


def keep_when_stopped(folder: str) -> None:
    """Takes back what `remove_when_stopped` has noted."""
    _temporary.discard(folder)


def _handle(number: int, frame: object) -> None:
    """Does nothing in the main thread: `_wait` is told, too."""


def _wait(listening: socket.socket, program: str, advice: str) -> None:
    while True:
        number = listening.recv(1)[0]
        if number in _NAMES and signal.getsignal(number) is _handle:
            text = f"{program}: stopped by {_NAMES[signal.Signals(number)]}. {advice}".rstrip()
            screen.last_words(text)
            for folder in list(_temporary):
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(128 + number)
