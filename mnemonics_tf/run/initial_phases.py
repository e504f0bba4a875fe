"""Networks of the initial phase that runs share: what is the same in all of them is trained once.

Runs of a table differ in the method, in exemplars, in the number of phases. Their phase 0 is often the same training of
the same network on the same data, and it takes longest. A folder keeps such networks, each under the checksum of all
that it depends on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf import checks, runtime
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.system import files, locks, tracking
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import ModelLevel
from mnemonics_tf.training.sgd import SGDSettings

# What the training of phase 0 is made of: an edit there makes networks that were trained before it another matter.
_SOURCES = ("data", "methods", "models", "training", "losses.py", "runtime.py", "system/seeds.py")


class InitialPhases:
    """A folder of trained networks. Several processes may use it at once.

    Args:
      folder: made if it is not there.

    Raises:
      UsageError: the folder cannot be used.
    """

    def __init__(self, folder: str):
        self._folder = os.path.abspath(os.path.expanduser(folder))
        try:
            os.makedirs(self._folder, exist_ok=True)
            writable = os.access(self._folder, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise checks.UsageError(f"--initial_phases_dir = {folder}: expected a folder that can be written to.")

    def network(
        self, description: dict[str, Any], build: Callable[[], Classifier], train: Callable[[], Classifier]
    ) -> tuple[Classifier, bool]:
        """The network of phase 0 that fits the description.

        Where another process is training it at this moment, this one waits.

        Args:
          description: all that the trained network depends on; becomes JSON.
          build: makes a network to be filled with trained weights.
          train: makes and trains one.

        Returns:
          The network, and whether it was there already.
        """
        text = json.dumps(description, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        path = os.path.join(self._folder, f"{name}.npz")
        with self._locked(name):
            if os.path.exists(path):
                model = build()
                try:
                    _load(path, model)
                except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
                    tracking.notice(f"{path} is damaged ({type(error).__name__}): its initial phase is trained again.")
                else:
                    return model, True
            model = train()
            try:
                _save(path, model, text)
            except OSError as error:
                tracking.notice(f"{path} cannot be written ({error.strerror or error}): other runs train again.")
            return model, False

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Holds one network; the system lets go of it even if the process is killed."""
        with contextlib.ExitStack() as held:
            waiting = "Another process is training the same initial phase: waiting for it ..."
            try:
                held.enter_context(locks.hold(os.path.join(self._folder, f"{name}.lock"), waiting))
            except OSError as error:
                # Without a lock two processes may train the same, which costs time and nothing else.
                tracking.notice(f"{self._folder} knows no locks ({error.strerror or error}).")
            yield


def describe_initial_phase(
    data: LabelledImages,
    factory: ClassifierFactory,
    method: Method,
    settings: ModelLevel,
    trainer: Trainer,
    seed: int,
    deterministic: bool,
) -> dict[str, Any]:
    """All that the network of phase 0 depends on.

    Weight transfer, distillation, exemplars and the correction of logits come later and are not among it.

    Args:
      data: training images of phase 0.
      factory: builds the network.
      method: whose loss it is trained by.
      settings: length and rates.
      trainer: trains it.
      seed: of the run.
      deterministic: whether operations are.
    """
    sgd = {field.name: getattr(settings, field.name) for field in dataclasses.fields(SGDSettings)}
    return {
        "images": [*data.images.shape, *_described_images(data.images)],
        "labels": _checksum(data.labels),
        "pixel_range": dataclasses.asdict(trainer.pixel_range),
        "augmentation": dataclasses.asdict(trainer.augmentation),
        "network": dataclasses.asdict(factory.network),
        "head": factory.head,
        "loss": method.initial_training,
        "training": sgd,
        "precision": settings.precision,
        "seed": seed,
        "deterministic": deterministic,
        "devices": [runtime.device_kind(trainer.strategy), trainer.strategy.num_replicas_in_sync],
        "versions": [tf.__version__, keras.__version__],
        "sources": _source_checksum(),
    }


def _described_images(images: Images) -> list[Any]:
    if isinstance(images, StoredImages):
        return [images.checksum(), images.resized_side]
    return [_checksum(images)]


def _checksum(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).hexdigest()


def _source_checksum() -> str:
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for source in _SOURCES:
        path = package / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _save(path: str, model: Classifier, description: str) -> None:
    """Writes the weights, in one step: a killed process leaves no half of them under this name."""
    weights = {name: variable.numpy() for name, variable in model.initial_weights().items()}
    with files.replacing(path) as file:
        np.savez(file, description=np.array(description), **weights)


def _load(path: str, model: Classifier) -> None:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        # All are read before the first is used; the archive's checksums are compared as they are.
        values = {name: arrays[name] for name in model.initial_weights()}
    for name, variable in model.initial_weights().items():
        variable.assign(values[name])
