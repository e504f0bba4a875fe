"""Calls of a Keras model with given parameters, so that training steps become functions of them."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.models.choices import BATCH_NORMS
from mnemonics_tf.models.layers import FusedBatchNormalization, batch_statistics


def parameters(model: keras.Layer) -> list[tf.Tensor]:
    """Present values of the model's trainable variables, in the order in which `functional_call` takes them."""
    return [tf.convert_to_tensor(variable) for variable in model.trainable_variables]


def functional_call(
    model: keras.Layer, params: Sequence[tf.Tensor], inputs: tf.Tensor, batch_norm: str = "frozen"
) -> Any:
    """Calls a model or layer with `params` in the place of its trainable variables. Nothing in it changes.

    All layers work as at inference. Only batch norm can use the statistics of the batch, by moments whose second
    derivatives are right.

    Args:
      model: any Keras model or layer that is built.
      params: a tensor for each of `model.trainable_variables`, in their order and of their shapes and dtypes.
      inputs: what the model is called with, such as normalised images `[B, H, W, C]`.
      batch_norm: the statistics that batch norm uses: `frozen` (its moving ones) or `batch` (those of `inputs`).
        `frozen` by default: a batch of few exemplars has poor statistics.

    Returns:
      What the model returns when it is called, such as `Outputs` for a `Classifier`.

    Raises:
      UsageError: `batch_norm` is neither of the two, or is `batch` for a model with Keras's own batch norm, whose
        second derivatives are wrong in training mode.
    """
    checks.check_choice("batch_norm", batch_norm, BATCH_NORMS)
    uses_batch = batch_norm == "batch"
    if uses_batch:
        _refuse_stock_batch_norm(model)
    frozen = [tf.convert_to_tensor(variable) for variable in model.non_trainable_variables]
    # A subclassed model need not take the argument, and functional and sequential ones do.
    takes_training = isinstance(model, keras.Model) and "training" in inspect.signature(model.call).parameters
    training = {"training": False} if takes_training else {}
    with batch_statistics() if uses_batch else contextlib.nullcontext():
        outputs, _ = model.stateless_call(list(params), frozen, inputs, **training)
    return outputs


def _refuse_stock_batch_norm(model: keras.Layer) -> None:
    # Keras has no public way to list the layers inside layers.
    layers = model._flatten_layers(recursive=True)
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization) and not isinstance(layer, FusedBatchNormalization):
            raise checks.UsageError(
                f"Layer {layer.name!r} is Keras's BatchNormalization, whose second derivatives are wrong when it uses "
                "the statistics of the batch: it stops the gradient of the mean inside the variance. Build the model "
                "with mnemonics_tf.models.layers.FusedBatchNormalization, or keep the statistics frozen "
                "(batch_norm='frozen')."
            )
