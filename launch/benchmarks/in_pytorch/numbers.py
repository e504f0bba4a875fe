"""Outer losses and meta-gradients, compared with those that the TensorFlow side has left in a file."""

from __future__ import annotations

import os
from collections.abc import Callable

import inputs
import numpy as np
import torch
from harness.turns import Turns

from in_pytorch.exemplar_level import meta_gradient
from in_pytorch.networks import batch, build


def same_numbers(start: Callable[[], Turns]) -> None:
    """Computes what the TensorFlow side left in the heat's folder once more; tells the relative differences.

    Those in float32 mean little: where a ReLU's input is about zero, rounding decides whether a derivative passes. So
    PyTorch's float32 is compared with its own float64, too.
    """
    turn = start()
    arrays = dict(np.load(os.path.join(os.environ["BENCHMARK_FOLDER"], inputs.NUMBERS_FILE)))
    differences = {}
    for batch_norm in inputs.BATCH_NORMS:
        own = {}
        for dtype in inputs.CHECKED_DTYPES:
            network = build(inputs.RESNET20, batch_norm)
            network.take_weights(arrays)
            network.to(getattr(torch, dtype))
            exemplars = batch(inputs.CHECKED_EXEMPLARS, 0, getattr(torch, dtype))
            outer = batch(inputs.CHECKED_OUTER_BATCH, 1, getattr(torch, dtype))
            loss, by_images = meta_gradient(network, exemplars, outer, inputs.CHECKED_STEPS)
            own[dtype] = {"loss": loss, "gradient": by_images.transpose(0, 2, 3, 1)}
            for name, value in own[dtype].items():
                difference = relative_difference(arrays[f"{dtype}/{batch_norm}/{name}"], value)
                differences[f"{name}, {batch_norm} statistics, {dtype}"] = difference
        differences[f"gradient, {batch_norm} statistics, PyTorch's float32 against its float64"] = relative_difference(
            own["float32"]["gradient"], own["float64"]["gradient"]
        )
    turn.done(differences=differences)


def relative_difference(value: np.ndarray, reference: np.ndarray) -> float:
    """Length of the difference over the length of the reference."""
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))
