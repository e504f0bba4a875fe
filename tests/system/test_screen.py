"""Errors as users see them: one line and an exit code, or a traceback for what nothing else explains."""

from __future__ import annotations

import errno
import os

import pytest
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.system import screen


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (checks.UsageError("a\n  In call to configurable 'b'"), 2, "a"),
        (checks.BusyError("busy"), 4, "busy"),
        (checks.DivergedError("nan"), 2, "nan"),
        (checks.ExhaustedError("memory"), 2, "memory"),
        (checks.LostWorkerError("lost"), 1, "lost"),
        (
            OSError(errno.ENOSPC, "x", "/run/results.json"),
            2,
            "/run/results.json cannot be written: No space left on device. Make room there, and it goes on.",
        ),
        (
            OSError(errno.EROFS, "x", "/run/results.json"),
            2,
            "/run/results.json cannot be written: Read-only file system. Mend that, and it goes on.",
        ),
        (
            FileNotFoundError(errno.ENOENT, "x", "/run/phases"),
            2,
            "/run/phases cannot be used any more: No such file or directory. Mend that, and it goes on.",
        ),
        (OSError(errno.ESTALE, "x"), 2, "PLACE cannot be used any more: Stale file handle. Mend that, and it goes on."),
        (
            tf.errors.NotFoundError(None, None, "/run/x; No such file or directory\n [[node]]"),
            2,
            "PLACE cannot be used any more: No such file or directory. Mend that, and it goes on.",
        ),
        (
            MemoryError("Unable to allocate 409. TiB"),
            2,
            "There is too little memory (Unable to allocate 409. TiB). With more of it, or smaller images, it goes on.",
        ),
        # A fault of the program.
        (ValueError("No such file or directory"), None, ""),
        (tf.errors.InvalidArgumentError(None, None, "shapes"), None, ""),
        (OSError(errno.EBADF, os.strerror(errno.EBADF)), None, ""),
    ],
    ids=str,
)
def test_error_is_told_in_one_line(error, code, text):
    assert screen.explained(error, "PLACE", "it goes on") == (code, text)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("", 3, ""), ("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc…fg"), ("abcdefg", 5, "ab…fg"), ("abcdefg", 3, "a…g")],
)
def test_long_names_are_cut_in_their_middle(text, most, expected):
    assert screen.shortened(text, most) == expected


def test_silence_that_ends_with_an_error_leaves_no_descriptor_open(capfd):
    def fail(error: Exception) -> None:
        with screen.quiet():
            os.write(2, b"what the libraries say\n")
            raise error

    def attempt(error: Exception) -> None:
        with pytest.raises(type(error)):
            fail(error)

    attempt(ValueError())
    before = len(os.listdir("/proc/self/fd"))
    for error in (ValueError(), checks.UsageError("x")):
        attempt(error)
    assert len(os.listdir("/proc/self/fd")) == before
    assert capfd.readouterr().err.count("what the libraries say") == 2  # of a UsageError its own text is all
