"""Convolution and dense layers whose weights can be scaled and shifted (Section 5 of the paper).

For a layer with R neurons, weight transfer learns a scale T^W and a shift T^b on top of weights W and b that stay
as they are (Eq. 11):

    X_q = (W_q * T^W_q) X_{q-1} + (b_q + T^b_q)

After the phase they are folded into the weights (Eq. 14) and start again from one and zero.

A layer is either *transferring* (W and b frozen, T trained) or not (W trained, no T in the computation). The switch
is read when a function is traced.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf

from mnemonics_tf import checks, runtime
from mnemonics_tf.models import batch_moments
from mnemonics_tf.models.choices import SCALE_FORMS
from mnemonics_tf.models.scaled_norm import nonzero, scaled_batch_norm

_NARROW = 8  # channels, fewer than fill a vector of AVX2


class TransferLayer(keras.layers.Layer):
    """The base of all layers that weight transfer can scale and shift.

    Attributes:
      transferring: whether scale and shift are trained on frozen weights now, or the weights themselves. False when the
        layer is made.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.transferring = False

    @property
    def kernels(self) -> list[keras.Variable]:
        """The variables that weight transfer scales, and holds fixed."""
        raise NotImplementedError

    @property
    def transfer_weights(self) -> list[keras.Variable]:
        """The variables that the layer has for weight transfer alone: bias, scale and shift; none without these."""
        raise NotImplementedError

    def set_transferring(self, transferring: bool) -> None:
        """Trains scale and shift on frozen weights (True), or the weights themselves (False)."""
        raise NotImplementedError

    def fold(self) -> None:
        """Moves scale and shift into the layer's weights, so that its output stays the same (Eq. 14)."""
        raise NotImplementedError


class ScaleShiftLayer(TransferLayer):
    """The base of convolution and dense layer: their variables, the switch between trainings, and the folding.

    Args:
      units: R, the number of neurons (filters of a convolution).
      scale_form: `per_neuron` for one scale a neuron, as Eq. 11 has it; `per_kernel` for one scale for each pair of
        input and output channel. None, the default, for no scale and shift at all, and no bias either, since batch norm
        or a head follows.

    Raises:
      UsageError: `scale_form` is no such choice.
    """

    def __init__(self, units: int, scale_form: str | None = None, **kwargs):
        super().__init__(**kwargs)
        if scale_form is not None:
            checks.check_choice("scale_form", scale_form, SCALE_FORMS)
        self.units = units
        self.scale_form = scale_form

    def _add_weights(self, kernel_shape: tuple[int, ...], initializer: keras.initializers.Initializer) -> None:
        self.kernel = self.add_weight(name="kernel", shape=kernel_shape, initializer=initializer)
        if self.scale_form is None:
            return
        inputs = kernel_shape[-2] if self.scale_form == "per_kernel" else 1
        scale_shape = (1,) * (len(kernel_shape) - 2) + (inputs, self.units)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=scale_shape, initializer="ones", trainable=False)
        self.shift = self.add_weight(name="shift", shape=(self.units,), initializer="zeros", trainable=False)

    @property
    def kernels(self) -> list[keras.Variable]:
        return [self.kernel]

    @property
    def transfer_weights(self) -> list[keras.Variable]:
        return [] if self.scale_form is None else [self.bias, self.scale, self.shift]

    def set_transferring(self, transferring: bool) -> None:
        """Trains scale and shift on frozen weights (True), or the weights themselves (False).

        Raises:
          UsageError: the layer was built without scale and shift.
        """
        if transferring and self.scale_form is None:
            raise checks.UsageError(
                f"Layer {self.name!r} has no scale and shift: build it with scale_form 'per_neuron' or 'per_kernel'."
            )
        self.transferring = transferring
        self.kernel.trainable = not transferring
        if self.scale_form is not None:
            self.scale.trainable = transferring
            self.shift.trainable = transferring

    def fold(self) -> None:
        """Moves scale and shift into the layer's weights: W <- W * T^W and b <- b + T^b (Eq. 14).

        The output stays the same: T^W is 1 and T^b is 0 afterwards.
        """
        if self.scale_form is None:
            return
        self.kernel.assign(self.kernel * self.scale)
        self.bias.assign(self.bias + self.shift)
        self.scale.assign(tf.ones_like(self.scale))
        self.shift.assign(tf.zeros_like(self.shift))

    def _effective_weights(self) -> tuple[tf.Tensor, tf.Tensor | None]:
        """`(W * T^W, b + T^b)`; the second is None for a layer without bias."""
        if self.scale_form is None:
            return tf.convert_to_tensor(self.kernel), None
        if not self.transferring:
            return tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        return self.kernel * self.scale, self.bias + self.shift


class ScaleShiftConv2D(ScaleShiftLayer):
    """2D convolution of `[B, H, W, C]`, zero-padded by half the kernel, with optional scale and shift.

    Args:
      filters: number of output channels.
      kernel_size: side of the square kernel in pixels.
      strides: step of the kernel in both directions, in pixels. 1 by default, which keeps the resolution.
      scale_form: `per_neuron`, `per_kernel`, or None, the default, for no scale and shift, see `ScaleShiftLayer`.
    """

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, scale_form: str | None = None, **kwargs):
        super().__init__(filters, scale_form, **kwargs)
        self.kernel_size = kernel_size
        self.strides = strides

    def build(self, input_shape: tuple[int, ...]) -> None:
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.units)
        # He et al. with fan-out: keeps the variance of gradients, not of activations, from layer to layer.
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        self._add_weights(shape, initializer)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = self._effective_weights()
        outputs = self._convolve(inputs, kernel)
        return outputs if bias is None else tf.nn.bias_add(outputs, bias)

    def _convolve(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self.strides > 1 and self.kernel_size > 1:
            # Symmetric, as the published networks have it; "SAME" pads strided convolutions on one side only. As an
            # operation of its own, because convolution with explicit padding takes more than twice as long on a CPU.
            pad = self.kernel_size // 2
            inputs = tf.pad(inputs, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
            return tf.nn.conv2d(inputs, kernel, self.strides, "VALID")
        if self.strides > 1 and inputs.shape[-1] < _NARROW:
            # The same pixels, taken beforehand: on processors without AVX-512 oneDNN writes past the end of its memory
            # in gradients of strided pointwise convolutions of so few channels (TensorFlow 2.21): the process ends.
            inputs = inputs[:, :: self.strides, :: self.strides]
            return tf.nn.conv2d(inputs, kernel, 1, "SAME")
        return tf.nn.conv2d(inputs, kernel, self.strides, "SAME")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        def side(length: int | None) -> int | None:
            return None if length is None else (length - 1) // self.strides + 1

        return input_shape[0], side(input_shape[1]), side(input_shape[2]), self.units


class ScaleShiftDense(ScaleShiftLayer):
    """Dense layer `[B, inputs] -> [B, units]` with optional scale and shift.

    Args:
      units: number of outputs.
      scale_form: `per_neuron`, `per_kernel`, or None, the default, for no scale and shift, see `ScaleShiftLayer`.
    """

    def build(self, input_shape: tuple[int, ...]) -> None:
        self._add_weights((input_shape[-1], self.units), keras.initializers.GlorotUniform())

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = self._effective_weights()
        outputs = tf.matmul(inputs, kernel)
        return outputs if bias is None else tf.nn.bias_add(outputs, bias)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.units


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch norm over the last axis, trained by TensorFlow's fused kernel.

    The kernel saves 2 to 12 % of a training step on a CPU (`docs/measured_facts.md`). Inference is Keras's own. Several
    replicas normalise by the moments of all their batches together.

    Inside `batch_statistics()`, a call normalises by the batch's own moments, in a way that can be differentiated twice
    (see `batch_moments`), and leaves the moving statistics alone. Keras's batch norm in training mode is wrong there:
    `tf.nn.moments` stops the gradient of the mean inside the variance, which only the first derivative can do without.

    Raises:
      UsageError: when built without scale or center, or over another axis than the last.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        if not (self.scale and self.center) or self.axis not in (-1, len(input_shape) - 1):
            raise checks.UsageError(
                f"Layer {self.name!r} has scale = {self.scale}, center = {self.center} and axis = {self.axis}: "
                "FusedBatchNormalization knows only scale and center of the last axis."
            )

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if _USES_BATCH_STATISTICS.get():
            gamma, beta = (tf.cast(each, inputs.dtype) for each in (self.gamma, self.beta))
            return batch_moments.normalised(inputs, gamma, beta, self.epsilon)
        if id(self) in _FOLDED.get():
            return _with_offset(inputs, _FOLDED.get()[id(self)])
        if not self._trains_fused(training, inputs.shape.rank):
            return super().call(inputs, training=training, mask=mask)
        if runtime.num_replicas() > 1:
            outputs, mean, variance = self._across_replicas(inputs)
            self._remember(mean, variance)
            return outputs
        # The kernel also makes the moving statistics, as `_remember` would but for rounding: ten operations less.
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            self.gamma,
            self.beta,
            self.moving_mean.value,
            self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=True,
            exponential_avg_factor=1.0 - self.momentum,
        )
        self.moving_mean.assign(mean)
        self.moving_variance.assign(variance)
        return outputs

    def _trains_fused(self, training: bool | None, rank: int) -> bool:
        """Whether a call normalises by its batch in another way than Keras."""
        # The fused kernel knows no float64, which finite-difference checks use, and nothing but images.
        return bool(training) and self.trainable and self.compute_dtype != "float64" and rank == 4

    def _remember(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * self.momentum + batch * (1.0 - self.momentum))

    def takes_scales(self, training: bool | None) -> bool:
        """Whether `of_scaled` does in training what a call would do with images, on one replica."""
        is_plain = not _USES_BATCH_STATISTICS.get() and runtime.num_replicas() == 1
        return is_plain and self._trains_fused(training, 4)

    def of_scaled(self, outputs: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        """The batch norm of `outputs + shift` in training, which also knows the derivative by the scale in it.

        Args:
          outputs: of a convolution by scaled filters, without bias: `[B, H, W, C]`.
          scale: that of each filter, `[C]`, see `scaled_batch_norm`.
          shift: what is added to each, `[C]`; batch norm takes it out again.
        """
        outputs, mean, variance = scaled_batch_norm(outputs, scale, shift, self.gamma, self.beta, self.epsilon)
        self._remember(mean, variance)
        return outputs

    def _across_replicas(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Outputs, mean and variance as one device would have them that saw the batches of all replicas."""
        axes, dtype = [0, 1, 2], inputs.dtype
        inputs = tf.cast(inputs, self.variable_dtype)  # sums of half precision would be worthless
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), inputs.dtype)
        count, total = runtime.sum_over_replicas([count, tf.reduce_sum(inputs, axes)])
        mean = total / count
        # Centred first: the mean of squares minus the square of the mean would lose digits.
        centred = inputs - mean
        (squares,) = runtime.sum_over_replicas([tf.reduce_sum(centred**2, axes)])
        outputs = centred * (tf.math.rsqrt(squares / count + self.epsilon) * self.gamma) + self.beta
        # The fused kernel, too, corrects the variance that is remembered for the size of the sample.
        return tf.cast(outputs, dtype), mean, squares / tf.maximum(count - 1.0, 1.0)

    def frozen_affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Gain and offset `[C]` of inference, where batch norm is `gain * x + offset`."""
        gain = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return gain, self.beta - self.moving_mean * gain


_USES_BATCH_STATISTICS = contextvars.ContextVar("uses_batch_statistics", default=False)


@contextlib.contextmanager
def batch_statistics() -> Iterator[None]:
    """A context in which `FusedBatchNormalization` uses the moments of its batch, right to second order.

    A function that was traced inside keeps to it wherever it is called.
    """
    token = _USES_BATCH_STATISTICS.set(True)
    try:
        yield
    finally:
        _USES_BATCH_STATISTICS.reset(token)


# What is left of each batch norm that was folded into the layer before it.
_FOLDED: contextvars.ContextVar[Mapping[int, tf.Tensor | None]] = contextvars.ContextVar("folded", default={})  # noqa: B039


@contextlib.contextmanager
def folded_norms(offsets: Mapping[int, tf.Tensor | None]) -> Iterator[None]:
    """A context in which some batch norm only adds an offset, since the kernels before it have taken up its gain.

    Args:
      offsets: by the `id` of a `FusedBatchNormalization` what it adds, `[C]`; None for nothing. That of a `ConvNorm`
        has its bias in it, too.
    """
    token = _FOLDED.set(offsets)
    try:
        yield
    finally:
        _FOLDED.reset(token)


def _with_offset(outputs: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    # By bias_add, which TensorFlow makes one operation of with the convolution before it, and a ReLU after it.
    return outputs if offset is None else tf.nn.bias_add(outputs, tf.cast(offset, outputs.dtype))


class ConvNorm(ScaleShiftConv2D):
    """A convolution followed by batch norm; at inference a single convolution, as the statistics are constants then.

        gain * (W x + b) + offset = (gain * W) x + (gain * b + offset)

    That leaves one operation on activations where there would be three, forwards and in every derivative: a meta-step
    takes 4.9 s for 6.0 s (`docs/measured_facts.md`).

    In training with weight transfer and a scale for each neuron, no gradient of the kernel is computed: that of scales
    follows from that of batch norm (`scaled_norm`).

    Args:
      filters: number of output channels.
      kernel_size: side of the square kernel in pixels.
      strides: step of the kernel in both directions, in pixels. 1 by default, which keeps the resolution.
      scale_form: `per_neuron`, `per_kernel`, or None, the default, for no scale and shift, see `ScaleShiftLayer`.
    """

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, scale_form: str | None = None, **kwargs):
        super().__init__(filters, kernel_size, strides, scale_form, **kwargs)
        # Keras's momentum is the weight of the old value: 0.9 here is 0.1 in PyTorch's terms.
        self.norm = FusedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape: tuple[int, ...]) -> None:
        super().build(input_shape)
        self.norm.build(self.compute_output_shape(input_shape))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if self.transferring and self.scale_form == "per_neuron" and self.norm.takes_scales(training):
            # In float32, as batch norm has its own weights: what is near 0 in it may be 0 in float16.
            scale = nonzero(tf.cast(tf.reshape(self.scale, [-1]), self.norm.gamma.dtype))
            kernel = tf.convert_to_tensor(self.kernel)
            outputs = self._convolve(inputs, tf.stop_gradient(kernel * tf.cast(scale, kernel.dtype)))
            return self.norm.of_scaled(outputs, scale, self.bias + self.shift)
        if training or _USES_BATCH_STATISTICS.get():
            return self.norm(super().call(inputs), training=training)
        if id(self.norm) in _FOLDED.get():
            outputs = self._convolve(inputs, tf.convert_to_tensor(self.kernel))
            return _with_offset(outputs, _FOLDED.get()[id(self.norm)])
        kernel, bias = self._effective_weights()
        gain, offset = self._frozen_affine(bias)
        # Not bias_add: fusing that makes TensorFlow find cycles in graphs of several nested steps.
        return self._convolve(inputs, kernel * tf.cast(gain, kernel.dtype)) + tf.cast(offset, kernel.dtype)

    def _frozen_affine(self, bias: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """What the convolution without its bias is multiplied by at inference, and what is added: `[C]` each."""
        gain, offset = self.norm.frozen_affine()
        return gain, offset if bias is None else offset + gain * tf.cast(bias, gain.dtype)

    def folded_weights(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The kernel of the single convolution of inference, and what it adds to each channel, `[C]`."""
        kernel, bias = self._effective_weights()
        gain, offset = self._frozen_affine(bias)
        return kernel * gain, offset
