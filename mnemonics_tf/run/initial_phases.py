"""Networks of the initial phase that runs share: what is the same in all of them is trained once.

Runs of a table differ in the method, in exemplars, in the number of phases. Their phase 0 is often the same training of
the same network on the same data, and it takes longest. A folder keeps such networks, each under the checksum of all
that it depends on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf import checks, methods, runtime
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import Images, LabelledImages, Phase
from mnemonics_tf.learner.context import Context
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.system import archives, files, locks, seeds, sources, tracking
from mnemonics_tf.training.checkpoints import Checkpoints
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import train_model
from mnemonics_tf.training.settings import ModelLevel

# What trains phase 0: an edit there, or in what these import, makes networks that were trained before another matter.
_SOURCES = (train_model.__module__, seeds.__name__, *(method.__module__ for method in methods.available().values()))

# What a dataclass says of a field on which the training of phase 0 does not depend.
_LATER = "later_phases_only"

_MAX_DESCRIPTION = 2**20  # bytes
_HEADER = 4096  # bytes of an array in an archive, besides its numbers, at most


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
        self,
        description: dict[str, Any],
        build: Callable[[], Classifier],
        train: Callable[[], Classifier],
        notes: list[str] | None = None,
    ) -> tuple[Classifier, bool]:
        """The network of phase 0 that fits the description.

        Where another process is training it at this moment, this one waits.

        Args:
          description: all that the trained network depends on; becomes JSON.
          build: makes a network to be filled with trained weights.
          train: makes and trains one.
          notes: where `train` says what did not go as configured. It is kept with the network, and what was kept with
            one that is there already is added. None to keep nothing.

        Returns:
          The network, and whether it was there already.
        """
        notes = [] if notes is None else notes
        name, text = _name_of(description)
        path = os.path.join(self._folder, f"{name}.npz")
        with self._locked(name):
            if os.path.lexists(path):
                model = build()
                try:
                    noted = _load(path, model, description)
                except archives.DAMAGES as error:
                    tracking.notice(f"{path} is damaged ({_reason(error)}): its initial phase is trained again.")
                else:
                    notes += noted
                    return model, True
            model = train()
            try:
                _save(path, model, text, notes)
            except OSError as error:
                tracking.notice(f"{path} cannot be written ({error.strerror or error}): other runs train again.")
            return model, False

    def checkpoints(
        self, description: dict[str, Any], model: Classifier, wanted: Checkpoints, train: Callable[[], Classifier]
    ) -> None:
        """Networks that the training of `network` went through, of an earlier call or of the training just now.

        Where an earlier run has kept none, or others, the training is repeated for them; the trained network stays.

        Args:
          description: as for `network`.
          model: what `network` gave.
          wanted: is filled, by `train` or from a file.
          train: as for `network`.
        """
        epochs = "-".join(map(str, wanted.epochs))
        name, _ = _name_of(description)
        path = os.path.join(self._folder, f"{name}.after{epochs}.npz")
        with self._locked(f"{name}.after{epochs}"):
            if not wanted.complete and os.path.lexists(path):
                try:
                    with archives.reading(path) as arrays:
                        wanted.restore({name: arrays[name] for name in arrays.files}, model)
                except archives.DAMAGES as error:
                    tracking.notice(f"{path} is damaged ({_reason(error)}): its training is repeated.")
            if wanted.complete and os.path.lexists(path):
                return
            if not wanted.complete:
                tracking.notice("The networks that a shared phase 0 went through are not kept: it is trained again.")
                train()
            try:
                with files.replacing(path) as file:
                    np.savez(file, allow_pickle=False, **wanted.as_arrays(model.initial_weights()))
            except OSError as error:
                tracking.notice(f"{path} cannot be written ({error.strerror or error}): other runs train again.")

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Holds one network; the system lets go of it even if the process is killed."""
        with contextlib.ExitStack() as held:
            text = "Another process is training the same initial phase: waiting for it ..."
            try:
                held.enter_context(
                    locks.hold(os.path.join(self._folder, f"{name}.lock"), lambda: tracking.notice(text))
                )
            except OSError as error:
                # Without a lock two processes may train the same, and spoil the file, which is then trained again.
                tracking.notice(f"{self._folder} knows no locks ({error.strerror or error}).")
            yield


def shared_network(
    shared: InitialPhases, context: Context, phase: Phase, train: Callable[[], Classifier], notes: list[str]
) -> tuple[Classifier, bool]:
    """The network of phase 0, and whether it was there already.

    Args:
      shared: where such networks are kept.
      context: settings and tools of the run.
      phase: what arrives first.
      train: makes and trains the network.
      notes: see `InitialPhases.network`.
    """
    settings = context.settings
    description = describe_initial_phase(
        phase.train,
        context.factory.trained,
        settings.method,
        settings.model_level,
        context.trainer,
        settings.seed,
        settings.deterministic,
    )

    def build() -> Classifier:
        with context.trainer.strategy.scope():
            return context.factory.trained.build(0, phase.num_new_classes)

    model, reused = shared.network(description, build, train, notes)
    if context.checkpoints is not None:
        shared.checkpoints(description, model, context.checkpoints, train)
    return model, reused


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

    Every field of the settings counts, unless its dataclass says that it matters in later phases only, as it does of
    weight transfer, distillation and the correction of logits: `field(metadata={"later_phases_only": True})`.

    Args:
      data: training images of phase 0.
      factory: builds the network.
      method: gives the loss of the training.
      settings: length and rates of the training.
      trainer: does the training, on its devices.
      seed: the run's, from which the training draws its initial weights and batches.
      deterministic: whether TensorFlow's operations give the same bits each time.
    """
    if data.coded is None:  # nothing is there to be taken in the place of an image
        trainer = dataclasses.replace(trainer, augmentation=dataclasses.replace(trainer.augmentation, coded_share=0.0))
    return {
        "images": [*data.images.shape, *_described_images(data.images)],
        "coded": None if data.coded is None else _checksum(data.coded),
        "labels": _checksum(data.labels),
        "trainer": {
            field.name: _described(getattr(trainer, field.name))
            for field in dataclasses.fields(trainer)
            if field.name not in ("tracker", "after_epoch", "snapshots")
        },
        "factory": _described(factory),
        "loss": method.initial_training,
        "settings": _described(settings),
        "seed": seed,
        "deterministic": deterministic,
        "versions": [tf.__version__, keras.__version__],
        "sources": code(),
        "method_source": _own_source(method),
    }


def _name_of(description: dict[str, Any]) -> tuple[str, str]:
    """What the file of a network is called, and its description as text."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24], text


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, files.UnreadableError) else type(error).__name__


def code() -> str:
    """Checksum of the sources by which phases 0 are trained. What it has read once it does not read again."""
    return sources.checksum(_SOURCES)


def _described(value: Any) -> Any:
    """A setting as JSON has it; of a dataclass, the fields that matter in phase 0."""
    if isinstance(value, Backbone):
        return value.description()
    if dataclasses.is_dataclass(value):
        return {
            field.name: _described(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.metadata.get(_LATER)
        }
    if isinstance(value, tf.distribute.Strategy):
        return [runtime.device_kind(value), value.num_replicas_in_sync]
    return [_described(each) for each in value] if isinstance(value, list | tuple) else value


def _own_source(method: Method) -> str | None:
    """Checksum of the file of a method outside the package; None if its phase 0 is that of others, or it is no file."""
    if method.starts_by_cross_entropy or type(method).__module__ in _SOURCES:
        return None
    try:
        with open(inspect.getfile(type(method)), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, TypeError):
        return None


def _described_images(images: Images) -> list[Any]:
    if isinstance(images, StoredImages):
        return [images.checksum(), images.resized_side]
    return [_checksum(images)]


def _checksum(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B")).hexdigest()


def _save(path: str, model: Classifier, description: str, notes: Sequence[str]) -> None:
    """Writes the weights, in one step: a killed process leaves no half of them under this name."""
    weights = {name: variable.numpy() for name, variable in model.initial_weights().items()}
    with files.replacing(path) as file:
        np.savez(file, description=np.array(description), notes=np.array(notes, np.str_), **weights)


def _load(path: str, model: Classifier, description: dict[str, Any]) -> list[str]:
    """Fills a network with stored weights, once all of them have proved to be what is expected. Returns the notes.

    Raises:
      UnreadableError: they are of something else, are no numbers, or are larger than they can be.
      Exception: one of `archives.DAMAGES`.
    """
    variables = model.initial_weights()
    most = _MAX_DESCRIPTION + sum(int(np.prod(variable.shape)) * 4 + _HEADER for variable in variables.values())
    with archives.reading(path, most) as arrays:
        if json.loads(str(arrays["description"])) != json.loads(json.dumps(description)):
            raise files.UnreadableError("it is the network of something else")
        # All are read before the first is used; the archive's checksums are compared as they are.
        values = {name: arrays[name] for name in variables}
        notes = [str(note) for note in arrays["notes"]]
    for name, variable in variables.items():
        value = values[name]
        if value.dtype != np.float32 or value.shape != tuple(variable.shape) or not np.isfinite(value).all():
            raise files.UnreadableError(f"{name} is {value.dtype} of shape {value.shape}, or not finite")
    for name, variable in variables.items():
        variable.assign(values[name])
    return notes
