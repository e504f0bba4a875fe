"""Scale-and-shift layers and batch norm."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.layers import (
    ConvNorm,
    FusedBatchNormalization,
    ScaleShiftConv2D,
    ScaleShiftDense,
    batch_statistics,
)

_FORMS = ("per_neuron", "per_kernel")


def _conv(images: np.ndarray, kernel: np.ndarray, strides: int) -> np.ndarray:
    """Convolution of `[B, H, W, C]` with `[k, k, C, R]`, zero-padded by k // 2 on every side, from its definition."""
    side = kernel.shape[0]
    pad = side // 2
    batch, height, width, channels = images.shape
    padded = np.zeros((batch, height + 2 * pad, width + 2 * pad, channels))
    padded[:, pad : pad + height, pad : pad + width] = images
    rows = range(0, height + 2 * pad - side + 1, strides)
    columns = range(0, width + 2 * pad - side + 1, strides)
    outputs = np.zeros((batch, len(rows), len(columns), kernel.shape[-1]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = padded[:, row : row + side, column : column + side]
            outputs[:, i, j] = np.einsum("bhwc,hwcr->br", window, kernel)
    return outputs


def _conv_layer(scale_form: str | None, kernel_size: int = 3, strides: int = 1) -> ScaleShiftConv2D:
    layer = ScaleShiftConv2D(4, kernel_size, strides, scale_form)
    layer.build((None, 6, 5, 3))
    return layer


def _dense_layer(scale_form: str | None) -> ScaleShiftDense:
    layer = ScaleShiftDense(4, scale_form)
    layer.build((None, 3))
    return layer


def _conv_norm_layer(scale_form: str | None) -> ConvNorm:
    layer = ConvNorm(4, 3, 1, scale_form)
    layer.build((None, 6, 5, 3))
    layer.norm.moving_mean.assign([0.5, -0.5, 0.2, 0.0])
    layer.norm.moving_variance.assign([0.5, 2.0, 1.0, 3.0])
    return layer


_LAYERS = {"conv": _conv_layer, "dense": _dense_layer, "conv_norm": _conv_norm_layer}


def _inputs(kind: str) -> np.ndarray:
    shape = (5, 3) if kind == "dense" else (2, 6, 5, 3)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _randomise(layer) -> None:
    """Random bias, scale and shift, as they are after some phases."""
    generator = np.random.default_rng(1)
    layer.bias.assign(generator.normal(size=layer.bias.shape))
    layer.scale.assign(generator.normal(1.0, 0.5, layer.scale.shape))
    layer.shift.assign(generator.normal(size=layer.shift.shape))


def _names(variables) -> set[str]:
    """Names of the variables, but for those of batch norm."""
    return {variable.name for variable in variables if "norm" not in variable.path.split("/")}


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_convolution_pads_half_the_kernel_on_every_side(kernel_size, strides):
    layer = _conv_layer(None, kernel_size, strides)
    outputs = layer(_inputs("conv"))
    np.testing.assert_allclose(outputs, _conv(_inputs("conv"), layer.kernel.numpy(), strides), atol=1e-5)
    assert layer.compute_output_shape((2, 6, 5, 3)) == tuple(outputs.shape)


_NARROW_SHORTCUT = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])  # on one core it ended at once
from mnemonics_tf.models.layers import ScaleShiftConv2D
import tensorflow as tf
layer = ScaleShiftConv2D(8, 1, 2)
images = tf.random.normal([16, 16, 16, 4])
layer(images)

@tf.function
def gradients():
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(layer(images) ** 2)
    return tape.gradient(loss, [images, layer.kernel])

for _ in range(60):
    gradients()
blocks = [bytearray(8000 * size) for size in range(1, 300)]
del blocks
print("whole")
"""


@pytest.mark.heavy
def test_shortcut_of_few_channels_leaves_memory_whole_with_onednn():
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", _NARROW_SHORTCUT], env=environment, capture_output=True, text=True, timeout=200
    )
    assert (finished.returncode, finished.stdout.strip()) == (0, "whole"), finished.stderr[-500:]


@pytest.mark.parametrize("length", [4, 5, 8, 9])
def test_strided_convolution_sees_the_same_border_on_even_and_odd_sides(length):
    # A kernel of ones counts the pixels under it. With one pixel of padding on each side, the first window covers
    # rows -1..1, so 2 rows of the image, whatever its size; one-sided padding would put 3 there on even sides.
    layer = ScaleShiftConv2D(1, 3, 2)
    layer.build((None, length, length, 1))
    layer.kernel.assign(np.ones((3, 3, 1, 1)))
    counts = layer(np.ones((1, length, length, 1), np.float32)).numpy()[0, :, :, 0]
    assert counts[0, 0] == 2 * 2
    assert counts[0, 1] == 2 * 3
    assert counts[1, 1] == 3 * 3
    assert counts.shape == ((length + 1) // 2,) * 2


@pytest.mark.parametrize("scale_form", _FORMS)
@pytest.mark.parametrize("strides", [1, 2])
def test_transferring_convolution_follows_equation_11(scale_form, strides):
    layer = _conv_layer(scale_form, strides=strides)
    _randomise(layer)
    layer.set_transferring(True)
    # One scale a filter, or one for each pair of input channel and filter.
    assert layer.scale.shape == {"per_neuron": (1, 1, 1, 4), "per_kernel": (1, 1, 3, 4)}[scale_form]
    kernel, scale = layer.kernel.numpy().astype(np.float64), layer.scale.numpy()
    scaled = np.zeros_like(kernel)
    for channel in range(3):
        for filter_index in range(4):
            factor = scale[0, 0, channel if scale_form == "per_kernel" else 0, filter_index]
            scaled[:, :, channel, filter_index] = kernel[:, :, channel, filter_index] * factor
    expected = _conv(_inputs("conv"), scaled, strides) + layer.bias.numpy() + layer.shift.numpy()
    np.testing.assert_allclose(layer(_inputs("conv")), expected, atol=1e-5)


@pytest.mark.parametrize("scale_form", _FORMS)
def test_transferring_dense_layer_follows_equation_11(scale_form):
    layer = _dense_layer(scale_form)
    _randomise(layer)
    layer.set_transferring(True)
    assert layer.scale.shape == {"per_neuron": (1, 4), "per_kernel": (3, 4)}[scale_form]
    weights = layer.kernel.numpy() * layer.scale.numpy()
    expected = np.einsum("bi,iq->bq", _inputs("dense"), weights) + layer.bias.numpy() + layer.shift.numpy()
    np.testing.assert_allclose(layer(_inputs("dense")), expected, atol=1e-5)


@pytest.mark.parametrize("scale_form", _FORMS)
@pytest.mark.parametrize("kind", _LAYERS)
def test_fresh_scale_and_shift_change_nothing(kind, scale_form):
    layer = _LAYERS[kind](scale_form)
    layer.bias.assign(np.arange(4.0))
    before = layer(_inputs(kind))
    layer.set_transferring(True)
    np.testing.assert_allclose(layer(_inputs(kind)), before, atol=1e-6)


@pytest.mark.parametrize("scale_form", _FORMS)
@pytest.mark.parametrize("kind", _LAYERS)
def test_folding_leaves_outputs_unchanged(kind, scale_form):
    layer = _LAYERS[kind](scale_form)
    _randomise(layer)
    kernel = layer.kernel.numpy()
    layer.set_transferring(True)
    before = layer(_inputs(kind)).numpy()
    layer.fold()
    np.testing.assert_allclose(layer(_inputs(kind)), before, atol=1e-5)
    layer.set_transferring(False)
    np.testing.assert_allclose(layer(_inputs(kind)), before, atol=1e-5)
    # It is the weights that changed, not the switch that was forgotten.
    assert np.abs(layer.kernel.numpy() - kernel).max() > 0.01


@pytest.mark.parametrize("scale_form", _FORMS)
@pytest.mark.parametrize("kind", _LAYERS)
def test_folding_starts_scale_and_shift_anew(kind, scale_form):
    layer = _LAYERS[kind](scale_form)
    _randomise(layer)
    bias, shift = layer.bias.numpy(), layer.shift.numpy()
    layer.fold()
    np.testing.assert_array_equal(layer.scale, np.ones(layer.scale.shape))
    np.testing.assert_array_equal(layer.shift, np.zeros(4))
    np.testing.assert_allclose(layer.bias, bias + shift, atol=1e-6)
    folded = layer.kernel.numpy()
    layer.fold()
    np.testing.assert_array_equal(layer.kernel, folded)


@pytest.mark.parametrize("scale_form", _FORMS)
@pytest.mark.parametrize("kind", _LAYERS)
def test_either_the_weights_are_trained_or_scale_and_shift(kind, scale_form):
    layer = _LAYERS[kind](scale_form)
    assert _names(layer.trainable_variables) == {"kernel"}
    layer.set_transferring(True)
    assert _names(layer.trainable_variables) == {"scale", "shift"}
    layer.set_transferring(False)
    assert _names(layer.trainable_variables) == {"kernel"}


@pytest.mark.parametrize("kind", _LAYERS)
def test_layer_without_scale_and_shift_is_a_plain_kernel(kind):
    layer = _LAYERS[kind](None)
    assert _names(layer.variables) == {"kernel"}
    kernel = layer.kernel.numpy()
    layer.fold()
    np.testing.assert_array_equal(layer.kernel, kernel)
    with pytest.raises(UsageError, match="has no scale and shift: build it with scale_form"):
        layer.set_transferring(True)


def test_gradients_of_scale_and_shift():
    layer = _dense_layer("per_neuron")
    _randomise(layer)
    layer.set_transferring(True)
    inputs, cotangent = _inputs("dense"), np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        # A tape does not watch by itself what was not trainable when it was made.
        tape.watch([layer.scale.value, layer.shift.value])
        loss = tf.reduce_sum(layer(inputs) * cotangent)
    scale, shift = tape.gradient(loss, [layer.scale.value, layer.shift.value])
    # y_bq = T_q (x W)_bq + b_q + s_q, so dL/dT_q = sum_b g_bq (x W)_bq and dL/ds_q = sum_b g_bq.
    np.testing.assert_allclose(scale[0], np.sum(cotangent * (inputs @ layer.kernel.numpy()), axis=0), atol=1e-5)
    np.testing.assert_allclose(shift, cotangent.sum(axis=0), atol=1e-5)


def test_unknown_scale_form_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'per_neuron'"):
        ScaleShiftDense(3, "per_neurone")


def test_convolution_starts_with_he_normal_fan_out():
    # Standard deviation sqrt(2 / (k * k * filters)) = sqrt(2 / (9 * 64)) = 0.0589; by fan-in (16 channels) it would be
    # twice that. A sample of 9216 has a standard error of 1 / sqrt(2 * 9216) = 0.7 %.
    keras.utils.set_random_seed(0)
    layer = ScaleShiftConv2D(64, 3)
    layer.build((None, 8, 8, 16))
    kernel = layer.kernel.numpy()
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 576), rtol=0.04)
    # A truncated normal never exceeds 2 (truncated) deviations; of 9216 normal values some exceed 3.
    assert np.abs(kernel).max() > 3 * np.sqrt(2 / 576)


def _batch_norm(dtype: str = "float32") -> FusedBatchNormalization:
    """Momentum 0.9, epsilon 1e-5, and every variable off its default."""
    layer = FusedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)
    layer.build((None, 3, 5, 2))
    layer.gamma.assign([1.5, 0.5])
    layer.beta.assign([-1.0, 2.0])
    layer.moving_mean.assign([0.3, -0.2])
    layer.moving_variance.assign([2.0, 0.7])
    return layer


def _activations() -> np.ndarray:
    return np.random.default_rng(3).normal([2.0, -1.0], [3.0, 0.4], (4, 3, 5, 2)).astype(np.float32)


def test_batch_norm_normalises_by_the_batch_when_it_trains():
    images = _activations()
    mean, variance = images.mean(axis=(0, 1, 2)), images.var(axis=(0, 1, 2))
    expected = [1.5, 0.5] * (images - mean) / np.sqrt(variance + 1e-5) + [-1.0, 2.0]
    np.testing.assert_allclose(_batch_norm()(images, training=True), expected, atol=1e-5)


def test_batch_norm_moves_its_statistics_by_a_tenth():
    layer, images = _batch_norm(), _activations()
    layer(images, training=True)
    # The fused kernel hands out the unbiased variance, n / (n - 1) of that of the batch, n = 4 * 3 * 5 = 60.
    variance = images.var(axis=(0, 1, 2)) * 60 / 59
    np.testing.assert_allclose(
        layer.moving_mean, 0.9 * np.array([0.3, -0.2]) + 0.1 * images.mean(axis=(0, 1, 2)), rtol=1e-5
    )
    np.testing.assert_allclose(layer.moving_variance, 0.9 * np.array([2.0, 0.7]) + 0.1 * variance, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_infers_by_the_moving_statistics_and_leaves_them_alone(dtype):
    layer, images = _batch_norm(dtype), _activations()
    expected = [1.5, 0.5] * (images - [0.3, -0.2]) / np.sqrt(np.array([2.0, 0.7]) + 1e-5) + [-1.0, 2.0]
    np.testing.assert_allclose(layer(images.astype(dtype), training=False), expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, [0.3, -0.2], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [2.0, 0.7], rtol=1e-6)


def test_frozen_batch_norm_infers_even_where_it_is_told_to_train():
    layer, images = _batch_norm(), _activations()
    layer.trainable = False
    np.testing.assert_allclose(layer(images, training=True), layer(images, training=False), atol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, [0.3, -0.2], rtol=1e-6)


def test_fused_batch_norm_has_the_gradients_of_the_plain_one():
    # In float64 the layer is Keras's own, which has no fused kernel.
    images = _activations()
    cotangent = np.random.default_rng(4).normal(size=images.shape)
    gradients = []
    for dtype in ("float32", "float64"):
        layer, inputs = _batch_norm(dtype), tf.constant(images, dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs, training=True) * tf.constant(cotangent, dtype))
        gradients.append(tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))
    for fused, plain in zip(*gradients, strict=True):
        np.testing.assert_allclose(fused, plain, atol=2e-5)


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_on_batch_statistics_leaves_its_moving_ones_alone(training, trainable):
    layer, images = _batch_norm(), _activations()
    layer.trainable = trainable
    with batch_statistics():
        outputs = layer(images, training=training)
    mean, variance = images.mean(axis=(0, 1, 2)), images.var(axis=(0, 1, 2))
    expected = [1.5, 0.5] * (images - mean) / np.sqrt(variance + 1e-5) + [-1.0, 2.0]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, np.float32([0.3, -0.2]))
    np.testing.assert_array_equal(layer.moving_variance, np.float32([2.0, 0.7]))


def test_batch_statistics_end_with_their_context_even_after_an_error():
    layer, images = _batch_norm(), _activations()
    before = layer(images, training=False)
    with pytest.raises(RuntimeError), batch_statistics():
        raise RuntimeError
    np.testing.assert_array_equal(layer(images, training=False), before)
