"""Folders that are loaded: a saved learner, trained phases 0 that runs share, outcomes of the instrument."""

from __future__ import annotations

import hashlib
import os
import pathlib
import sys

import numpy as np

_NAME = "description"  # of the one network that is shared here


def make(folder: str) -> None:
    """Writes all three to a new folder: `learner`, `shared` and `outcomes`."""
    import tensorflow as tf

    from mnemonics_tf.learner.learner import IncrementalLearner
    from mnemonics_tf.memory.settings import Memory
    from mnemonics_tf.models.resnet import ResNet
    from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

    tf.config.run_functions_eagerly(True)
    learner = IncrementalLearner(
        "lucir",
        backbone=ResNet((1,), (4,), embedding_dim=4),
        memory=Memory(strategy="herding", per_class=2, adjust=False),
        model_level=ModelLevel(epochs=1, batch_size=8, milestones=(), weight_transfer="none"),
        finetuning=BalancedFinetune(enabled=False),
    )
    generator = np.random.default_rng(0)
    for classes in ((0, 1), (2, 3)):
        labels = np.repeat(classes, 6)
        learner.learn(generator.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8), labels)
    learner.save(os.path.join(folder, "learner"))
    shared(os.path.join(folder, "shared"))
    os.makedirs(os.path.join(folder, "outcomes"))
    _outcomes().save(pathlib.Path(folder, "outcomes", "outcome.json"), _an_outcome(), "fingerprint")


def load(folder: str) -> str:
    """What the folder named `learner`, `shared` or `outcomes` holds, told by checksums."""
    return {"learner": _learner, "shared": shared, "outcomes": _outcome}[os.path.basename(folder)](folder)


def _learner(folder: str) -> str:
    from beginnings import checksum_of_state

    from mnemonics_tf.learner.learner import IncrementalLearner

    learner = IncrementalLearner.load(folder)
    answers = learner.predict(np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    told = (learner.settings, learner.class_names, learner.history, checksum_of_state(learner._state))
    return f"{told} {answers.probabilities.tobytes().hex()}"


class _Network:
    """The part of a network that is shared: its weights, which are zero until it is trained."""

    def __init__(self, trained: bool = False):
        import tensorflow as tf

        generator = np.random.default_rng(0)
        shapes = {"kernel": (3, 3, 3, 8), "bias": (8,), "head": (8, 4)}
        values = {name: generator.normal(size=shape) if trained else np.zeros(shape) for name, shape in shapes.items()}
        self._weights = {name: tf.Variable(value.astype(np.float32)) for name, value in values.items()}

    def initial_weights(self) -> dict:
        return self._weights

    def checksum(self) -> str:
        return hashlib.sha256(b"".join(each.numpy().tobytes() for each in self._weights.values())).hexdigest()


def shared(folder: str) -> str:
    """The network that is there, or is trained anew."""
    from mnemonics_tf.run.initial_phases import InitialPhases

    network, _ = InitialPhases(folder).network({_NAME: 1}, _Network, lambda: _Network(trained=True))
    return network.checksum()


def _outcome(folder: str) -> str:
    """The outcome that is there; one that cannot be used is made anew, as the instrument does."""
    path = pathlib.Path(folder, "outcome.json")
    found = _outcomes().load(path, "fingerprint")
    if found is None:
        print(f"{path} is damaged")
    return repr(found or _an_outcome())


def _outcomes():
    launch = str(pathlib.Path(__file__).resolve().parents[2] / "launch")
    if launch not in sys.path:
        sys.path.append(launch)
    from instrument import outcomes

    return outcomes


def _an_outcome():
    accuracy = {"cnn": {"all": 50.0, "old": 40.0, "new": 60.0}}
    told = ("lucir", "mnemonics", 5, 1, 1.0, 2, "cnn", accuracy, 2.0, 386.5, 100, 12.5, 3.5, 60, 9.25)
    return _outcomes().Outcome(*told)
