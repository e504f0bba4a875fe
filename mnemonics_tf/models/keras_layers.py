"""Layers that Keras models get when they become backbones: the way in, and scale and shift around layers of Keras's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mnemonics_tf.models.layers import FusedBatchNormalization, TransferLayer

# Layers that weight transfer scales and shifts: the kernels of each, and whether a kernel has its own outputs for each
# input channel, as depthwise ones do.
KERNELS: dict[str, dict[str, bool]] = {
    "Conv2D": {"kernel": False},
    "Dense": {"kernel": False},
    "DepthwiseConv2D": {"kernel": True},
    "SeparableConv2D": {"depthwise_kernel": True, "pointwise_kernel": False},
}


class Denormalised(keras.layers.Layer):
    """What a model expects, from images that this package has normalised: `gain * x + offset` for each channel.

    Args:
      gain: one number for each channel, `[C]`.
      offset: one number for each channel, `[C]`.
      reverses: whether the channels then change their order, from RGB to BGR. False by default.
    """

    def __init__(self, gain: Sequence[float], offset: Sequence[float], reverses: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.gain, self.offset, self.reverses = tuple(gain), tuple(offset), reverses

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = inputs * tf.constant(self.gain, inputs.dtype) + tf.constant(self.offset, inputs.dtype)
        return tf.reverse(outputs, axis=[-1]) if self.reverses else outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"gain": list(self.gain), "offset": list(self.offset), "reverses": self.reverses}
        return {**super().get_config(), **own}


class ScaledLayer(TransferLayer):
    """A convolution or dense layer of Keras's with scale and shift: `(W * T^W) x + (b + T^b)`, then its activation.

    Args:
      layer: the layer that is scaled and shifted, one of `KERNELS`.
      scale_form: `per_neuron` for one scale a neuron, as Eq. 11 has it; `per_kernel` for one scale for each pair of
        input and output channel. A depthwise neuron has one input channel, so that both are the same there.
      trains_bias: whether the layer's bias is trained where scale and shift are not. False for a layer that came
        without a bias, and has one only to fold the shift into.
    """

    def __init__(self, layer: keras.layers.Layer, scale_form: str, trains_bias: bool, **kwargs):
        super().__init__(**kwargs)
        self.layer, self.scale_form, self.trains_bias = layer, scale_form, trains_bias
        self._kernels = KERNELS[type(layer).__name__]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        self.scales = {name: self._add_scale(name, depthwise) for name, depthwise in self._kernels.items()}
        shape = self.layer.bias.shape
        self.shift = self.add_weight(name="shift", shape=shape, initializer="zeros", trainable=False)
        self.layer.bias.trainable = self.trains_bias

    def _add_scale(self, name: str, depthwise: bool) -> keras.Variable:
        *sides, inputs, outputs = getattr(self.layer, name).shape
        inputs = inputs if depthwise or self.scale_form == "per_kernel" else 1
        shape = (*(1 for _ in sides), inputs, outputs)
        return self.add_weight(name=f"{name}_scale", shape=shape, initializer="ones", trainable=False)

    @property
    def kernels(self) -> list[keras.Variable]:
        return [getattr(self.layer, name) for name in self.scales]

    @property
    def transfer_weights(self) -> list[keras.Variable]:
        added = [] if self.trains_bias else [self.layer.bias]
        return [*added, *self.scales.values(), self.shift]

    def set_transferring(self, transferring: bool) -> None:
        self.transferring = transferring
        for kernel, scale in zip(self.kernels, self.scales.values(), strict=True):
            kernel.trainable = not transferring
            scale.trainable = transferring
        self.layer.bias.trainable = self.trains_bias and not transferring
        self.shift.trainable = transferring

    def fold(self) -> None:
        for variable, value in self._effective_weights():
            variable.assign(value)
        for scale in self.scales.values():
            scale.assign(tf.ones_like(scale))
        self.shift.assign(tf.zeros_like(self.shift))

    def _effective_weights(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """The layer's kernels and bias, and `W * T^W` and `b + T^b` of each."""
        scaled = [(kernel, kernel * scale) for kernel, scale in zip(self.kernels, self.scales.values(), strict=True)]
        return [*scaled, (self.layer.bias, self.layer.bias + self.shift)]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not self.transferring:
            return self.layer(inputs)
        effective = {id(variable): value for variable, value in self._effective_weights()}
        trained, fixed = (
            [effective[id(variable)] for variable in variables]
            for variables in (self.layer.trainable_variables, self.layer.non_trainable_variables)
        )
        return self.layer.stateless_call(trained, fixed, inputs)[0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        own = {"layer": layer, "scale_form": self.scale_form, "trains_bias": self.trains_bias}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledLayer:
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


# What Keras must be told of when it builds a backbone from its configuration.
CUSTOM_OBJECTS: dict[str, type[keras.layers.Layer]] = {
    made.__name__: made for made in (Denormalised, FusedBatchNormalization, ScaledLayer)
}
