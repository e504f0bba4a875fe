"""Class-incremental learning with exemplars that are learned, in TensorFlow and Keras.

Implements "Mnemonics Training: Multi-Class Incremental Learning without Forgetting" (Liu et al., CVPR 2020).
"""

import importlib
import os
from typing import Any

from mnemonics_tf.system import early

if early.is_command():
    early.end_in_one_line()

# TensorFlow reads this once, when it is imported. It does not turn oneDNN on by itself on every CPU, and
# without it convolutions there take 1.7 times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"

# What people use from Python, and where it is. TensorFlow takes seconds to import, so nothing is imported before it is
# asked for.
_PUBLIC = {
    "Backbone": "mnemonics_tf.models.backbone",
    "BalancedFinetune": "mnemonics_tf.training.settings",
    "BusyError": "mnemonics_tf.checks",
    "Devices": "mnemonics_tf.system.devices",
    "DivergedError": "mnemonics_tf.checks",
    "ExemplarLevel": "mnemonics_tf.memory.optimising.settings",
    "ExhaustedError": "mnemonics_tf.checks",
    "IncrementalLearner": "mnemonics_tf.learner.learner",
    "Matching": "mnemonics_tf.memory.optimising.objective_settings",
    "Memory": "mnemonics_tf.memory.settings",
    "ModelLevel": "mnemonics_tf.training.settings",
    "NextPhase": "mnemonics_tf.memory.optimising.objective_settings",
    "Probe": "mnemonics_tf.evaluation.settings",
    "Protocol": "mnemonics_tf.data.class_order",
    "Rehearsal": "mnemonics_tf.training.rehearsal",
    "ResNet": "mnemonics_tf.models.resnet",
    "Settings": "mnemonics_tf.learner.settings",
    "UsageError": "mnemonics_tf.checks",
    "learner_from_run": "mnemonics_tf.going_on",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
