"""Shows how a sweep is going: a table on a terminal, lines in a file."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Sequence
from typing import TextIO

from mnemonics_tf.system import screen
from sweeping.progress import Entry, State

# Which runs are shown if not all can be: first what goes on or went wrong, then what comes next.
_IMPORTANCE = (State.RUNNING, State.FAILED, State.BUSY, State.WAITING, State.FINISHED)

_DEFAULT_SIZE = (80, 24)


def shower(stream: TextIO) -> Callable[[Sequence[Entry]], None]:
    """What to call whenever something may have changed, as it suits `stream`.

    Once nobody reads the stream any more, or the disk is full that it is written to, nothing is shown: the runs, which
    write elsewhere, go on.
    """
    is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    draw: TerminalTable | ChangedLines = TerminalTable(stream) if is_terminal else ChangedLines(stream)
    is_broken = False

    def show(entries: Sequence[Entry]) -> None:
        nonlocal is_broken
        if is_broken:
            return
        try:
            draw(entries)
        except OSError:
            is_broken = True
            screen.silence(stream)

    return show


class TerminalTable:
    """A table that is redrawn in its place."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._drawn: list[str] = []

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Draws the table, unless it would look the same."""
        size = os.get_terminal_size(self._stream.fileno())
        lines = table(entries, size.columns or _DEFAULT_SIZE[0], size.lines or _DEFAULT_SIZE[1])
        if lines == self._drawn:
            return
        # Up to the table's first line; then each line anew, with its rest cleared; then what is below it.
        up = f"\x1b[{len(self._drawn)}F" if self._drawn else ""
        self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = lines


class ChangedLines:
    """A line whenever a run changes its state or finishes a phase."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._shown: dict[str, str] = {}

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Writes a line for each run that has changed."""
        for entry in entries:
            state = _state(entry)
            if state != self._shown.get(entry.run.name, State.WAITING):
                print(f"{entry.run.name}: {state}, {_details(entry)}", file=self._stream, flush=True)
            self._shown[entry.run.name] = state


def table(entries: Sequence[Entry], width: int, height: int) -> list[str]:
    """The lines of a table that fits a terminal of `width` columns and `height` lines.

    The last line counts the runs. If there are too many for the terminal, the finished ones are left out first.
    """
    shown = _most_important(entries, height - 3)  # the header, the last line, and the cursor's
    name_width = max((len(entry.run.name) for entry in shown), default=0)
    lines = [f"{'run':{name_width}}  {'state':14}  {'average (%)':>11}  seconds"]
    lines += [
        f"{entry.run.name:{name_width}}  {_state(entry):14}  {_average(entry):>11}  {entry.seconds:7.0f}"
        for entry in shown
    ]
    counts = collections.Counter(entry.state for entry in entries)
    hidden = f" ({len(entries) - len(shown)} not shown)" if len(shown) < len(entries) else ""
    states = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    lines.append(f"{len(entries)} runs{hidden}: {states}")
    return [line[: width - 1] for line in lines]


def _most_important(entries: Sequence[Entry], limit: int) -> list[Entry]:
    """At most `limit` entries, in their order."""
    positions = sorted(range(len(entries)), key=lambda position: _IMPORTANCE.index(entries[position].state))
    return [entries[position] for position in sorted(positions[: max(limit, 0)])]


def _state(entry: Entry) -> str:
    if entry.state != State.RUNNING:
        return entry.state.value
    # All phases are complete for a moment before the process ends.
    return f"phase {min(entry.progress.num_complete, entry.num_phases)}/{entry.num_phases}"


def _average(entry: Entry) -> str:
    average = entry.progress.average_accuracy
    return "" if average is None else f"{average:.2f}"


def _details(entry: Entry) -> str:
    average = _average(entry)
    return f"average {average} %, {entry.seconds:.0f} s" if average else f"{entry.seconds:.0f} s"
