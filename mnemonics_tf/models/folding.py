"""Inference with batch norm folded into the convolutions before it: one operation on activations for three.

    gain * (W x + b) + offset = (gain * W) x + (gain * b + offset)

A network that stays as it is for many images, as the teacher of a phase does, is folded once; one that is trained in
between is folded in the graph that runs it. Convolution, offset and ReLU are then one kernel of oneDNN or cuDNN.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import keras
import tensorflow as tf

from mnemonics_tf.models.classifier import Classifier, Outputs
from mnemonics_tf.models.keras_layers import KERNELS, ScaledLayer
from mnemonics_tf.models.layers import ConvNorm, FusedBatchNormalization, folded_norms


@dataclasses.dataclass(frozen=True)
class Folded:
    """The weights of a network without its batch norm.

    Attributes:
      values: variables of convolutions, kernels and some biases, and what stands in their place.
      offsets: by the identity of a batch norm what is left of it, `[C]` to be added to each position, or None where
        nothing is.
    """

    values: list[tuple[keras.Variable, tf.Tensor]]
    offsets: dict[int, tf.Tensor | None]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the network works by these weights. It must be called at inference, and not trained."""
        with keras.StatelessScope(self.values), folded_norms(self.offsets):
            yield


def folded(model: Classifier) -> Folded:
    """Folds all batch norm that directly follows a convolution or dense layer; other layers stay as they are.

    Called inside a traced function it follows the weights, and costs a product of each kernel a call.

    Args:
      model: the network; it is not changed.
    """
    values: list[tuple[keras.Variable, tf.Tensor]] = []
    offsets: dict[int, tf.Tensor | None] = {}
    for layer in model.backbone_layers:
        if isinstance(layer, ConvNorm):
            kernel, offset = layer.folded_weights()
            values.append((layer.kernel, kernel))
            offsets[id(layer.norm)] = offset
    shown = [id(output) for inner in model.backbone_models for output in inner.outputs]
    for layer in model.backbone_layers:
        if isinstance(layer, FusedBatchNormalization) and id(layer) not in offsets:
            before = _only_read_by(layer)
            if before is not None and id(before.output) not in shown:
                found, offsets[id(layer)] = _folded_pair(before, layer)
                values += found
    return Folded(values, offsets)


class Inference:
    """A network at inference that is folded once, when this is made: later changes of its weights do not count.

    Args:
      model: the network; it is not changed.
      strategy: whose replicas call it.
    """

    def __init__(self, model: Classifier, strategy: tf.distribute.Strategy):
        self.model = model
        weights = folded(model)
        with strategy.scope():
            self._folded = Folded(
                [(variable, tf.Variable(value, trainable=False)) for variable, value in weights.values],
                {
                    norm: None if offset is None else tf.Variable(offset, trainable=False)
                    for norm, offset in weights.offsets.items()
                },
            )

    def __call__(self, images: tf.Tensor) -> Outputs:
        """What the network says of normalised images `[B, H, W, C]`."""
        with self._folded.applied():
            return self.model(images, training=False)


def _only_read_by(norm: FusedBatchNormalization) -> keras.layers.Layer | None:
    """The layer with kernels, of Keras's, whose outputs go into a batch norm as they are and nowhere else; or None."""
    # Keras has no public way to tell who reads a layer's output.
    if len(norm._inbound_nodes) != 1 or len(norm._inbound_nodes[0].parent_nodes) != 1:
        return None
    before = norm._inbound_nodes[0].parent_nodes[0].operation
    if len(before._inbound_nodes) != 1 or len(before._outbound_nodes) != 1:
        return None
    inner = before.layer if isinstance(before, ScaledLayer) else before
    is_known = type(inner) in [getattr(keras.layers, name) for name in KERNELS]
    if not is_known or inner.activation is not keras.activations.linear:
        return None
    is_scaled = isinstance(before, ScaledLayer) and before.transferring
    return None if is_scaled or getattr(inner, "data_format", "channels_last") != "channels_last" else before


def _folded_pair(
    before: keras.layers.Layer, norm: FusedBatchNormalization
) -> tuple[list[tuple[keras.Variable, tf.Tensor]], tf.Tensor | None]:
    """What stands in the place of a layer's variables, and what is left of the batch norm after it."""
    layer = before.layer if isinstance(before, ScaledLayer) else before
    gain, offset = norm.frozen_affine()
    name, is_depthwise = list(KERNELS[type(layer).__name__].items())[-1]
    kernel = getattr(layer, name)
    values = [(kernel, kernel * (tf.reshape(gain, kernel.shape[-2:]) if is_depthwise else gain))]
    if not layer.use_bias:
        return values, offset
    return [*values, (layer.bias, layer.bias * gain + offset)], None
