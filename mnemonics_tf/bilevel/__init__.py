"""The exemplar level: gradients through a training run into the pixels it was trained on."""

from mnemonics_tf.bilevel.engines import MetaGradientEngine, meta_gradient
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.kinds import (
    ENGINES,
    Adjoint,
    AdjointForward,
    Engine,
    Head,
    Prototype,
    Truncated,
    Unrolled,
)
from mnemonics_tf.bilevel.plan import inner_plan
from mnemonics_tf.bilevel.problem import MetaGradient

__all__ = [
    "ENGINES",
    "Adjoint",
    "AdjointForward",
    "Engine",
    "Head",
    "InnerSGD",
    "MetaGradient",
    "MetaGradientEngine",
    "Prototype",
    "Truncated",
    "Unrolled",
    "inner_plan",
    "meta_gradient",
]
