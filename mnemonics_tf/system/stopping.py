"""Ctrl-C, SIGTERM and a closed terminal end a command with one line, and at a moment that loses nothing where it can.

Nothing that is half-written counts, so a process may end at any moment. It does so from a thread of its own: TensorFlow
can hold the main one for long, and progress bars swallow what is raised in it. Work that is kept step by step
(`snapshots`) asks the first signal to wait for the end of the step, and ends the process by a `StoppedError` itself; a
Ctrl-C after that ends it at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading

from mnemonics_tf.system import screen

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
_PATIENCE = 2.0  # seconds after which somebody who waits for the end of a step is told so


class StoppedError(BaseException):
    """A signal has asked the process to stop, and what its work has come to is kept.

    It is no `Exception`: whoever takes those for failures lets it pass.

    Args:
      signal_name: `Ctrl-C`, `SIGTERM` or `SIGHUP`.
      stage: the work that was under way.
    """

    def __init__(self, signal_name: str, stage: str):
        super().__init__(f"stopped by {signal_name}; what {stage} has come to is kept.")


_temporary: set[str] = set()  # folders that go when the process is stopped
_installed: list[socket.socket] = []  # kept, or Python would close them


class _Request:
    """Whether a process has been asked to stop, and whether its main thread looks. Two threads use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_awaited = False
        self.signal_name: str | None = None


_request = _Request()


def end_in_one_line(program: str, advice: str = "", code: int | None = None) -> None:
    """Makes the signals end this process so, for good. One that is ignored stays so: `nohup` does that to SIGHUP.

    Call it in the main thread. A handler that is set later, as by a sweep, takes its signal over.

    Args:
      program: what the line begins with.
      advice: a sentence on how to go on; empty for none.
      code: exit code of a process that ends by its first signal; None for that of shells, 128 and the signal's number,
        which one that ends by a second signal has in any case.
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
    threading.Thread(target=_wait, args=(listening, program, advice, code), daemon=True).start()


def wait_for_me(is_awaited: bool) -> str | None:
    """Says whether signals are to wait for the main thread, which looks at `asked` soon and often.

    Returns:
      What `asked` does.
    """
    with _request.lock:
        _request.is_awaited = is_awaited
        return _request.signal_name


def asked() -> str | None:
    """The name of the signal that waits for the main thread to end the process; None if none does."""
    return _request.signal_name


def forget() -> None:
    """Takes back that the process was asked to stop: for tests, whose process goes on."""
    with _request.lock:
        _request.is_awaited, _request.signal_name = False, None


def ask(signal_name: str) -> bool:
    """Asks the main thread to end the process. False if it does not look, or was asked before and is in a hurry now."""
    with _request.lock:
        if _request.signal_name is not None:
            return signal_name != _NAMES[signal.SIGINT]
        if not _request.is_awaited:
            return False
        _request.signal_name = signal_name
        return True


def remove_when_stopped(folder: str) -> None:
    """Notes a folder that is to go if a signal ends the process."""
    _temporary.add(folder)


def keep_when_stopped(folder: str) -> None:
    """Takes back what `remove_when_stopped` has noted."""
    _temporary.discard(folder)


def _handle(number: int, frame: object) -> None:
    """Does nothing in the main thread: `_wait` is told, too."""


def _wait(listening: socket.socket, program: str, advice: str, code: int | None) -> None:
    while True:
        number = listening.recv(1)[0]
        if number not in _NAMES or signal.getsignal(number) is not _handle:
            continue
        name, is_first = _NAMES[signal.Signals(number)], asked() is None
        if ask(name):
            if is_first:
                _announce_later(program, name)
            continue
        screen.last_words(f"{program}: stopped by {name}. {advice}".rstrip())
        for folder in list(_temporary):
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(code if code is not None and is_first else 128 + number)


def _announce_later(program: str, name: str) -> None:
    """Tells somebody who waits why the process is still there."""

    def announce() -> None:
        if _request.is_awaited:
            screen.last_words(f"{program}: {name}: it stops at the end of the present step. Ctrl-C stops it at once.")

    timer = threading.Timer(_PATIENCE, announce)
    timer.daemon = True
    timer.start()
