"""Half precision at the model level: what it changes, and what stays float32."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.pipeline import Augmentation
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase, PixelRange
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import devices, seeds
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.loss_scale import LossScale
from mnemonics_tf.training.model_level import train_model
from mnemonics_tf.training.settings import ModelLevel

_FACTORY = ClassifierFactory(ResNet((1,), (8,)), (4, 4, 1), "per_neuron")


def _images(count: int, num_classes: int, first: int, seed: int) -> LabelledImages:
    """Images whose brightness tells their class, under noise."""
    labels = first + np.arange(count) % num_classes
    noise = np.random.default_rng(seed).integers(-30, 31, (count, 4, 4, 1))
    return LabelledImages((40 + 50 * labels[:, None, None, None] + noise).astype(np.uint8), labels.astype(np.int64))


class _Losses(Tracker):
    """Keeps the losses of every epoch."""

    def __init__(self):
        super().__init__()
        self.totals: list[float] = []

    def phase_scalars(self, stage, values, step):
        self.totals.append(sum(value for name, value in values.items() if name != "learning_rate"))


def _train(precision: str, xla: bool = False) -> tuple[list[float], list[np.ndarray], set[str]]:
    """Losses of phase 1, the weights after it, and the precision that its layers computed in while it was trained."""
    tracker = _Losses()
    strategy = devices.Devices().create_strategy()
    trainer = Trainer(strategy, PixelRange((0.5,), (0.25,)), Augmentation(), tracker)
    settings = ModelLevel(epochs=4, batch_size=16, learning_rate=0.05, milestones=(), precision=precision, xla=xla)
    computed: set[str] = set()

    class _Watched(LUCIR):
        def losses(self, outputs, teacher, labels, groups):
            assert outputs.logits.dtype == outputs.features.dtype == tf.float32
            assert teacher.logits.dtype == tf.float32
            return super().losses(outputs, teacher, labels, groups)

    seeds.seed_initial_weights(0)
    with strategy.scope():
        previous = trainer.predictor(_FACTORY.build(0, 2))
    phase = Phase(1, ClassGroups((2, 2)), _images(64, 2, 2, 0))
    fit = Trainer.fit

    def watched(self, model, *args, **kwargs):
        computed.update(layer.compute_dtype for layer in model.backbone.layers)
        return fit(self, model, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", watched)
        model, predictor = train_model(
            previous, phase, _images(8, 2, 0, 1), _FACTORY, _Watched(), settings, trainer, seed=0
        )
    assert {layer.compute_dtype for layer in model.backbone.layers} == {"float32"}
    assert {variable.dtype for variable in model.variables} == {"float32"}
    assert predictor.model is model
    return tracker.totals, model.get_weights(), computed


@pytest.fixture(scope="module")
def in_float32():
    return _train("float32")


# Eight significant bits are a relative error of 0.4 % at each of a dozen operations. Eleven bits err less, but the
# first of the 20 steps overflow and give no gradient until the factor of the loss has come down.
@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.15)])
def test_half_precision_trains_much_as_float32_and_hands_float32_on(in_float32, precision, tolerance):
    losses, weights, computed = _train(precision)
    assert in_float32[2] == {"float32"}
    assert precision in computed
    np.testing.assert_allclose(losses, in_float32[0], rtol=tolerance)
    assert losses[-1] < losses[0]
    assert any((half != full).any() for half, full in zip(weights, in_float32[1], strict=True))


def test_xla_trains_as_tensorflow_does_but_for_rounding(in_float32, monkeypatch):
    compiled = []
    function = tf.function

    def watched(*args, **kwargs):
        compiled.append(kwargs.get("jit_compile"))
        return function(*args, **kwargs)

    monkeypatch.setattr(tf, "function", watched)
    losses, weights, _ = _train("float32", xla=True)
    assert compiled.count(True) == 1
    np.testing.assert_allclose(losses, in_float32[0], rtol=1e-3)
    for now, then in zip(weights, in_float32[1], strict=True):
        np.testing.assert_allclose(now, then, atol=2e-3)


def test_unknown_precision_is_refused():
    with pytest.raises(UsageError, match=r"ModelLevel\.precision = 'half'.*float16"):
        ModelLevel(precision="half")


def test_scaled_gradients_are_those_of_the_loss():
    scale = LossScale()
    variable = tf.Variable([1.0, -2.0])
    with tf.GradientTape() as tape:
        loss = scale.scaled(tf.reduce_sum(variable**2))
    (gradient,) = scale.unscaled([tape.gradient(loss, variable)])
    np.testing.assert_allclose(gradient, [2.0, -4.0])


def test_overflow_gives_no_gradient_at_all_and_halves_the_factor():
    scale = LossScale()
    before = float(scale.scaled(tf.constant(1.0)))
    first, second = scale.unscaled([tf.constant([1.0, np.inf]), tf.constant([3.0])])
    np.testing.assert_array_equal(first, [0.0, 0.0])
    np.testing.assert_array_equal(second, [0.0])
    assert float(scale.scaled(tf.constant(1.0))) == before / 2


def test_factor_is_doubled_after_two_thousand_steps_without_overflow():
    scale = LossScale()
    step = tf.function(lambda: scale.unscaled([tf.constant([1.0])]))
    factors = []
    for _ in range(4001):
        factors.append(float(scale.scaled(tf.constant(1.0))))
        step()
    assert factors[0] == factors[1999] == factors[2000] / 2
    assert factors[2000] == factors[3999] == factors[4000] / 2


def test_factor_does_not_sink_below_one():
    scale = LossScale()
    for _ in range(40):
        scale.unscaled([tf.constant([np.nan])])
    assert float(scale.scaled(tf.constant(1.0))) == 1.0
