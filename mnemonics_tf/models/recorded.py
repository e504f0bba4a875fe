"""Derivatives that are written down, for gradient tapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record  # TensorFlow has no public way to tell tapes what was computed.


def with_gradient(name: str, function: Callable[..., tuple[Any, Callable[..., Any]]], *inputs: tf.Tensor) -> Any:
    """Calls a function that also says what its gradient is, as `tf.custom_gradient` would.

    That enters each graph that it is traced in into a registry for ever, which makes memory grow with every phase. This
    tells tapes and forward accumulators alone: `tf.gradients`, and so the gradients of `tf.while_loop` and of functions
    that are called under a tape, do not see it and differentiate the operations.

    Args:
      name: of the operation, for messages.
      function: of the inputs; returns a tensor or a tuple of tensors, and the function from their gradients to those of
        the inputs, in their order. What that computes may be differentiated again.
      *inputs: floating tensors.

    Returns:
      What the function returned first.
    """
    outputs, differentiate = function(*inputs)
    # Copies, which cost nothing in a graph: what is recorded of them last is what tapes know of them.
    outputs = tf.nest.map_structure(tf.identity, outputs)
    record.record_operation(name, tf.nest.flatten(outputs), list(inputs), differentiate)
    return outputs
