"""Outer losses and meta-gradients, left in a file for the PyTorch side to compute them once more."""

from __future__ import annotations

import os
from collections.abc import Callable

import inputs
import keras
import numpy as np
from harness.turns import Turns

from in_tensorflow.exemplar_level import meta_gradient
from in_tensorflow.networks import batch, build
from mnemonics_tf.system import devices


def same_numbers(start: Callable[[], Turns]) -> None:
    """Leaves weights, outer losses and meta-gradients in the heat's folder."""
    strategy = devices.Devices().create_strategy()
    model = build(inputs.RESNET20, strategy)
    generator = np.random.default_rng(2)
    for variable in model.variables:
        # A new network has ones and zeros there, which would hide a value at the wrong place.
        if variable.path.endswith(("gamma", "moving_variance", "eta")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean")):
            variable.assign(generator.normal(0.0, 0.1, variable.shape))
    turn = start()
    arrays = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    for dtype in inputs.CHECKED_DTYPES:
        copy = build(inputs.RESNET20, strategy, dtype)
        copy.set_weights(model.get_weights())
        exemplars = batch(inputs.CHECKED_EXEMPLARS, 0, dtype)
        outer = batch(inputs.CHECKED_OUTER_BATCH, 1, dtype)
        for batch_norm in inputs.BATCH_NORMS:
            compute = meta_gradient(
                copy, strategy, exemplars, outer, inputs.CHECKED_STEPS, engine="adjoint", batch_norm=batch_norm
            )
            loss, by_exemplars = compute()
            arrays |= {f"{dtype}/{batch_norm}/loss": loss, f"{dtype}/{batch_norm}/gradient": by_exemplars}
    np.savez(os.path.join(os.environ["BENCHMARK_FOLDER"], inputs.NUMBERS_FILE), **arrays)
    turn.done()
