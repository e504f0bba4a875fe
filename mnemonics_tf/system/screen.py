"""Keeps the screen for people: a mistake in flags is one line, and TensorFlow's libraries load in silence.

It imports no TensorFlow, so that --help does not wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import tqdm
from absl import flags

from mnemonics_tf import __version__, checks
from mnemonics_tf.system import files

# Exit codes, besides 0 and those of signals (128 and the signal's number).
LOST_WORKER = 1  # another worker has ended: the same command goes on, once all workers are started again
USAGE_ERROR = 2  # something cannot be done as asked for; divergence is among it
STOPPED = 3  # a signal has stopped a run or a learn, and what it has come to is kept: the same command goes on
BUSY = 4  # another process is working in the folder: the same command, once that one is done


def parse_flags(program: str, argv: Sequence[str]) -> list[str]:
    """Parses the command line; a mistake in it is one line and exit code 2, and --help and --version end with 0.

    From here on, characters that the terminal or file does not know are replaced.

    Args:
      program: what the line begins with.
      argv: the command line.

    Returns:
      What is not a flag.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if "version" not in flags.FLAGS:  # not when this is imported: programs of others have such a flag of their own
        flags.DEFINE_bool("version", False, "Print the package's version, and do nothing else.", module_name=argv[0])
    try:
        arguments = flags.FLAGS(argv)
    except flags.Error as error:
        print(f"{program}: {error} (see --help)", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except SystemExit:
        sys.exit(0)  # absl has shown what --help or its like asks for, which it counts as a failure
    if flags.FLAGS.version:
        print(f"mnemonics_tf {__version__}")
        sys.exit(0)
    return arguments


def explained(error: Exception, place: str, advice: str) -> tuple[int | None, str]:
    """The exit code of an error and what to tell the user; no code for one that only a traceback explains.

    Args:
      error: what ended the command.
      place: where it was writing, should the error not say it.
      advice: what happens once there is room on a full disk: half a sentence.
    """
    kinds: dict[type[Exception], int] = {
        checks.BusyError: BUSY,  # before UsageError, of which it is one
        checks.UsageError: USAGE_ERROR,
        checks.DivergedError: USAGE_ERROR,
        checks.ExhaustedError: USAGE_ERROR,
        checks.LostWorkerError: LOST_WORKER,
    }
    for kind, code in kinds.items():
        if isinstance(error, kind):
            # gin adds to an exception's text where it was raised.
            return code, str(error).partition("\n  In call to configurable")[0]
    name = getattr(error, "filename", None) or place
    reason = files.why_unwritable(error)
    if reason is not None:
        mend = "Mend that" if reason == os.strerror(errno.EROFS) else "Make room there"
        return USAGE_ERROR, f"{name} cannot be written: {reason}. {mend}, and {advice}."
    if isinstance(error, MemoryError):
        told = str(error).partition("\n")[0] or "no more is said"
        return USAGE_ERROR, f"There is too little memory ({told}). With more of it, or smaller images, {advice}."
    reason = files.why_failing(error)
    if reason is not None:
        return USAGE_ERROR, f"{name} cannot be used any more: {reason}. Mend that, and {advice}."
    return None, ""


def exit_code(error: Exception, place: str, advice: str, reworded: Callable[[str], str] = str) -> int:
    """Says why a command ends, and returns its exit code.

    Raises the error itself where only a traceback explains it, or the user has asked for one by --verbosity.

    Args:
      error, place, advice: see `explained`.
      reworded: what a text becomes that names things as the command does not.
    """
    code, text = explained(error, place, advice)
    if code is None or flags.FLAGS["verbosity"].present:
        raise error
    tell_error(reworded(text))
    return code


_aside: list[int] = []  # descriptors of standard error that are turned aside


def last_words(text: str) -> None:
    """A line on standard error from a process that ends now, whatever its other threads are writing."""
    # A progress bar leaves its line unfinished.
    start = "\n" if tqdm.tqdm._instances else ""
    with contextlib.suppress(OSError):
        os.write(_aside[-1] if _aside else 2, f"{start}{text}\n".encode(errors="replace"))


def how_to_go_on(module: str) -> str:
    """A sentence with the command that was given, for a process that is stopped and goes on when it is given again.

    Args:
      module: that the command runs, unless it was given as `mnemonics-tf <command>`.
    """
    program = sys.argv[0]
    if not program.startswith("mnemonics-tf "):
        program = f"{shlex.quote(sys.orig_argv[0])} -m {module}"
    return f"Go on with: {program} {shlex.join(sys.argv[1:])}"


def say(text: str) -> None:
    """Lines on standard output, as long as anybody reads them: who pipes them into `head` has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """What is written to a stream from here on, and what waits in its buffer, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def notice(text: str) -> None:
    """One line on standard error, before something that takes long."""
    print(text, file=sys.stderr, flush=True)


def is_coloured(stream: TextIO | None) -> bool:
    """Whether colours are for someone's eyes: a terminal that knows them, of a user who has not refused them."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not refused


def emphasised(text: str) -> str:
    """The text in bold, if standard error is a terminal that shows it."""
    return f"\x1b[1m{text}\x1b[0m" if is_coloured(sys.stderr) else text


def shown(text: str) -> str:
    """A text that came from elsewhere in one line: what would move the cursor or change colours is escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def tell_error(text: str) -> None:
    """Says on standard error why a command ends; what has several lines keeps them."""
    print(f"mnemonics_tf: {chr(10).join(map(shown, text.splitlines()))}", file=sys.stderr)


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters, which are 3 or more. It is cut in its middle: names of classes often begin
    alike, and differ at their end.
    """
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[-end:]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallows standard error inside, unless there is an exception: then all of it is shown.

    Of a UsageError nothing is shown, as its one line says all.

    TensorFlow's C++ libraries write there directly, so the file descriptor itself is turned aside. Log messages below
    errors stay silent afterwards too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(tensorflow|keras|google)")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside, contextlib.ExitStack() as stack:
        descriptor = os.dup(2)
        stack.callback(os.close, descriptor)
        with turned_aside(descriptor):
            os.dup2(aside.fileno(), 2)
            try:
                yield
            except checks.UsageError:
                raise
            except BaseException:
                sys.stderr.flush()
                os.dup2(descriptor, 2)
                aside.seek(0)
                sys.stderr.write(aside.read().decode(errors="replace"))
                raise
            finally:
                os.dup2(descriptor, 2)


@contextlib.contextmanager
def turned_aside(descriptor: int) -> Iterator[None]:
    """Says where standard error is while something else takes its place, so that a process can say why it ends."""
    _aside.append(descriptor)
    try:
        yield
    finally:
        _aside.remove(descriptor)
