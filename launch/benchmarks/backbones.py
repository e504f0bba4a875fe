"""Models of keras.applications as backbones: learn, extend, learn exemplars by both engines, transfer weights, export.

    python launch/benchmarks/backbones.py MobileNetV2 ResNet50 EfficientNetB0

Random weights are saved to a file and read from it, as pretrained ones would be. Images are 96 x 96. Phase 0 learns
exemplars by `adjoint`, phase 1 trains scale and shift and learns exemplars by `unrolled`. It ends with an error if the
exported model and a loaded learner do not say what the learner says, to 1e-5. Seconds are of few steps: most of them go
into tracing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from typing import Any

import numpy as np

_SIDE = 96
_TOLERANCE = 1e-5


def images_of(classes: list[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar whose place tells the class: images `[n, 96, 96, 3]` uint8 and labels `[n]`."""
    generator = np.random.default_rng(len(classes))
    labels = np.repeat(classes, count)
    images = generator.integers(0, 120, (len(labels), _SIDE, _SIDE, 3))
    for image, label in zip(images, labels, strict=True):
        image[12 * label : 12 * label + 12] += 120
    return images.astype(np.uint8), labels


def model_of(name: str) -> Any:
    """A model of keras.applications with random weights, and statistics of batch norm that fit them.

    Pretrained ones have such statistics. With those of a new batch norm the signal of an image can fade from layer to
    layer, so that no gradient reaches its pixels.
    """
    import keras

    from mnemonics_tf import Backbone

    model = getattr(keras.applications, name)(
        include_top=False, weights=None, pooling="avg", input_shape=(_SIDE, _SIDE, 3)
    )
    norms = {layer: layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    for layer in norms:
        layer.momentum = 0.0
    kind = Backbone(model).preprocess
    scaled = images_of([0, 1, 2], 8)[0].astype(np.float32)
    mode = None if kind == "none" else kind
    model(keras.applications.imagenet_utils.preprocess_input(scaled, mode=mode) if mode else scaled, training=True)
    for layer, momentum in norms.items():
        layer.momentum = momentum
    return model


def measure(name: str, folder: str) -> str:
    """Takes a backbone through two phases; a line with seconds and differences."""
    import tensorflow as tf

    import mnemonics_tf
    from mnemonics_tf import Backbone, ExemplarLevel, IncrementalLearner, ModelLevel

    model = model_of(name)
    weights = os.path.join(folder, f"{name}.weights.h5")
    model.save_weights(weights)
    level = ExemplarLevel(engine="adjoint", epochs=1, steps_per_epoch=1, inner_steps=2, inner_batch_size=4)
    learner = IncrementalLearner(
        backbone=Backbone(model, weights=weights),
        memory=mnemonics_tf.Memory(per_class=2, adjust=False, initial="herding"),
        model_level=ModelLevel(epochs=1, batch_size=8, learning_rate=0.001, milestones=()),
        exemplar_level=dataclasses.replace(level, learning_rate=1e6),
        finetuning=mnemonics_tf.BalancedFinetune(enabled=False),
    )
    seconds, moved = [], []
    for classes, engine in (([0, 1, 2], "adjoint"), ([3], "unrolled")):
        start = time.perf_counter()
        if engine == "unrolled":  # settings of one learner stay the same; here both engines get the same network
            level = dataclasses.replace(learner.settings.exemplar_level, engine=engine, inner_steps=1)
            learner._settings = dataclasses.replace(learner.settings, exemplar_level=level)
        images, labels = images_of(classes, 8)
        learner.learn(images, labels)
        seconds.append(time.perf_counter() - start)
        print(f"{name}: {engine}, {seconds[-1]:.0f} s", flush=True)
        memory = learner.memory
        kept = memory.images[np.isin(memory.names, [str(each) for each in classes])]
        real = images.reshape(len(images), -1).astype(np.float32)
        nearest = [np.abs(real - each.reshape(1, -1)).max(axis=1).min() for each in kept]
        moved.append(float(max(nearest)))
    transferred = len(learner._network.model.scale_shift_layers)
    learner.save(os.path.join(folder, name))
    learner.export(os.path.join(folder, f"{name}_export"))
    shown = images_of([0, 1, 2, 3], 3)[0]
    expected = learner.predict(shown).probabilities
    loaded = IncrementalLearner.load(os.path.join(folder, name)).predict(shown).probabilities
    exported = tf.saved_model.load(os.path.join(folder, f"{name}_export"))
    served = exported.serve(shown)["probabilities"].numpy()
    differences = [float(np.abs(expected - each).max()) for each in (loaded, served)]
    line = (
        f"{name:16} {len(model.weights):4} weights, {transferred:3} layers scaled and shifted; seconds: adjoint "
        f"{seconds[0]:.0f}, transfer and unrolled {seconds[1]:.0f}; pixels moved by {moved[0]:.2f} and {moved[1]:.2f}; "
        f"differences: loaded {differences[0]:.1e}, exported {differences[1]:.1e}"
    )
    failed = not max(differences) <= _TOLERANCE or not min(moved) or not np.isfinite(expected).all()
    return f"{'FAILED: ' if failed else ''}{line}"


def main() -> None:
    """Measures each model that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["MobileNetV2", "ResNet50", "EfficientNetB0"])
    lines = []
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measure(name, folder))
            print(lines[-1], flush=True)
    sys.exit(any(line.startswith("FAILED") for line in lines))


if __name__ == "__main__":
    main()
