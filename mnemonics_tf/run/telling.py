"""What a run says on the screen: a line when it starts, one after each phase, and in bars how the whole is going."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import tensorflow as tf

from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.learner import expected
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.system import screen, tracking

_MOST_SIZES = 12  # that are listed one by one


class Teller:
    """Tells people how a run goes, on standard error.

    Args:
      settings: of the run.
      stream: its data, dealt out to phases.
      strategy: its devices.
    """

    def __init__(self, settings: Settings, stream: ClassStream, strategy: tf.distribute.Strategy):
        self._settings, self._stream, self._strategy = settings, stream, strategy
        shape = stream.dataset.image_shape
        planned = expected.loads(settings, shape, stream.phase_sizes, stream.class_sizes.tolist())
        self._expected = expected.seconds(settings, shape, planned, strategy.num_replicas_in_sync)
        self._end: float | None = None  # when the run will be over, on the clock that only goes on
        self._last = ""  # what the last phase has reached

    def begin(self, finished: Sequence[PhaseResult]) -> None:
        """The line of a run that starts, or goes on after some phases."""
        stream, settings = self._stream, self._settings
        memory = settings.memory
        kept = f"{memory.strategy} exemplars ({memory.mode})" if memory.keeps else "no exemplars"
        first = len(finished)
        if finished:
            self._last = _accuracy(finished[-1])
        goes_on = f"; phases 0 to {first - 1} are complete" if first else ""
        classes = f"{len(stream.class_order):,} classes ({_sizes(stream.phase_sizes)})"
        tracking.notice(
            f"phases {first} to {stream.num_phases - 1}: {settings.method.name} with {kept} on {stream.dataset.name}, "
            f"{classes}, {stream.class_sizes.sum():,} training images, {_devices(self._strategy)}"
            f"{self._left(finished)}{goes_on}"
        )

    def phase(self, finished: Sequence[PhaseResult]) -> None:
        """The line of the last of the phases that are complete."""
        result = finished[-1]
        self._last = accuracy = _accuracy(result)
        took = expected.told(sum(result.seconds.values()))
        last = self._stream.num_phases - 1
        left = self._left(finished) if result.phase < last else ""
        title, accuracy = screen.emphasised(f"phase {result.phase}/{last}:"), screen.emphasised(accuracy)
        tracking.notice(f"{title} {accuracy} of {result.num_classes} classes, in {took}{left}")

    def overview(self) -> list[str]:
        """How the run is going, in a few words: the time that is left of it, then what the last phase has reached."""
        left = 0.0 if self._end is None else self._end - time.monotonic()
        # An estimate that has run out tells nothing.
        return [f"run: about {expected.told(left)} to go"] * (left > 0) + [self._last] * bool(self._last)

    def _left(self, finished: Sequence[PhaseResult]) -> str:
        """How long the phases to come will take, by what the finished ones took."""
        if self._expected is None:
            return ""
        rest = sum(self._expected[len(finished) :])
        taken = sum(sum(result.seconds.values()) for result in finished if not result.reused)
        planned = sum(self._expected[result.phase] for result in finished if not result.reused)
        if planned:
            rest *= taken / planned
        self._end = time.monotonic() + rest
        return f"; about {expected.told(rest)} to go"


def _accuracy(result: PhaseResult) -> str:
    return ", ".join(f"{name} {value:.2f} %" for name, value in result.accuracy.items())


def _sizes(sizes: Sequence[int]) -> str:
    """Numbers of classes of the phases: `50 + 5 x 10`."""
    runs = [(size, len(list(same))) for size, same in itertools.groupby(sizes)]
    shown = [f"{count} x {size}" if count > 1 else f"{size}" for size, count in runs[:_MOST_SIZES]]
    return " + ".join([*shown, "..."] if len(runs) > _MOST_SIZES else shown)


def _devices(strategy: tf.distribute.Strategy) -> str:
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    count = strategy.num_replicas_in_sync
    return f"{count} {kind}{'s' if count > 1 else ''}"
