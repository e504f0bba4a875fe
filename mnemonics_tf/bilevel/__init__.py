"""The exemplar level: gradients through a training run into the pixels it was trained on."""

from mnemonics_tf.bilevel.engines import ENGINES, MetaGradientEngine, meta_gradient
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.bilevel.plan import inner_plan
from mnemonics_tf.bilevel.problem import MetaGradient

__all__ = ["ENGINES", "InnerSGD", "MetaGradient", "MetaGradientEngine", "inner_plan", "meta_gradient"]
