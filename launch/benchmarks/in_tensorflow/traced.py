"""How long TensorFlow traces."""

from __future__ import annotations

import time

from tensorflow.python.eager.polymorphic_function import tracing_compilation


class TracingClock:
    """Adds up the seconds in which Python functions become graphs, those of input pipelines among them.

    A function that is traced within another counts once, in the outer one. What TensorFlow does to a graph before it
    first runs it is not in it.

    Attributes:
      seconds: so far, since the clock was made.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        # TensorFlow has no public place where all tracing passes by.
        create = tracing_compilation._create_concrete_function

        def timed(*args, **kwargs):
            begun = time.perf_counter()
            self._depth += 1
            try:
                return create(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - begun

        tracing_compilation._create_concrete_function = timed
