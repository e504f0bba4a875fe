"""Checks that several modules share. Every message says what came, what was expected and how to mend it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class UsageError(ValueError):
    """The user asked for something that cannot be done.

    The command line shows its text alone, without a traceback, and exits with 2.
    """


class BusyError(UsageError):
    """Another process is working in the folder of the run or learner.

    The command line shows its text alone, without a traceback, and exits with 4.
    """


class DivergedError(RuntimeError):
    """A loss became NaN or infinite. What earlier phases saved is untouched.

    It is no UsageError, as nothing was asked for wrongly. The command line shows its text alone, and exits with 2.
    """


class ExhaustedError(RuntimeError):
    """The machine or a device has too little memory for a step. What earlier phases saved is untouched.

    The command line shows its text alone, and exits with 2.
    """


class LostWorkerError(RuntimeError):
    """Another worker of the run has ended or cannot be reached any more.

    The command line shows its text alone, and exits with 1. The same command, started on all workers, goes on.
    """


def check_positive(**values: float) -> None:
    """Raises UsageError unless every value is a finite number above zero.

    As in all checks here, a value's keyword is the name that the message gives it. Names with dots are passed so:

        check_positive(**{"ModelLevel.learning_rate": 0.1})
    """
    for name, value in values.items():
        if not _is_number(value) or value <= 0:
            raise _unexpected(name, value, "a number above 0")


def check_positive_integer(**values: int) -> None:
    """Raises UsageError unless every value is a whole number from 1 up to, but not including, 2^63."""
    for name, value in values.items():
        if not _is_integer(value) or value < 1:
            raise _unexpected(name, value, "a whole number of at least 1")


def check_non_negative_integer(**values: int) -> None:
    """Raises UsageError unless every value is a whole number from 0 up to, but not including, 2^63, as seeds are."""
    for name, value in values.items():
        if not _is_integer(value) or value < 0:
            raise _unexpected(name, value, "a whole number of at least 0")


def check_legacy_seed(**values: int) -> None:
    """Raises UsageError unless every value is a seed of NumPy's legacy generator: a whole number, 0 <= value < 2^32."""
    check_non_negative_integer(**values)
    for name, value in values.items():
        if value >= 2**32:
            raise UsageError(f"{name} = {value}: expected a number below 2^32.")


def check_non_negative(**values: float) -> None:
    """Raises UsageError unless every value is a finite number of at least zero."""
    for name, value in values.items():
        if not _is_number(value) or value < 0:
            raise _unexpected(name, value, "a number of at least 0")


def check_bool(**values: bool) -> None:
    """Raises UsageError unless every value is True or False: the text 'False' would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise UsageError(f"{name} = {value!r}: expected True or False.")


def check_fraction(**values: float) -> None:
    """Raises UsageError unless every value lies in 0 <= value < 1."""
    for name, value in values.items():
        if not _is_number(value) or not 0 <= value < 1:
            raise _unexpected(name, value, "a number from 0 up to, but not including, 1")


def check_share(**values: float) -> None:
    """Raises UsageError unless every value lies in 0 <= value <= 1."""
    for name, value in values.items():
        if not _is_number(value) or not 0 <= value <= 1:
            raise _unexpected(name, value, "a number from 0 to 1")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises UsageError unless `value` is one of `choices`; the message lists them and names the nearest."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"{name} = {value!r}: expected one of {listed}.{nearest(str(value), choices)}")


def check_finite_losses(stage: str, losses: dict[str, float], when: str) -> None:
    """Raises DivergedError if a loss is NaN or infinite.

    Args:
      stage: name of the stage that trains, for the message.
      losses: losses by name.
      when: the point in the stage, such as `epoch 3 of 160`, for the message.
    """
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        raise DivergedError(
            f"{', '.join(broken)} became {losses[broken[0]]} in stage {stage}, {when}. What was learned before is "
            "kept. Lower the stage's learning rate, or look for broken images."
        )


def nearest(word: str, choices: Iterable[str]) -> str:
    """The sentence ` Did you mean ...?`, space in front, with the choice most like `word`; empty if none is like it."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _unexpected(name: str, value: Any, expected: str) -> UsageError:
    # Settings are written as JSON, which knows Python's numbers alone.
    hint = " Give Python's own, by int(...) or float(...)." if type(value).__module__ == "numpy" else ""
    return UsageError(f"{name} = {value!r}: expected {expected}.{hint}")


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return _is_integer(value)
    return isinstance(value, float) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    # Larger ones do not fit TensorFlow's integers.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
