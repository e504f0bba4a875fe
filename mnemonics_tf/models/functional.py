"""Calls of a Keras model with given parameters, so that training steps become functions of them."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from mnemonics_tf.models.classifier import Outputs


def parameters(model: keras.Model) -> list[tf.Tensor]:
    """Present values of the trainable variables, in the order `functional_call` takes them."""
    return [tf.convert_to_tensor(variable) for variable in model.trainable_variables]


def functional_call(model: keras.Model, params: Sequence[tf.Tensor], images: tf.Tensor) -> Outputs:
    """Calls `model` with `params` in the place of its trainable variables, in inference mode.

    Batch norm uses its moving statistics. In training mode Keras's batch norm gives wrong second derivatives (it
    stops a gradient inside the variance), so there is no such option here.

    Args:
      model: a model that maps images to `Outputs`.
      params: one tensor for each of `model.trainable_variables`, of the same dtype.
      images: normalised images `[B, H, W, C]`.
    """
    frozen = [tf.convert_to_tensor(variable) for variable in model.non_trainable_variables]
    outputs, _ = model.stateless_call(list(params), frozen, images, training=False)
    return outputs
