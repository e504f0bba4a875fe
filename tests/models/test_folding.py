"""Batch norm folded into the convolutions before it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.folding import Inference, folded
from mnemonics_tf.models.layers import FusedBatchNormalization
from mnemonics_tf.models.resnet import ResNet


def _of_all_kinds() -> keras.Model:
    """Six batch norms: three follow a layer that they can be folded into, and three do not."""
    layers = keras.layers
    pixels = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(pixels)))  # with a bias
    depthwise = layers.DepthwiseConv2D(3, padding="same", use_bias=False, depth_multiplier=2)(x)
    x = layers.BatchNormalization()(depthwise)
    active = layers.BatchNormalization()(layers.Conv2D(4, 1, activation="relu")(x))  # not linear
    twice = layers.BatchNormalization()(active)  # no convolution before it
    x = layers.BatchNormalization()(layers.SeparableConv2D(4, 3, padding="same", use_bias=False)(twice))
    told = layers.Conv2D(4, 1, name="told")(x)  # a stage, which others look at
    x = layers.Add()([x, active, layers.BatchNormalization()(told)])
    return keras.Model(pixels, layers.GlobalAveragePooling2D()(x))


def _randomise(model: Classifier) -> None:
    generator = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(generator.normal(0.0, 0.3, variable.shape))


# Of each network: the number of batch norms, and of those that are folded.
_NETWORKS = {
    "resnet": (ResNet((1, 1), (4, 8)), "per_neuron", 6, 6),
    "keras": (Backbone(_of_all_kinds(), preprocess="data", stages=("told",)), None, 6, 3),
    "keras_scaled": (Backbone(_of_all_kinds(), preprocess="data", stages=("told",)), "per_kernel", 6, 3),
}


@pytest.fixture(scope="module")
def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0"])


@pytest.fixture(scope="module", params=_NETWORKS)
def network(request) -> tuple[Classifier, int, int]:
    network, scale_form, norms, foldable = _NETWORKS[request.param]
    model = ClassifierFactory(network, (8, 8, 3), scale_form, tells_maps=True).build(0, 3)
    _randomise(model)
    model.train_all()
    return model, norms, foldable


def test_folded_network_says_the_same_and_looks_no_further_at_its_weights(network, strategy):
    model, norms, foldable = network
    images = tf.constant(np.random.default_rng(1).normal(size=(5, 8, 8, 3)), tf.float32)
    expected = model(images, training=False)
    weights = model.get_weights()
    inference = Inference(model, strategy)
    assert sum(isinstance(layer, FusedBatchNormalization) for layer in model.backbone_layers) == norms
    assert len(folded(model).offsets) == foldable
    for variable in model.variables:
        if "norm" in variable.path and variable.path.endswith(("gamma", "moving_mean")):
            variable.assign(variable + 1.0)
    if norms == foldable:
        found = tf.function(inference)(images)
        assert np.abs(model(images, training=False).features - expected.features).max() > 0.1
    model.set_weights(weights)
    if norms > foldable:
        found = tf.function(inference)(images)
    for name in ("features", "logits", "scores"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
    for found_map, expected_map in zip(found.maps, expected.maps, strict=True):
        np.testing.assert_allclose(found_map, expected_map, atol=1e-5)
    # Outside, the network has its batch norm again.
    np.testing.assert_array_equal(model(images, training=False).features, expected.features)


def test_folded_convolution_offset_and_relu_are_one_operation(strategy):
    # What oneDNN makes of it is TensorFlow's; what it needs is a BiasAdd right after each convolution.
    model = ClassifierFactory(ResNet((1,), (4,)), (8, 8, 3)).build(0, 3)
    step = tf.function(Inference(model, strategy), input_signature=[tf.TensorSpec([None, 8, 8, 3])])
    operations = step.get_concrete_function().graph.get_operations()
    convolutions = [operation for operation in operations if operation.type == "Conv2D"]
    readers = [[each.type for each in operation.outputs[0].consumers()] for operation in convolutions]
    assert readers == [["BiasAdd"]] * 3
    assert "Rsqrt" not in {operation.type for operation in operations if "resnet" in operation.name}
