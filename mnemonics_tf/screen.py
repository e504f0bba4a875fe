"""Keeps the screen for people: silences what TensorFlow's libraries print when they are loaded."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


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
