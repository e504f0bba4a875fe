"""Growing classifiers: what they tell, what is kept and what is trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
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


def _told(head: str = "cosine") -> Classifier:
    """Tells its maps; its weights have both signs, which `_randomise` does not give them."""
    keras.utils.set_random_seed(0)
    return ClassifierFactory(_NETWORK, _IMAGE_SHAPE, head=head, tells_maps=True).build(2, 1)


def test_maps_are_told_only_where_they_are_asked_for(previous):
    assert previous(_images()).maps == ()
    maps = _told()(_images()).maps
    # 6x6 images; the second stage halves them.
    assert [tuple(stage.shape) for stage in maps] == [(9, 6, 6, 4), (9, 3, 3, 6)]


@pytest.mark.parametrize("training", [False, True])
def test_telling_maps_changes_no_output_and_adds_no_weight(training):
    model, quiet = _told(), ClassifierFactory(_NETWORK, _IMAGE_SHAPE).build(2, 1)
    quiet.set_weights(model.get_weights())
    outputs, quiet_outputs = (each(_images(), training=training) for each in (model, quiet))
    for told, expected in zip(outputs[:4], quiet_outputs[:4], strict=True):
        np.testing.assert_allclose(told, expected, rtol=1e-6, atol=1e-6)
    for told, expected in zip(model.variables, quiet.variables, strict=True):
        np.testing.assert_allclose(told, expected, rtol=1e-6)
    assert len(model.trainable_variables) == len(quiet.trainable_variables)


@pytest.mark.parametrize("head", ["cosine", "linear"])
def test_maps_are_what_stages_put_out_before_their_relu(head):
    model = _told(head)
    first, last = (stage.numpy() for stage in model(_images()).maps)
    assert first.min() < 0
    assert last.min() < 0
    after = keras.Model(model.backbone.input, model.backbone.get_layer("stage0_block0_relu").output)(_images())
    np.testing.assert_allclose(np.maximum(first, 0), after, rtol=1e-6)
    # The embedding is the mean of the last stage; a linear head wants a ReLU before it, a cosine head none.
    ended = np.maximum(last, 0) if head == "linear" else last
    np.testing.assert_allclose(model(_images()).features, ended.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_maps_are_those_of_the_last_block_of_each_stage():
    model = ClassifierFactory(ResNet((2, 3), (2, 4)), _IMAGE_SHAPE, tells_maps=True).build(0, 2)
    names = [layer.name for layer in model.backbone.layers if layer.name.endswith("_add")]
    assert names == [
        "stage0_block0_add",
        "stage0_block1_add",
        "stage1_block0_add",
        "stage1_block1_add",
        "stage1_block2_add",
    ]
    outputs = [model.backbone.get_layer(name).output for name in ("stage0_block1_add", "stage1_block2_add")]
    for told, expected in zip(
        model(_images()).maps, keras.Model(model.backbone.input, outputs)(_images()), strict=True
    ):
        np.testing.assert_array_equal(told, expected)


def test_grown_network_tells_maps_too_and_the_same_ones():
    factory = ClassifierFactory(_NETWORK, _IMAGE_SHAPE, head="proxies", tells_maps=True)
    model = factory.build(0, 2)
    _randomise(model)
    grown = factory.grow(model, 1)
    for now, then in zip(grown(_images()).maps, model(_images()).maps, strict=True):
        np.testing.assert_array_equal(now, then)


_SIGNED = {"cosine": True, "linear": False, "proxies": True}


@pytest.mark.parametrize("last_relu", [None, True, False])
@pytest.mark.parametrize("head", _SIGNED)
def test_embeddings_have_the_signs_that_the_head_wants_unless_the_network_says_otherwise(head, last_relu):
    network = ResNet((1,), (4,), last_relu=last_relu)
    keras.utils.set_random_seed(0)
    model = ClassifierFactory(network, _IMAGE_SHAPE, head=head).build(0, 2)
    signed = _SIGNED[head] if last_relu is None else not last_relu
    features = model(_images()).features.numpy()
    assert bool(features.min() < 0) is signed
    assert features.max() > 0


@pytest.mark.parametrize("head", _SIGNED)
def test_outputs_tell_the_scale_between_scores_and_logits(head):
    model = ClassifierFactory(ResNet((1,), (4,)), _IMAGE_SHAPE, head=head).build(2, 1)
    _randomise(model)
    outputs = model(_images())
    if head == "linear":
        assert float(outputs.eta) == 1.0
    else:
        assert float(outputs.eta) != 1.0
        np.testing.assert_allclose(outputs.logits, float(outputs.eta) * outputs.scores.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale_form", [None, "per_neuron"])
@pytest.mark.parametrize("head", _SIGNED)
def test_train_head_trains_the_head_alone_and_train_all_every_weight_again(head, scale_form):
    network = ResNet((1,), (4,), embedding_dim=3)
    model = ClassifierFactory(network, _IMAGE_SHAPE, scale_form, head).build(2, 1)
    model.train_all()
    every = [variable.path for variable in model.trainable_variables]
    model.train_head()
    of_head = [variable.path for variable in model.head.variables]
    assert [variable.path for variable in model.trainable_variables] == of_head
    model.train_all()
    assert [variable.path for variable in model.trainable_variables] == every
    model.train_head()
    model.train_phase(transferring=False, old_head=True)
    assert [variable.path for variable in model.trainable_variables] == every


@pytest.mark.parametrize("head", _SIGNED)
def test_copy_gives_the_same_outputs_and_goes_its_own_way(head):
    factory = ClassifierFactory(_NETWORK, _IMAGE_SHAPE, "per_neuron", head, corrected=True, tells_maps=True)
    model = factory.build(3, 2)
    _randomise(model)
    copy = factory.copy(model)
    assert (copy.head.num_old_classes, copy.head.num_new_classes) == (0, 5)
    before = model(_images())
    for output, expected in zip(copy(_images())[:4], before[:4], strict=True):
        np.testing.assert_array_equal(output, expected)
    for output, expected in zip(copy(_images()).maps, before.maps, strict=True):
        np.testing.assert_array_equal(output, expected)
    _randomise(model, seed=2)
    np.testing.assert_array_equal(copy(_images()).logits, before.logits)


@pytest.mark.parametrize("head", _SIGNED)
def test_initial_weights_are_all_that_training_moves_and_named_alike_in_every_such_network(head):
    plain, full = (
        ClassifierFactory(_NETWORK, _IMAGE_SHAPE, form, head, corrected).build(0, 2)
        for form, corrected in ((None, False), ("per_kernel", True))
    )
    _randomise(plain)
    # Not one of the plain network's variables is missing, statistics of batch norm among them.
    assert {id(variable) for variable in plain.initial_weights().values()} == {id(v) for v in plain.variables}
    assert plain.initial_weights().keys() == full.initial_weights().keys()
    for name, variable in full.initial_weights().items():
        variable.assign(plain.initial_weights()[name])
    np.testing.assert_allclose(full(_images()).logits, plain(_images()).logits, rtol=1e-6, atol=1e-6)
