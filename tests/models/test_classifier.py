"""Growing classifiers: what is kept, what is trained, and imprinting."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mnemonics_tf.models.classifier import Classifier, ClassifierFactory, imprint
from mnemonics_tf.models.layers import CosineHead
from mnemonics_tf.models.resnet import ResNet

_NETWORK = ResNet((1, 1), (4, 6))
_IMAGE_SHAPE = (6, 6, 3)


def _factory(scale_form: str | None = "per_neuron") -> ClassifierFactory:
    return ClassifierFactory(_NETWORK, _IMAGE_SHAPE, scale_form)


def _images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, *_IMAGE_SHAPE)).astype(np.float32)


def _randomise(model: Classifier, seed: int = 1) -> None:
    """Moves every variable off its initial value, as training does; variances stay positive."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(np.abs(variable.numpy() + generator.normal(0, 0.3, variable.shape)) + 0.05)


def _values(model: Classifier) -> list[np.ndarray]:
    return [variable.numpy().copy() for variable in model.variables]


@pytest.fixture(scope="module")
def previous() -> Classifier:
    """A classifier of 3 old and 2 new classes. Read only."""
    model = _factory().build(3, 2)
    _randomise(model)
    return model


def test_outputs_are_features_and_the_cosine_heads_scores_and_logits(previous):
    outputs = previous(_images())
    features = previous.backbone(_images()).numpy()
    scores, logits = previous.head(features)
    np.testing.assert_array_equal(outputs.features, features)
    np.testing.assert_array_equal(outputs.scores, scores)
    np.testing.assert_array_equal(outputs.logits, logits)
    assert outputs.logits.shape == (9, 5)
    assert previous.num_classes == 5


def test_growing_keeps_features_old_weights_and_old_logits(previous):
    grown = _factory().grow(previous, 4)
    assert grown.num_classes == 9
    assert (grown.head.num_old_classes, grown.head.num_new_classes) == (5, 4)
    before, after = previous(_images()), grown(_images())
    np.testing.assert_array_equal(after.features, before.features)
    np.testing.assert_array_equal(
        grown.head.old_kernel, np.concatenate([previous.head.old_kernel, previous.head.new_kernel], axis=1)
    )
    assert float(grown.head.eta) == float(previous.head.eta) != 1.0
    # The same numbers go into the product, but a wider matrix product may round the last bit otherwise: 2^-23 = 1.2e-7
    # of the value for each of the two products (cosine, eta).
    np.testing.assert_allclose(after.logits[:, :5], before.logits, rtol=3e-7)


def test_growing_continues_batch_norms_moving_statistics(previous):
    grown = _factory().grow(previous, 1)
    for new, old in zip(grown.backbone.variables, previous.backbone.variables, strict=True):
        np.testing.assert_array_equal(new, old)


def test_old_network_is_untouched_by_growing_and_by_training_the_grown_one():
    model = _factory().build(0, 2)
    _randomise(model)
    before, outputs = _values(model), model(_images())
    grown = _factory().grow(model, 3)
    grown.train_phase(transferring=True, old_head=False)
    _randomise(grown, seed=2)
    grown(_images(), training=True)
    grown.fold()
    for now, then in zip(_values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(model(_images()).logits, outputs.logits)


def test_new_weights_of_a_grown_head_are_random(previous):
    grown = _factory().grow(previous, 2)
    assert np.abs(grown.head.new_kernel.numpy()).min() > 0
    assert np.abs(grown.head.new_kernel.numpy() - previous.head.new_kernel.numpy()).max() > 1e-3


def _trained(model: Classifier) -> dict[str, int]:
    """How many trained variables there are of each name."""
    names = [variable.name for variable in model.trainable_variables]
    return {name: names.count(name) for name in names}


# The network has 6 convolutions (stem, two in each block, one shortcut), each with its batch norm.
_NORM = {"gamma": 6, "beta": 6}


def test_train_all_trains_every_weight(previous):
    model = _factory().grow(previous, 1)
    model.train_phase(transferring=True, old_head=False)
    model.train_all()
    assert _trained(model) == {"kernel": 6, **_NORM, "old_kernel": 1, "new_kernel": 1, "eta": 1}


@pytest.mark.parametrize("old_head", [False, True])
def test_phase_without_weight_transfer_trains_weights(previous, old_head):
    model = _factory().grow(previous, 1)
    model.train_phase(transferring=False, old_head=old_head)
    old = {"old_kernel": 1} if old_head else {}
    assert _trained(model) == {"kernel": 6, **_NORM, "new_kernel": 1, "eta": 1, **old}


@pytest.mark.parametrize("old_head", [False, True])
@pytest.mark.parametrize("scale_form", ["per_neuron", "per_kernel"])
def test_phase_with_weight_transfer_trains_scale_shift_batch_norm_and_head(scale_form, old_head):
    model = _factory(scale_form).build(2, 1)
    model.train_phase(transferring=True, old_head=old_head)
    old = {"old_kernel": 1} if old_head else {}
    assert _trained(model) == {"scale": 6, "shift": 6, **_NORM, "new_kernel": 1, "eta": 1, **old}


def test_network_without_scale_and_shift_trains_weights_batch_norm_and_head():
    model = _factory(None).build(0, 2)
    model.train_phase(transferring=False, old_head=False)
    assert _trained(model) == {"kernel": 6, **_NORM, "new_kernel": 1, "eta": 1}


def test_dense_embedding_takes_part_in_weight_transfer():
    factory = ClassifierFactory(ResNet((1,), (4,), embedding_dim=3), (4, 4, 1), "per_neuron")
    model = factory.build(0, 2)
    model.train_phase(transferring=True, old_head=True)
    # Three convolutions and the dense layer.
    assert _trained(model)["scale"] == 4


@pytest.mark.parametrize("scale_form", ["per_neuron", "per_kernel"])
def test_folding_the_whole_network_leaves_its_outputs_unchanged(scale_form):
    model = _factory(scale_form).build(0, 2)
    _randomise(model)
    model.train_phase(transferring=True, old_head=False)
    before = model(_images())
    model.fold()
    model.train_all()
    after = model(_images())
    np.testing.assert_allclose(after.features, before.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-5)
    for layer in model.scale_shift_layers:
        np.testing.assert_array_equal(layer.scale, np.ones(layer.scale.shape))
        np.testing.assert_array_equal(layer.shift, np.zeros(layer.shift.shape))


def test_weights_survive_a_file(previous, tmp_path):
    path = str(tmp_path / "model.weights.h5")
    previous.save_weights(path)
    restored = _factory().build(3, 2)
    restored.load_weights(path)
    np.testing.assert_array_equal(restored(_images()).logits, previous(_images()).logits)


def _head(num_old_classes: int, num_new_classes: int) -> CosineHead:
    keras.utils.set_random_seed(3)
    head = CosineHead(num_old_classes, num_new_classes)
    head.build((None, 5))
    return head


def test_imprinted_weights_point_to_the_classes_mean_direction_at_the_old_weights_mean_length():
    head = _head(3, 2)
    old = head.old_kernel.numpy()
    generator = np.random.default_rng(4)
    # Very different lengths, so that a mean of unnormalised features points elsewhere; classes in mixed order.
    features = generator.normal(size=(12, 5)) * generator.uniform(0.1, 30, (12, 1))
    labels = np.array([4, 3, 3, 4, 4, 3, 3, 3, 4, 3, 4, 3])
    imprint(head, features, labels)
    length = (np.linalg.norm(old[:, 0]) + np.linalg.norm(old[:, 1]) + np.linalg.norm(old[:, 2])) / 3
    for column, label in enumerate((3, 4)):
        total = np.zeros(5)
        for feature in features[labels == label]:
            total += feature / np.sqrt(feature @ feature)
        np.testing.assert_allclose(
            head.new_kernel.numpy()[:, column], length * total / np.sqrt(total @ total), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(head.old_kernel, old)


def test_imprinting_by_hand():
    # Old weights of length 2 and 4: mean 3. Directions (1, 0) and (0, 1) have the mean direction (1, 1) / sqrt(2).
    head = CosineHead(2, 1)
    head.build((None, 2))
    head.old_kernel.assign([[2.0, 0.0], [0.0, 4.0]])
    imprint(head, np.array([[5.0, 0.0], [0.0, 0.1]]), np.array([2, 2]))
    np.testing.assert_allclose(head.new_kernel, np.full((2, 1), 3 / np.sqrt(2)), rtol=1e-6)


def test_imprinting_needs_old_classes():
    with pytest.raises(ValueError, match="no"):
        imprint(_head(0, 2), np.ones((2, 5)), np.array([0, 1]))


def test_imprinting_names_the_class_without_features():
    with pytest.raises(ValueError, match="Class index 4 has no features"):
        imprint(_head(3, 2), np.ones((2, 5)), np.array([3, 3]))
