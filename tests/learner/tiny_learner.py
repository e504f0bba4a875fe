"""A learner that takes seconds, and images that it can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

SHAPE = (8, 8, 3)


def bars(classes: list[int], count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar whose place tells the class, 0..7: images `[n, 8, 8, 3]` uint8 and labels `[n]`."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(classes, count)
    images = generator.integers(0, 80, (len(labels), *SHAPE))
    images[np.arange(len(labels)), labels] += 150
    return images.astype(np.uint8), labels


def tiny_learner(method: Any = "lucir", **changes: Any) -> IncrementalLearner:
    """Herding exemplars and two epochs on a network of one block."""
    options: dict[str, Any] = {
        "backbone": ResNet((1,), (8,), embedding_dim=8),
        "memory": Memory(strategy="herding", per_class=4, adjust=False),
        "model_level": ModelLevel(epochs=8, batch_size=16, milestones=(6,), weight_transfer="none"),
        "finetuning": BalancedFinetune(epochs=1, batch_size=16),
        "horizontal_flip": False,
        **changes,
    }
    return IncrementalLearner(method, **options)
