"""Residual networks, their sizes, shapes and settings, and what they are built of."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.layers import ConvNorm, ScaleShiftConv2D, batch_statistics
from mnemonics_tf.models.resnet import ResNet

_RESNET18 = ResNet((2, 2, 2, 2), (64, 128, 256, 512), "7x7")


def _trainable_count(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# Convolutions have no bias; batch norm has 2 trained values a channel (gamma, beta) and 2 others (moving mean and
# variance).
#
# ResNet-20 on 32x32x3, 3 blocks of two 3x3 convolutions in each stage:
#   stem                     9*3*16                              =     432
#   stage 16   6 convs of    9*16*16 = 2304                      =  13,824
#   stage 32   9*16*32 + 5 * 9*32*32 + shortcut 16*32            =  51,200
#   stage 64   9*32*64 + 5 * 9*64*64 + shortcut 32*64            = 204,800    together 270,256
#   channels   16 + 6*16 + (6+1)*32 + (6+1)*64                   =     784
# ResNet-32, 5 blocks in each stage:
#   432 + 10 * 2304 + (4608 + 9 * 9216 + 512) + (18,432 + 9 * 36,864 + 2048) = 463,792
#   channels   16 + 10*16 + (10+1)*32 + (10+1)*64                =   1,232
# ResNet-18 on 224x224x3:
#   stem                     49*3*64                             =      9,408
#   stage 64   4 * 9*64*64                                       =    147,456
#   stage 128  9*64*128 + 3 * 9*128*128 + shortcut 64*128        =    524,288
#   stage 256  4 times that                                      =  2,097,152
#   stage 512  4 times that                                      =  8,388,608    together 11,166,912
#   channels   64 + 4*64 + (4+1)*128 + (4+1)*256 + (4+1)*512     =      4,800
# so 11,176,512 are trained: the published 11,689,512 without the 1000 classes' 512 * 1000 + 1000.
@pytest.mark.parametrize(
    ("network", "side", "kernels", "channels"),
    [
        (ResNet((3, 3, 3)), 32, 270_256, 784),
        (ResNet((5, 5, 5)), 32, 463_792, 1_232),
        (_RESNET18, 224, 11_166_912, 4_800),
    ],
    ids=["ResNet-20", "ResNet-32", "ResNet-18"],
)
def test_parameter_counts_are_those_of_the_published_networks(network, side, kernels, channels):
    model = network.build((side, side, 3))
    assert _trainable_count(model) == kernels + 2 * channels
    assert model.count_params() == kernels + 4 * channels


def test_default_network_is_resnet_32():
    assert ResNet() == ResNet((5, 5, 5), (16, 32, 64), "3x3", None)


@pytest.mark.parametrize(("scale_form", "scales"), [("per_neuron", 3 * 8), ("per_kernel", 8 * 3 + 8 * 8 + 8 * 8)])
def test_scale_and_shift_add_their_variables(scale_form, scales):
    # Three convolutions of 8 filters, over 3, 8 and 8 channels. Bias and shift are one value a filter each.
    network = ResNet((1,), (8,))
    added = network.build((4, 4, 3), scale_form).count_params() - network.build((4, 4, 3)).count_params()
    assert added == scales + 2 * 3 * 8


def _block_shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.output.shape[1:] for layer in model.layers if layer.name.endswith("_add")}


def test_small_image_network_halves_its_images_in_every_stage_but_the_first():
    model = ResNet((1, 2, 1), (4, 6, 8)).build((32, 20, 3))
    assert _block_shapes(model) == {
        "stage0_block0_add": (32, 20, 4),
        "stage1_block0_add": (16, 10, 6),
        "stage1_block1_add": (16, 10, 6),
        "stage2_block0_add": (8, 5, 8),
    }
    assert model.output_shape == (None, 8)


def test_imagenet_stem_quarters_the_image_before_the_stages():
    model = ResNet((1, 1, 1, 1), (2, 3, 4, 5), "7x7").build((224, 224, 3))
    # 224 / 2 (convolution) / 2 (pooling) = 56, then 28, 14 and 7.
    assert [shape[0] for shape in _block_shapes(model).values()] == [56, 28, 14, 7]
    assert model.get_layer("stem").kernel.shape == (7, 7, 3, 2)
    assert model.output_shape == (None, 5)


def test_format_that_keras_is_configured_for_changes_nothing():
    images = np.random.default_rng(0).normal(size=(2, 32, 24, 3)).astype(np.float32)
    said = []
    for order in ("channels_last", "channels_first"):
        keras.config.set_image_data_format(order)
        try:
            keras.utils.set_random_seed(0)
            said.append(ResNet((1, 1), (4, 6), "7x7").build((32, 24, 3))(images, training=False).numpy())
        finally:
            keras.config.set_image_data_format("channels_last")
    assert said[0].shape == (2, 6)
    np.testing.assert_array_equal(*said)


def test_embedding_dim_adds_a_dense_layer():
    network = ResNet((1,), (8,), embedding_dim=5)
    model = network.build((4, 4, 1))
    assert model.output_shape == (None, 5)
    # A kernel of 8 * 5 and no bias.
    assert model.count_params() == ResNet((1,), (8,)).build((4, 4, 1)).count_params() + 40


def test_embeddings_of_images_have_both_signs():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    features = ResNet((1, 1), (4, 8)).build((8, 8, 3))(images, training=True).numpy()
    assert features.shape == (16, 8)
    assert features.min() < 0 < features.max()


def test_every_block_but_the_last_ends_in_a_relu():
    names = {layer.name for layer in ResNet((2, 2), (4, 8)).build((8, 8, 3)).layers}
    assert {"stage0_block0_relu", "stage0_block1_relu", "stage1_block0_relu"} <= names
    assert "stage1_block1_relu" not in names


def test_shortcut_is_the_identity_unless_shape_changes():
    names = {layer.name for layer in ResNet((2, 2), (4, 8)).build((8, 8, 3)).layers}
    assert {name for name in names if name.endswith("shortcut")} == {"stage1_block0_shortcut"}


def test_block_adds_its_input_to_two_convolutions():
    # With one block and no ReLU after it, pool(stem + b(relu(a(stem)))): kernels of zero leave the stem alone.
    model = ResNet((1,), (4,)).build((4, 4, 3))
    model.get_layer("stage0_block0_b").kernel.assign(np.zeros((3, 3, 4, 4)))
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    stem = keras.Model(model.input, model.get_layer("stem_relu").output)(images).numpy()
    np.testing.assert_allclose(model(images), stem.mean(axis=(1, 2)), atol=1e-5)


def test_every_convolution_has_a_batch_norm_of_the_published_settings():
    layers = ResNet((1, 1), (4, 8)).build((8, 8, 3)).layers
    norms = [layer.norm for layer in layers if isinstance(layer, ScaleShiftConv2D)]
    assert len(norms) == 6  # stem, two in each of two blocks, one in the shortcut
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}


def test_dtype_reaches_every_layer():
    model = ResNet((1, 1), (4, 8), "7x7", embedding_dim=3).build((16, 16, 3), "per_neuron", "float64")
    assert {variable.dtype for variable in model.variables} == {"float64"}
    assert model(np.zeros((1, 16, 16, 3))).dtype == "float64"


def test_scale_form_reaches_every_convolution():
    model = ResNet((1, 1), (4, 8), embedding_dim=3).build((8, 8, 3), "per_kernel")
    layers = [layer for layer in model.layers if hasattr(layer, "scale_form")]
    assert len([layer for layer in layers if isinstance(layer, ScaleShiftConv2D)]) == 6
    assert len(layers) == 7
    assert {layer.scale_form for layer in layers} == {"per_kernel"}


@pytest.mark.parametrize(
    ("network", "smallest"),
    [
        (ResNet((1, 1, 1), (2, 2, 2)), 4),  # two halvings
        (ResNet((1,), (2,)), 1),
        (ResNet((1, 1), (2, 2), "7x7"), 8),  # stem, pool and one stage
        (ResNet((1, 1, 1, 1), (2, 2, 2, 2), "7x7"), 32),
    ],
)
def test_smallest_image_that_fits_can_be_seen(network, smallest):
    network.check_image_shape((smallest, smallest, 1))
    features = network.build((smallest, smallest, 1))(np.ones((1, smallest, smallest, 1), np.float32))
    assert features.shape == (1, 2)


@pytest.mark.parametrize("image_shape", [(31, 224, 3), (224, 31, 3), (8, 8, 1)])
def test_too_small_image_is_refused(image_shape):
    with pytest.raises(UsageError, match=f"Images of {image_shape[0]} x {image_shape[1]} are too small"):
        _RESNET18.check_image_shape(image_shape)
    with pytest.raises(UsageError, match="halves them 5 times"):
        _RESNET18.build(image_shape)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": (1, 1)}, "one number of blocks and one width for each stage"),
        ({"blocks": (), "widths": ()}, "one number of blocks and one width for each stage"),
        ({"blocks": 3, "widths": 16}, "one number of blocks and one width for each stage"),
        ({"blocks": (5, 0, 5)}, r"ResNet\.blocks\[1\] = 0"),
        ({"widths": (16, 32, 6.4)}, r"ResNet\.widths\[2\] = 6\.4"),
        ({"stem": "5x5"}, r"ResNet\.stem = '5x5': expected one of '3x3', '7x7'"),
        ({"embedding_dim": 0}, r"ResNet\.embedding_dim = 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings, message):
    with pytest.raises(UsageError, match=message):
        ResNet(**settings)


_IMAGES = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)


def _conv_norm(scale_form: str | None, strides: int = 1, dtype: str = "float64") -> ConvNorm:
    """A 3x3 convolution of 4 filters, in use: every variable is off its default, and scale and shift are trained."""
    layer = ConvNorm(4, 3, strides, scale_form, dtype=dtype)
    layer.build((None, 6, 5, 3))
    generator = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(generator.uniform(0.5, 2, size=variable.shape))
    layer.set_transferring(scale_form is not None)
    return layer


def _convolved(layer: ConvNorm) -> np.ndarray:
    """What reaches the batch norm from `_IMAGES`: (W * T^W) x + b + T^b, from the definition."""
    kernel, bias = layer.kernel.numpy(), 0.0
    if layer.scale_form:
        kernel, bias = kernel * layer.scale.numpy(), layer.bias.numpy() + layer.shift.numpy()
    padded = np.pad(_IMAGES, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("bhwcij,ijcr->bhwr", windows[:, :: layer.strides, :: layer.strides], kernel) + bias


def _normalised(values: np.ndarray, norm, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return norm.gamma.numpy() * (values - mean) / np.sqrt(variance + 1e-5) + norm.beta.numpy()


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))


def _assert_unchanged(layer: ConvNorm, before: list[np.ndarray]) -> None:
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("scale_form", [None, "per_neuron", "per_kernel"])
def test_conv_norm_infers_as_a_convolution_and_then_batch_norm(scale_form, strides, frozen):
    layer = _conv_norm(scale_form, strides)
    norm, before = layer.norm, layer.get_weights()
    expected = _normalised(_convolved(layer), norm, norm.moving_mean.numpy(), norm.moving_variance.numpy())
    # As Keras has it, frozen batch norm infers even where it is told to train.
    norm.trainable = not frozen
    outputs = layer(_IMAGES, training=frozen)
    np.testing.assert_allclose(outputs, expected, rtol=1e-8, atol=1e-8)
    assert layer.compute_output_shape((2, 6, 5, 3)) == tuple(outputs.shape)
    _assert_unchanged(layer, before)


@pytest.mark.parametrize(("dtype", "correction"), [("float64", 1.0), ("float32", 60 / 59)])
@pytest.mark.parametrize("scale_form", [None, "per_neuron"])
def test_conv_norm_trains_on_its_batch_and_moves_its_statistics(scale_form, dtype, correction):
    # 2 * 6 * 5 = 60 values a channel: Keras's batch norm keeps their variance, the fused kernel 60 / 59 of it.
    layer = _conv_norm(scale_form, dtype=dtype)
    norm, values = layer.norm, _convolved(layer)
    mean, variance = _moments(values)
    moved_mean = 0.9 * norm.moving_mean.numpy() + 0.1 * mean
    moved_variance = 0.9 * norm.moving_variance.numpy() + 0.1 * correction * variance
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(layer(_IMAGES, training=True), _normalised(values, norm, mean, variance), atol=tolerance)
    np.testing.assert_allclose(norm.moving_mean, moved_mean, rtol=tolerance)
    np.testing.assert_allclose(norm.moving_variance, moved_variance, rtol=tolerance)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("scale_form", [None, "per_neuron"])
def test_conv_norm_on_batch_statistics_leaves_its_moving_ones_alone(scale_form, training):
    layer = _conv_norm(scale_form)
    values, before = _convolved(layer), layer.get_weights()
    with batch_statistics():
        outputs = layer(_IMAGES, training=training)
    np.testing.assert_allclose(outputs, _normalised(values, layer.norm, *_moments(values)), rtol=1e-8, atol=1e-8)
    _assert_unchanged(layer, before)


def test_conv_norm_trains_gain_and_offset_besides_its_own_variables():
    for scale_form, own in ((None, {"kernel"}), ("per_neuron", {"scale", "shift"})):
        trained = {variable.name for variable in _conv_norm(scale_form).trainable_variables}
        assert trained == own | {"gamma", "beta"}
