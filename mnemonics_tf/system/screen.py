"""Keeps the screen for people: a mistake in flags is one line, and TensorFlow's libraries load in silence.

It imports no TensorFlow, so that --help does not wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence

from absl import flags

# Exit codes, besides 0 and those of signals (128 and the signal's number).
LOST_WORKER = 1  # another worker has ended: the same command goes on, once all workers are started again
USAGE_ERROR = 2  # something cannot be done as asked for; divergence is among it
BUSY = 3  # another process is working in the run's folder


def parse_flags(program: str, argv: Sequence[str]) -> list[str]:
    """Parses the command line; a mistake in it is one line and exit code 2.

    Args:
      program: what the line begins with.
      argv: the command line.

    Returns:
      What is not a flag.
    """
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"{program}: {error} (see --help)", file=sys.stderr)
        sys.exit(USAGE_ERROR)


def notice(text: str) -> None:
    """One line on standard error, before something that takes long."""
    print(text, file=sys.stderr, flush=True)


def shown(text: str) -> str:
    """A text that came from elsewhere in one line: what would move the cursor or change colours is escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallows standard error inside, unless there is an exception: then all of it is shown.

    TensorFlow's C++ libraries write there directly, so the file descriptor itself is turned aside. Log messages below
    errors stay silent afterwards too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(tensorflow|keras|google)")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        descriptor = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            os.dup2(descriptor, 2)
            aside.seek(0)
            sys.stderr.write(aside.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(descriptor, 2)
            os.close(descriptor)
