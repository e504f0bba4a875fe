"""What TensorFlow would keep of a traced function for ever, and need not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tensorflow.python.framework import ops  # TensorFlow has no public name for its registry of gradients


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """A context after which TensorFlow holds no function that was traced in it for the sake of its custom gradients.

    Keras's optimizers add gradients up over replicas, of which there may be one, by an operation with a custom
    gradient. The process-wide registry of gradients holds that for ever, and with it the graph of the training step:
    2 graphs a phase, 8 with probes. What was traced inside keeps working, but cannot be differentiated again by a
    function that is traced later.
    """
    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith("CustomGradient-"):
                del registry[name]
