"""What a run shows while it works: progress bars on the screen and scalars and images for TensorBoard."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from mnemonics_tf.system import files, machine, screen
from mnemonics_tf.system.lazy import tf
from mnemonics_tf.system.screen import notice as notice

_SHORT, _INTERVAL = 1.0, 0.2  # seconds: what needs no bar, and between two looks of one
_LEAST_BAR = 4  # characters of a bar that can be read
_SUFFIX = ".phase"  # and the phase's number: how names of TensorBoard's files end


class _Bar(tqdm.tqdm):
    """A bar that also says how the whole is going, as far as the terminal has room for it beside all else."""

    # No thread draws it: standard error is turned aside while images are decoded (`data.complaints`).
    monitor_interval = 0
    overview: Callable[[], Sequence[str]] | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the line is made of, anew each time it is drawn."""
        values = super().format_dict
        parts = [] if self.overview is None else list(self.overview())
        # What is less important gives way first; the postfix, a loss, does so before the time that is left of the run.
        title = values["prefix"]
        told = [{**values, "prefix": f"{title} ({'; '.join(parts[:end])})"} for end in range(len(parts), 0, -1)]
        shorter = [{**each, "postfix": None} for each in told[-1:]]
        return next((each for each in told + shorter if self._has_room(each)), values)

    def _has_room(self, values: Mapping[str, Any]) -> bool:
        """Whether a line of these values is not cut off at its end, and its bar has some length."""
        # Where no width is given the line is as long as it has to be, with a bar of ten characters.
        line = self.format_meter(**{**values, "ncols": None, "colour": None})
        return values["ncols"] is None or len(line) - 10 + _LEAST_BAR <= values["ncols"]


def progress(description: str, total: int, unit: str, overview: Callable[[], Sequence[str]] | None = None) -> tqdm.tqdm:
    """A progress bar on standard error with rate and time left, from the second second on.

    A context manager with `update` and `set_postfix`. In a notebook it is a bar of the notebook; in a pipe or a file
    there is none. On a terminal that shows colours it is green.

    Args:
      description: what is being done.
      total: number of units.
      unit: their name.
      overview: says how the whole is going of which this is a part, whenever the bar is drawn: a few words each, the
        most important first, of which those are shown that the terminal has room for. None for nothing.
    """
    bar = (_notebook_bar() if _in_notebook() else _Bar)(
        desc=description,
        total=total,
        unit=f" {unit}",
        delay=_SHORT,  # what is over in a second needs no bar
        mininterval=_INTERVAL,
        maxinterval=_INTERVAL,
        dynamic_ncols=True,
        disable=not _is_watched(),
        colour="green" if screen.is_coloured(sys.stderr) else None,
    )
    bar.overview = overview
    return bar


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _is_watched() -> bool:
    """Whether what is shown is seen while it changes; a log file gets a line a stage."""
    return _in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def _notebook_bar() -> type[tqdm.tqdm]:
    """The bar of notebooks, or of terminals where what draws it in notebooks (ipywidgets) is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tqdm.TqdmWarning)  # says that ipywidgets is missing
        from tqdm import auto
    return auto.tqdm


class Tracker:
    """Durations of stages, and TensorBoard.

    Each phase has a file of its own among TensorBoard's. A phase that is run again begins by removing its file and
    those of later phases: curves of an attempt that was given up would be drawn beside the new ones.

    Args:
      log_dir: TensorBoard's folder, or None to write nothing.

    Attributes:
      seconds: time spent in each stage of the present phase.
      peak_mebibytes: the most memory that the process had ever used when each stage of the present phase was over.
      overview: says how the run is going, for its bars; None, the default, for nothing.
    """

    def __init__(self, log_dir: str | None = None):
        self._log_dir = log_dir
        self._writer = tf.summary.create_noop_writer()
        self._phase = 0
        self._num_phases: int | None = 1
        self.seconds: dict[str, float] = {}
        self.peak_mebibytes: dict[str, float] = {}
        self.overview: Callable[[], Sequence[str]] | None = None
        self._begun: dict[str, float] = {}  # stages that are not over, and when they were begun

    def start_phase(self, phase: int, num_phases: int | None, earlier: dict[str, float] | None = None) -> None:
        """Names the phase that stages, bars and tags belong to from here on.

        Args:
          phase: its index.
          num_phases: how many there will be; None where nobody knows.
          earlier: how long each stage has taken in an interrupted attempt, which this one goes on with: its curves
            stay. None if there was none.
        """
        self._phase, self._num_phases = phase, num_phases
        self.seconds, self.peak_mebibytes = dict(earlier or {}), {}
        if self._log_dir is None:
            return
        with self._lenient():
            self._writer.close()
            for path in glob.glob(os.path.join(glob.escape(self._log_dir), f"*{_SUFFIX}*")):
                number = path.rpartition(_SUFFIX)[2]
                if number.isdigit() and int(number) >= phase + (earlier is not None):
                    os.remove(path)
            self._writer = tf.summary.create_file_writer(self._log_dir, filename_suffix=f"{_SUFFIX}{phase:03d}")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to `seconds[name]`, notes the memory used by then, and tells the time in a line
        where there are no bars."""
        start = self._begun[name] = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self._begun.pop(name, None)
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            self.peak_mebibytes[name] = machine.peak_memory_bytes() / 2**20
        if taken >= _SHORT and not _is_watched():
            notice(f"{self._title} {name}: {taken:.0f} s")

    def seconds_so_far(self) -> dict[str, float]:
        """Time spent in each stage of the present phase, those included that are not over."""
        now, seconds = time.perf_counter(), dict(self.seconds)
        for name, start in self._begun.items():
            seconds[name] = seconds.get(name, 0.0) + now - start
        return seconds

    def progress(self, stage: str, total: int, unit: str) -> tqdm.tqdm:
        """A progress bar that names the phase, and says how the run is going."""
        return progress(f"{self._title} {stage}", total, unit, self.overview)

    @property
    def _title(self) -> str:
        last = "" if self._num_phases is None else f"/{self._num_phases - 1}"
        return f"phase {self._phase}{last}"

    def phase_scalars(self, stage: str, values: dict[str, Any], step: int) -> None:
        """Writes numbers as `phase_<i>/<stage>/<name>`, at an epoch or step of that stage."""
        with self._lenient(), self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"phase_{self._phase}/{stage}/{name}", value, step)

    def run_scalars(self, values: dict[str, Any]) -> None:
        """Writes numbers as `run/<name>`, at the phase's index."""
        with self._lenient(), self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"run/{name}", value, self._phase)

    def image(self, name: str, image: np.ndarray, description: str | None = None) -> None:
        """Writes one uint8 image `[H, W, C]`, at the phase's index; the description stands above it."""
        with self._lenient(), self._writer.as_default():
            tf.summary.image(name, image[None], self._phase, description=description)

    def text(self, name: str, text: str) -> None:
        """Writes a text in Markdown, at the phase's index."""
        with self._lenient(), self._writer.as_default():
            tf.summary.text(name, text, self._phase)

    def hparams(self, values: Mapping[str, str | int | float | bool]) -> None:
        """Tells the HParams plug-in by which settings this run differs from others."""
        from tensorboard.plugins.hparams import api  # which only runs need

        with self._lenient(), self._writer.as_default():
            # Without a name of its own a trial has that of its folder below --logdir, which is unique and can be read.
            api.hparams(dict(values), trial_id="")

    @property
    def writes(self) -> bool:
        """Whether what is written goes anywhere."""
        return self._log_dir is not None

    @contextlib.contextmanager
    def lenient(self) -> Iterator[str]:
        """Hands out TensorBoard's folder; goes on without TensorBoard if it cannot be written to."""
        with self._lenient():
            yield self._log_dir or ""

    def flush(self) -> None:
        """Makes everything written so far visible to TensorBoard."""
        with self._lenient():
            self._writer.flush()

    @contextlib.contextmanager
    def _lenient(self) -> Iterator[None]:
        """Goes on without TensorBoard if its files cannot be written: no run should end for want of a picture."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = files.why_unwritable(error) or type(error).__name__
            notice(f"{self._log_dir} cannot be written ({reason}): the run goes on without TensorBoard.")
            self._writer, self._log_dir = tf.summary.create_noop_writer(), None
