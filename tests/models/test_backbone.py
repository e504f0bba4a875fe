"""Keras models as backbones: what they compute, what weight transfer does to them, and what is refused."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.bilevel import InnerSGD, meta_gradient
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import pixels
from mnemonics_tf.memory.optimising.objectives import WholeNetwork
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.classifier import ClassifierFactory

_SHAPE = (12, 12, 3)
_IMAGES = np.random.default_rng(0).integers(0, 256, (4, *_SHAPE)).astype(np.uint8)


def _mini(name: str = "mini", side: int | None = None) -> keras.Model:
    """A network with every kind of layer that is scaled and shifted, a layer used twice, and a model inside."""
    keras.utils.set_random_seed(1)
    inside = keras.Sequential(
        [keras.Input((None, None, 6)), keras.layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)],
        name="inside",
    )
    twice = keras.layers.Conv2D(6, 1, activation="silu", name="twice")
    inputs = keras.Input((side, side, 3), name="images")
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="first")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.99, name="norm")(x)
    x = inside(twice(twice(keras.layers.ReLU(6.0)(x))))
    x = keras.layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, name="separable")(x)
    x = keras.layers.BatchNormalization(scale=False, name="norm_without_scale")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.1)(x))
    model = keras.Model(inputs, keras.layers.Dense(4, activation="tanh", name="embedding")(x), name=name)
    # Statistics and biases that are not those of a new network.
    generator = np.random.default_rng(2)
    model.set_weights([weight + 0.3 * generator.uniform(size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def mini() -> keras.Model:
    return _mini()


def _built(backbone: Backbone, scale_form: str | None = None) -> keras.Model:
    network = backbone.build(_SHAPE, scale_form)
    backbone.fill(network)
    return network


def _classifier(backbone: Backbone, scale_form: str | None = None):
    return ClassifierFactory(backbone, _SHAPE, scale_form).start(2)


def _said(network: keras.Model, backbone: Backbone) -> np.ndarray:
    return network(pixels.normalise(_IMAGES, backbone.pixel_range), training=False).numpy()


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_network_sees_what_keras_applications_make_of_pixels(mini, mode):
    expected = mini(keras.applications.imagenet_utils.preprocess_input(_IMAGES.astype(np.float32), mode=mode))
    backbone = Backbone(mini, preprocess=mode)
    for scale_form in (None, "per_neuron"):
        np.testing.assert_allclose(_said(_built(backbone, scale_form), backbone), expected, atol=1e-5)


def test_bias_that_weight_transfer_adds_begins_at_nothing():
    layers = [keras.layers.Conv2D(4, 3, use_bias=False, bias_initializer="ones"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input(_SHAPE), *layers])
    backbone = Backbone(model, preprocess="none")
    said = _said(_built(backbone, "per_neuron"), backbone)
    np.testing.assert_allclose(said, model(_IMAGES.astype(np.float32)), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("preprocess", "scale"), [("none", 1.0), ("unit", 1 / 255)])
def test_network_sees_bare_pixels(mini, preprocess, scale):
    backbone = Backbone(mini, preprocess=preprocess)
    np.testing.assert_allclose(_said(_built(backbone), backbone), mini(_IMAGES * np.float32(scale)), atol=1e-5)


def test_network_normalised_by_data_gets_images_as_they_are(mini):
    backbone = Backbone(mini, preprocess="data")
    assert backbone.pixel_range is None
    images = np.random.default_rng(3).normal(size=(2, *_SHAPE)).astype(np.float32)
    np.testing.assert_allclose(_built(backbone)(images), mini(images), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("mobilenetv2_1.00_96", None, "tf"),
        ("resnet50v2", None, "tf"),
        ("resnet50", None, "caffe"),
        ("densenet121", None, "torch"),
        ("my_network", None, "data"),
        ("resnet50", keras.layers.Rescaling(1 / 255), "none"),
    ],
)
def test_preprocessing_is_found_out(name, first, expected):
    layers = [keras.Input((8, 8, 3)), *([first] if first else []), keras.layers.Conv2D(2, 3)]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()], name=name)
    assert Backbone(model).preprocess == expected
    # Nor does it matter that it stands in a model of one's own.
    outer = keras.Sequential([keras.Input((8, 8, 3)), model, keras.layers.Dense(2)])
    assert Backbone(outer).preprocess == expected


def test_what_a_normalization_layer_has_learned_is_kept(tmp_path):
    layer = keras.layers.Normalization()
    layer.adapt(_IMAGES.astype(np.float32))
    model = keras.Sequential([keras.Input(_SHAPE), layer, keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    expected = model(_IMAGES.astype(np.float32))
    model.save_weights(tmp_path / "it.weights.h5")
    for backbone in (Backbone(model), Backbone(keras.models.clone_model(model), weights=tmp_path / "it.weights.h5")):
        np.testing.assert_allclose(_said(_built(backbone, "per_neuron"), backbone), expected, atol=1e-4)


@pytest.mark.parametrize("scale_form", ["per_neuron", "per_kernel"])
def test_scale_and_shift_act_as_scaled_weights_and_are_folded(mini, scale_form):
    backbone = Backbone(mini, preprocess="data")
    model = _classifier(backbone, scale_form)
    generator = np.random.default_rng(4)
    expected = keras.models.clone_model(mini)
    expected.set_weights(mini.get_weights())
    layers = {layer.name: layer for layer in model.scale_shift_layers}
    inner = {"first", "twice", "separable", "embedding", "depthwise_conv2d"}
    assert set(layers) == inner
    model.train_phase(transferring=True, old_head=True)
    for name in ("twice", "separable", "embedding"):  # those that had a bias from the beginning
        plain = expected.get_layer(name)
        for kernel, scale in layers[name].scales.items():
            own = getattr(plain, kernel)
            depthwise = kernel == "depthwise_kernel"
            inputs = own.shape[-2] if depthwise or scale_form == "per_kernel" else 1
            assert tuple(scale.shape) == (*(1,) * (len(own.shape) - 2), inputs, own.shape[-1])
            scale.assign(generator.uniform(0.5, 1.5, scale.shape))
            own.assign(own.numpy() * scale.numpy())
        layers[name].shift.assign(generator.normal(size=layers[name].shift.shape))
        plain.bias.assign(plain.bias.numpy() + layers[name].shift.numpy())
    images = generator.normal(size=(3, *_SHAPE)).astype(np.float32)
    np.testing.assert_allclose(model.backbone(images), expected(images), atol=1e-5)
    # Layers without a bias get one by folding.
    layers["first"].shift.assign(generator.normal(size=6))
    transferred = model.backbone(images).numpy()
    assert np.abs(transferred - expected(images)).max() > 1e-3
    model.fold()
    model.train_all()
    np.testing.assert_allclose(model.backbone(images), transferred, atol=1e-5)
    for layer in layers.values():
        assert all((scale.numpy() == 1).all() for scale in layer.scales.values())
        assert not layer.shift.numpy().any()


def test_transfer_trains_scale_shift_norm_and_head_and_else_all_that_came(mini):
    model = _classifier(Backbone(mini), "per_neuron")
    model.train_phase(transferring=True, old_head=True)
    last = {variable.name for variable in model.trainable_variables}
    kernels = {"kernel_scale", "depthwise_kernel_scale", "pointwise_kernel_scale"}
    assert last == {*kernels, "shift", "gamma", "beta", "new_kernel", "eta"}
    model.train_all()
    came = [tuple(variable.shape) for variable in mini.trainable_variables]
    assert sorted(tuple(each.shape) for each in model.backbone.trainable_variables) == sorted(came)


def test_frozen_layers_stay_frozen(mini):
    frozen = keras.models.clone_model(mini)
    frozen.get_layer("first").trainable = frozen.get_layer("norm").trainable = False
    model = _classifier(Backbone(frozen), "per_neuron")
    for train in (model.train_all, model.train_head, lambda: model.train_phase(True, True), model.train_all):
        train()
        assert not model.backbone.get_layer("first").trainable_variables
        assert not model.backbone.get_layer("norm").trainable_variables
    assert "first" not in {layer.name for layer in model.scale_shift_layers}
    assert model.backbone.get_layer("twice").trainable_variables


def test_batch_norm_follows_short_phases(mini):
    network = _built(Backbone(mini, preprocess="data"))
    before = network.get_layer("norm").moving_mean.numpy()
    images = np.random.default_rng(5).normal(size=(8, *_SHAPE)).astype(np.float32)
    network(images, training=True)
    batch = network.get_layer("first")(images).numpy().mean(axis=(0, 1, 2))
    np.testing.assert_allclose(network.get_layer("norm").moving_mean, 0.9 * before + 0.1 * batch, atol=1e-5)


@pytest.mark.heavy
def test_both_engines_differentiate_through_it_alike(mini):
    model = _classifier(Backbone(mini, preprocess="data"), "per_neuron")
    objective = WholeNetwork(model, "frozen")
    generator = np.random.default_rng(6)
    images = tf.constant(generator.normal(size=(2, 4, *_SHAPE)), tf.float32)
    labels = tf.constant([0, 1, 0, 1], tf.int64)
    plan = np.array([[0, 1], [2, 3]])
    by_engine = [
        meta_gradient(
            objective.inner_loss,
            objective.outer_loss,
            objective.start(),
            images[0],
            labels,
            plan,
            images[1],
            labels,
            sgd=InnerSGD(0.1),
            engine=engine,
        )
        for engine in ("adjoint", "unrolled")
    ]
    first, second = (each.exemplars.numpy() for each in by_engine)
    assert np.abs(first).max() > 1e-6
    np.testing.assert_allclose(first, second, atol=1e-5 * np.abs(first).max())


def test_card_makes_the_same_network_without_weights(mini):
    backbone = Backbone(mini, preprocess="caffe", image_size=12, stages=("norm",))
    again = Backbone.from_card(json.loads(json.dumps(backbone.card())))
    assert again.card() == backbone.card()
    network, filled = again.build(_SHAPE, "per_neuron"), _built(backbone, "per_neuron")
    network.set_weights(filled.get_weights())
    np.testing.assert_array_equal(_said(network, again), _said(filled, backbone))


def test_weights_come_from_a_file(mini, tmp_path):
    path = tmp_path / "mini.weights.h5"
    mini.save_weights(path)
    other = keras.models.clone_model(mini)
    backbone = Backbone(other, preprocess="data", weights=path)
    np.testing.assert_allclose(_built(backbone)(_IMAGES / 255), mini(_IMAGES / 255), atol=1e-6)
    assert np.abs(other(_IMAGES / 255) - mini(_IMAGES / 255)).max() > 1e-3  # the model itself stays as it was
    assert backbone.description() == Backbone(mini, preprocess="data").description()


def test_names_do_not_depend_on_what_else_the_process_has_made():
    made = [Backbone(_mini()) for _ in range(2)]
    assert made[0].description() == made[1].description()
    plain = [Backbone(_flat(keras.layers.Conv2D(2, 3), _POOL(), keras.layers.Dense(2))) for _ in range(2)]
    built = [each.build((8, 8, 3), "per_neuron") for each in plain]
    for network in built:
        assert [layer.name for layer in network.layers[1:]] == ["conv2d", "global_average_pooling2d", "dense"]


def _flat(*layers, shape=(8, 8, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


class _Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class _Unregistered(keras.layers.Layer):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        return inputs * self.size


def _two(which: str) -> keras.Model:
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    pooled = [keras.layers.GlobalAveragePooling2D()(each) for each in inputs]
    if which == "inputs":
        return keras.Model(inputs, keras.layers.Add()(pooled))
    return keras.Model(inputs[0], [pooled[0], pooled[0]])


_POOL = keras.layers.GlobalAveragePooling2D


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Backbone("resnet"), "expected a Keras model"),
        (lambda: Backbone(keras.Sequential([_POOL()])), r"is not built: call model.build"),
        (lambda: Backbone(_Subclassed()), "is a _Subclassed, whose layers cannot be seen"),
        (lambda: Backbone(_two("inputs")), "has 2 inputs: expected one"),
        (lambda: Backbone(_two("outputs")), "has 2 outputs: expected one"),
        (lambda: Backbone(_flat(keras.layers.Conv2D(2, 3))), r"returns \[None, 6, 6, 2\].*pooling='avg'"),
        (lambda: Backbone(_flat(_POOL(), keras.layers.Dense(2, "softmax"))), "ends in a softmax.*include_top=False"),
        (lambda: Backbone(_flat(_POOL(), keras.layers.Softmax())), "ends in a softmax"),
        (lambda: Backbone(_flat(keras.layers.Dense(2), shape=(8,))), r"takes \[None, 8\]: expected images"),
        (lambda: Backbone(_flat(_POOL(), shape=(8, 8, 4))), r"takes \[None, 8, 8, 4\]"),
        (lambda: Backbone(_flat(keras.layers.Lambda(lambda x: x), _POOL())), "cannot be made again.*no Lambda"),
        (lambda: Backbone(_flat(_Unregistered(3), _POOL())), "cannot be made again .*get_config"),
        (lambda: Backbone(_flat(_POOL()), preprocess="vgg"), "Backbone.preprocess = 'vgg': expected one of"),
        (lambda: Backbone(_flat(_POOL(), shape=(8, 8, 1)), preprocess="torch"), "it is for three channels"),
        (lambda: Backbone(_flat(_POOL()), image_size=16), "image_size = 16: the backbone .* takes images of 8 x 8"),
        (lambda: Backbone(_flat(_POOL()), image_size=0), "expected a whole number of at least 1"),
        (lambda: Backbone(_flat(_POOL()), stages=("conv",)), "Backbone.stages = 'conv': expected one of"),
        (lambda: Backbone(_flat(_POOL(name="p")), stages=("p",)), "'p' returns no maps"),
        (lambda: Backbone(_flat(_POOL()), weights="nowhere.weights.h5"), "there is no such file"),
        (lambda: Backbone(_flat(_POOL())).build((9, 9, 3)), "Images are 9 x 9 .* takes 8 x 8 with 3"),
        (lambda: Backbone(_mini(side=12)).check_image_shape((12, 12, 1)), "with 1 channel"),
        (
            lambda: Backbone(_flat(keras.layers.Conv2D(2, 7), _POOL(), shape=(None, None, 3))).build((4, 4, 3)),
            "cannot be built for images of 4 x 4",
        ),
        (
            lambda: Backbone(_flat(keras.layers.PReLU(), _POOL())).build((8, 8, 3), "per_neuron"),
            "has the layer 'p_re_lu.*', a PReLU, and weight transfer knows Conv2D",
        ),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_in_one_line(make, expected):
    with pytest.raises(UsageError, match=expected) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_weights_of_another_model_are_refused_in_one_line(mini, tmp_path):
    path = tmp_path / "other.weights.h5"
    _flat(keras.layers.Conv2D(2, 3), _POOL()).save_weights(path)
    with pytest.raises(UsageError, match=r"do not fit the model 'mini' \(.*\)\. Expected") as raised:
        Backbone(mini, weights=path)
    assert "\n" not in str(raised.value)


def test_weights_of_a_larger_model_are_refused(tmp_path):
    small, large = (
        _flat(keras.layers.Conv2D(2, 3), _POOL()),
        _flat(keras.layers.Conv2D(2, 3), _POOL(), keras.layers.Dense(3)),
    )
    large.save_weights(tmp_path / "large.weights.h5")
    large.save(tmp_path / "large.keras")
    for name in ("large.weights.h5", "large.keras"):
        with pytest.raises(UsageError, match=r"the file has 4 arrays, and the model 2\)"):
            Backbone(small, weights=tmp_path / name)
    # What an optimiser adds to a file is none of the network's.
    small.compile("adam", "mse")
    small.fit(np.zeros((2, *_SHAPE)), np.zeros((2, 2)), verbose=0)
    small.save_weights(tmp_path / "trained.weights.h5")
    Backbone(_flat(keras.layers.Conv2D(2, 3), _POOL()), weights=tmp_path / "trained.weights.h5")


def test_products_of_an_image_are_counted():
    inputs = keras.Input((11, 9, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)  # 6 x 5
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3)(x)  # 4 x 3
    x = keras.layers.Conv2D(6, 1, groups=2)(x)
    model = keras.Model(inputs, keras.layers.Dense(7)(_POOL()(x)))
    expected = 6 * 5 * 9 * 3 * 4 + 4 * 3 * 9 * 4 + 4 * 3 * 2 * 6 + 6 * 7
    assert Backbone(model).multiply_adds((11, 9, 3)) == expected


def test_products_are_not_known_where_a_model_inside_takes_any_size(mini):
    assert Backbone(mini).multiply_adds(_SHAPE) is None
