"""Gradients through a training run into the pixels it was trained on: see `engines.meta_gradient`."""

from __future__ import annotations

import importlib
from typing import Any

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

# Imported when they are asked for: they need TensorFlow, and settings that choose an engine do not.
_LATER = {
    "MetaGradient": "mnemonics_tf.bilevel.problem",
    "MetaGradientEngine": "mnemonics_tf.bilevel.engines",
    "meta_gradient": "mnemonics_tf.bilevel.engines",
}

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


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
