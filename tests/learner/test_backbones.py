"""A learner whose network is a Keras model: it learns, is extended, saved, loaded and exported as any other."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_learner import bars, tiny_learner

from mnemonics_tf.checks import UsageError
from mnemonics_tf.learner.arrays import brought_to
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.objective_settings import Matching
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

_TRANSFERRING = ModelLevel(epochs=6, batch_size=16, learning_rate=0.05, milestones=(4,))


@keras.saving.register_keras_serializable(package="tests")
class _Halved(keras.layers.Layer):
    """A layer that Keras can make again, as long as it is registered."""

    def call(self, inputs):
        return inputs / 2


def _model(*layers: keras.layers.Layer, shape=(12, 12, 3)) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.DepthwiseConv2D(3, activation="relu6"),
            *layers,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(8),
        ],
        name="mine",
    )


def _dense(learner: IncrementalLearner) -> keras.layers.Layer:
    (dense,) = (each.layer for each in learner._network.model.scale_shift_layers if "dense" in each.name)
    return dense


@pytest.fixture(scope="module")
def learner() -> IncrementalLearner:
    """Three classes, of which exemplars are learned, and a fourth by scale and shift."""
    level = ExemplarLevel(epochs=1, steps_per_epoch=1, inner_steps=2, learning_rate=1e6)
    learner = tiny_learner(
        backbone=_model(_Halved()), memory=Memory(per_class=4, adjust=False), model_level=_TRANSFERRING,
        exemplar_level=level, finetuning=BalancedFinetune(enabled=False),
    )  # fmt: skip
    learner.learn(*bars([0, 1, 2], 16))  # 8 x 8: they are brought to 12 x 12
    learner.dense = _dense(learner).kernel.numpy()
    learner.learn(*bars([3], 16, seed=1))
    return learner


_SHOWN = bars([0, 1, 2, 3], 4, seed=2)


def test_images_of_another_size_are_learned(learner):
    assert learner.class_names == ("0", "1", "2", "3")
    assert learner.memory.images.shape == (16, 12, 12, 3)
    assert learner.evaluate(*_SHOWN).accuracy > 50  # of four classes
    grey = learner.predict(np.repeat(_SHOWN[0][..., :1], 3, axis=3)).probabilities
    np.testing.assert_array_equal(learner.predict(_SHOWN[0][..., 0]).probabilities, grey)


def test_exemplars_were_learned_through_it(learner):
    own = brought_to(bars([0, 1, 2], 16)[0], 12, 3).reshape(48, -1).astype(np.float32)
    first = learner.memory.images[:12].reshape(12, 1, -1)
    assert np.abs(own - first).max(axis=2).min(axis=1).max() > 1  # of 255: the one that moved most is no real image


def test_a_later_phase_trained_scale_and_shift_alone(learner):
    ratio = _dense(learner).kernel.numpy() / learner.dense
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-4)  # a scale for each neuron
    assert np.abs(ratio - 1).max() > 1e-3
    # The first convolution came without a bias, and has one that the shift was folded into.
    assert learner._network.model.backbone.layers[1].layer.bias.numpy().any()


def test_saved_learner_needs_nothing_but_its_folder(learner, tmp_path):
    learner.save(tmp_path / "saved")
    loaded = IncrementalLearner.load(tmp_path / "saved")
    expected = learner.predict(_SHOWN[0]).probabilities
    np.testing.assert_array_equal(loaded.predict(_SHOWN[0]).probabilities, expected)
    assert repr(loaded.settings.network) == "Backbone('mine', preprocess='data', image_size=12)"
    card = json.loads((tmp_path / "saved" / "learner.json").read_text())
    del card["checksum"]  # as earlier versions had it
    card["network"]["architecture"] = card["network"]["architecture"].replace("_Halved", "_Quartered")
    shutil.copytree(tmp_path / "saved", tmp_path / "unknown")
    (tmp_path / "unknown" / "learner.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match="import the module that has its layers") as raised:
        IncrementalLearner.load(tmp_path / "unknown")
    assert "\n" not in str(raised.value)


def test_exported_model_says_what_the_learner_says(learner, tmp_path):
    learner.export(tmp_path / "serving")
    model = tf.saved_model.load(str(tmp_path / "serving"))
    served = model.serve(brought_to(_SHOWN[0], 12, 3))
    np.testing.assert_allclose(served["probabilities"], learner.predict(_SHOWN[0]).probabilities, atol=1e-5)


def test_arrays_are_brought_to_size_as_pillow_does_it():
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 32, 3)).astype(np.uint8)
    # 20 x 32 to 10 x 16, antialiased, of which columns 3 to 12 are the centre.
    expected = np.asarray(Image.fromarray(image[0]).resize((16, 10), Image.Resampling.BILINEAR))[:, 3:13]
    np.testing.assert_allclose(brought_to(image, 10, 3)[0].astype(int), expected.astype(int), atol=1)
    grey = brought_to(image[..., :1], None, 3)
    np.testing.assert_array_equal(grey, np.repeat(image[..., :1], 3, axis=3))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"backbone": _model(keras.layers.Resizing(5, 5, interpolation="nearest"))},
            r"The backbone 'mine': .* cannot be differentiated twice .*use the engine 'head'",
        ),
        ({"backbone": _model(shape=(12, 12, 1))}, "Images are 12 x 12 with 3 channel.* takes 12 x 12 with 1"),
        ({"backbone": _model(), "method": "podnet"}, "'podnet' looks at the outputs of stages"),
        ({"backbone": _model(), "image_size": 16}, "image_size = 16: the backbone 'mine' takes images of 12 x 12"),
        ({"backbone": _model(keras.layers.PReLU()), "model_level": _TRANSFERRING}, "a PReLU, and weight transfer"),
        ({"backbone": 7}, "expected a ResNet, a Keras model, or one of 'resnet8'"),
    ],
)
def test_what_a_backbone_cannot_do_is_told_before_anything_is_learned(changes, expected, monkeypatch):
    monkeypatch.setattr("mnemonics_tf.learner.workshop.run_phase", lambda *arguments: pytest.fail("it learned"))
    options = {"memory": Memory(per_class=4), "exemplar_level": ExemplarLevel(inner_steps=1), **changes}
    method = options.pop("method", "lucir")
    with pytest.raises(UsageError, match=expected) as raised:
        tiny_learner(method, **options).learn(*bars([0, 1], 8))
    assert "\n" not in str(raised.value)


def test_backbone_without_second_derivatives_serves_the_engine_head():
    network = _model(keras.layers.Resizing(5, 5, interpolation="nearest"))
    chosen = IncrementalLearner(backbone=Backbone(network))._choices.settings(side=12, num_images=100)
    assert (chosen.exemplar_level.engine, chosen.model_level.learning_rate) == ("head", 0.01)
    assert chosen.model_level.epochs == 30  # 20,000 images, and 30 at the most


@pytest.mark.parametrize(
    ("stages", "gradients", "message"),
    [((), "head", "it looks at the outputs of stages"), (("maps",), "block", "which layers of 'mine' are its last")],
)
def test_matching_that_a_keras_model_does_not_suit_is_refused_at_once(stages, gradients, message):
    inputs = keras.Input((12, 12, 3))
    maps = keras.layers.Conv2D(4, 3, name="maps")(inputs)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps), name="mine")
    settings = Settings(
        LUCIR(),
        Backbone(network, stages=stages),
        Memory(strategy="mnemonics", initial="herding", adjust=False),
        ModelLevel(weight_transfer="none"),
        exemplar_level=ExemplarLevel(objective="matching", optimiser="adam", learning_rate=0.01),
        matching=Matching(gradients=gradients),
    )
    with pytest.raises(UsageError, match=message):
        settings.check()
