"""A learner's folder: what `save` writes and `load` reads.

    <folder>/
      learner.json              version, settings, classes, statistics of pixels; names the state that counts
      states/000003/            network.weights.h5  exemplars.npz  means.npy  statistics.npz  seen.npz  COMPLETE
      states/000003.progress-1f0e9c3b5a7d2e46/    what an interrupted learn after that state has come to
      .lock                     keeps a second process out

Each save writes a new state beside the old one. `learner.json` is replaced last, in one step, and then the old state
goes: whatever happens in between, one whole learner is there. `COMPLETE` holds a checksum of each file. With the old
state goes what interrupted attempts to learn have come to (see `progress`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mnemonics_tf import __version__, checks, methods
from mnemonics_tf.data.types import ImageTraits, PixelRange
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.learner.answers import Evaluation
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.seen import load_seen, save_seen
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import ClassTable, LearnerState
from mnemonics_tf.memory.exemplar_file import load_exemplars, save_exemplars
from mnemonics_tf.memory.optimising.objective_settings import Matching, NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.statistics import load_statistics, save_statistics
from mnemonics_tf.memory.store import ExemplarStore
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.backbone import Backbone, UnknownLayersError
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.models.weights import save_weights
from mnemonics_tf.system import archives, complete, files, folders, locks, screen
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

FORMAT = 1  # of learner.json
_BACKBONE_FORMAT = 2  # where the network is a Keras model, which earlier versions do not know
_WEIGHTS, _EXEMPLARS, _MEANS = "network.weights.h5", "exemplars.npz", "means.npy"
_PARTS = {
    "memory": Memory,
    "model_level": ModelLevel,
    "rehearsal": Rehearsal,
    "exemplar_level": ExemplarLevel,
    "next_phase": NextPhase,
    "matching": Matching,
    "finetuning": BalancedFinetune,
    "probe": Probe,
}
_PLAIN = ("head", "classifier", "seed", "deterministic")


@dataclasses.dataclass(frozen=True)
class Content:
    """A learner, to be written.

    Attributes:
      settings: all of them.
      traits: of its images.
      state: between two phases.
      validation_share: of images that are held out.
      history: what each call of `learn` has reached.
      chosen: names of the settings that the user has chosen; others may follow the data.
    """

    settings: Settings
    traits: ImageTraits
    state: LearnerState
    validation_share: float
    history: Sequence[Evaluation | None]
    chosen: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Saved:
    """A learner that was read, but for its network and exemplars.

    Attributes:
      settings: all of them.
      traits: of its images.
      pixel_range: normalisation of its images.
      validation_share: of images that are held out.
      history: what each call of `learn` has reached.
      chosen: names of the settings that the user has chosen; others may follow the data.
      classes: that it knows.
      phase: number of phases it has had.
      folder: of network and exemplars.
    """

    settings: Settings
    traits: ImageTraits
    pixel_range: PixelRange
    validation_share: float
    history: tuple[Evaluation | None, ...]
    chosen: tuple[str, ...]
    classes: ClassTable
    phase: int
    folder: str

    def state(self, context: Context) -> LearnerState:
        """Reads network and exemplars. Raises UsageError if they do not fit the settings."""
        new = self.classes.sizes[-1]
        try:
            path = os.path.join(self.folder, _WEIGHTS)
            network = context.restored(len(self.classes) - new, new, lambda model: model.load_weights(path))
            slots = load_exemplars(os.path.join(self.folder, _EXEMPLARS), self.classes.order)
            stored = os.path.join(self.folder, _MEANS)
            means = np.load(stored, allow_pickle=False) if os.path.isfile(stored) else None
            statistics = load_statistics(self.folder)
            seen = load_seen(self.folder, self.classes.order)
        except archives.DAMAGES as error:
            raise _damaged(self.folder, f"{type(error).__name__}: {error}".partition("\n")[0]) from error
        return LearnerState(
            seed=self.settings.seed,
            pixel_range=self.pixel_range,
            exemplars=ExemplarStore(slots, context.codec),
            phase=self.phase,
            classes=self.classes,
            network=network,
            statistics=statistics,
            means=means,
            seen=seen,
        )


def write(folder: str, content: Content, model: Classifier) -> None:
    """Writes a learner in one step.

    Raises:
      UsageError: the folder holds something else, or cannot be written to.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    check_free(folder)
    try:
        os.makedirs(os.path.join(folder, folders.STATES), exist_ok=True)
        with _alone(folder):
            number = _next_number(folder)
            name = os.path.join(folders.STATES, f"{number:06d}")
            with complete.writing(os.path.join(folder, name)) as partial:
                save_weights(model, os.path.join(partial, _WEIGHTS))
                exemplars = content.state.exemplars
                path = os.path.join(partial, _EXEMPLARS)
                save_exemplars(path, exemplars.slots, content.state.classes.order, exemplars.codec)
                save_statistics(partial, content.state.statistics)
                save_seen(partial, content.state.seen, content.state.classes.order)
                if content.state.means is not None:
                    np.save(os.path.join(partial, _MEANS), content.state.means, allow_pickle=False)
            card = card_of(content, name)
            text = json.dumps(folders.with_checksum(card), indent=1) + "\n"
            files.write_text(os.path.join(folder, folders.LEARNER_FILE), text)
            _remove_others(folder, name)
    except OSError as error:
        raise checks.UsageError(
            f"{folder} cannot be written to ({error.strerror or error}). What was saved before is untouched. Free some "
            "space, or name another folder."
        ) from error


@contextlib.contextmanager
def reading(folder: str, own_method: type[Method] | None = None) -> Iterator[Saved]:
    """Reads a learner; nobody saves in its folder meanwhile.

    Args:
      folder: where it was saved.
      own_method: the class of its method, if that is none of this package's.

    Raises:
      UsageError: there is none, or it is damaged, or of another version.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    path = os.path.join(folder, folders.LEARNER_FILE)
    if not os.path.isfile(path):
        found = "no such folder" if not os.path.isdir(folder) else f"no {folders.LEARNER_FILE} in it"
        is_run = folders.is_run(folder)
        hint = " It is the folder of a run: IncrementalLearner.from_run reads it." if is_run else ""
        raise checks.UsageError(
            f"{folder}: there is {found}. Expected a folder that IncrementalLearner.save has made.{hint}"
        )
    _card(path)  # a folder whose file is damaged gets no lock beside it
    with _alone(folder, reading=True):
        yield _saved(folder, path, _card(path), own_method)


def _card(path: str) -> Any:
    """What `learner.json` says. Raises UsageError if it is damaged."""
    try:
        return folders.read_checked(path)
    except files.UnreadableError as error:
        raise _damaged(path, str(error)) from error


class _UnknownMethod(Exception):  # noqa: N818  # caught where it is raised
    """A learner has a method that this package does not know."""


def card_of(content: Content, state: str) -> dict[str, Any]:
    """What `learner.json` says of a learner whose state lies in a folder."""
    settings, classes, network = content.settings, content.state.classes, content.settings.network
    method = {field.name: getattr(settings.method, field.name) for field in dataclasses.fields(settings.method)}
    return {
        "format": _BACKBONE_FORMAT if isinstance(network, Backbone) else FORMAT,
        "package_version": __version__,
        "state": state,
        "phase": content.state.phase,
        "classes": dataclasses.asdict(classes),
        "traits": dataclasses.asdict(content.traits),
        "pixel_range": dataclasses.asdict(content.state.pixel_range),
        "method": {"name": settings.method.name, **method},
        "network": network.card() if isinstance(network, Backbone) else dataclasses.asdict(network),
        **{name: dataclasses.asdict(getattr(settings, name)) for name in _PARTS},
        "exemplar_level": _plain(settings.exemplar_level),
        **{name: getattr(settings, name) for name in _PLAIN},
        "validation_share": content.validation_share,
        "chosen": list(content.chosen),
        "history": [None if each is None else dataclasses.asdict(each) for each in content.history],
    }


def _plain(level: ExemplarLevel) -> dict[str, Any]:
    """The settings of the exemplar level with its engine by name."""
    engine = level.engine_object
    return {**dataclasses.asdict(level), "engine": engine.name, **dataclasses.asdict(engine)}


def _saved(folder: str, path: str, card: Any, own_method: type[Method] | None) -> Saved:
    """What a card says, all of it checked."""
    version = card.get("format") if isinstance(card, dict) else None
    if version not in (FORMAT, _BACKBONE_FORMAT):
        raise checks.UsageError(
            f"{path} has format {version!r:.40}: this version of mnemonics_tf ({__version__}) reads formats {FORMAT} "
            f"and {_BACKBONE_FORMAT}. Load it with the version that saved it."
        )
    try:
        card = {"rehearsal": {}, "next_phase": {}, "matching": {}, **card}  # earlier versions had none
        method = dict(card["method"])
        name = method.pop("name")
        known = {**methods.available(), **({} if own_method is None else {own_method.name: own_method})}
        if name not in known:
            raise _UnknownMethod(name)
        settings = Settings(
            known[name](**files.with_tuples(method)),
            _network(card["network"], version),
            **{name: part(**files.with_tuples(card[name])) for name, part in _PARTS.items()},
            **{name: card[name] for name in _PLAIN},
        )
        saved = Saved(
            settings=settings,
            traits=ImageTraits(**files.with_tuples(card["traits"])),
            pixel_range=PixelRange(**files.with_tuples(card["pixel_range"])),
            validation_share=float(card["validation_share"]),
            history=tuple(None if each is None else Evaluation(**each) for each in card["history"]),
            chosen=tuple(map(str, card["chosen"])),
            classes=ClassTable(**files.with_tuples(card["classes"])),
            phase=int(card["phase"]),
            folder=os.path.join(folder, os.path.normpath(card["state"])),
        )
        refusal = _refusal(saved)
        consistent = len(saved.classes.ids) == len(saved.classes.names) == sum(saved.classes.sizes) > 0
    except _UnknownMethod as error:
        raise checks.UsageError(
            f"{path}: its method is {str(error)!r}, which is none of this package's. Give its class: "
            "IncrementalLearner.load(folder, method=...), or its module: --gin_import=MODULE of the command."
        ) from error
    except UnknownLayersError as error:
        raise checks.UsageError(f"{path}: {error}") from error
    except archives.DAMAGES as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if refusal is not None:  # the file is whole
        raise checks.UsageError(f"{path}: {refusal}") from refusal
    if not consistent or os.path.dirname(os.path.dirname(saved.folder)) != folder:
        raise _damaged(path, "its classes or its state do not fit together")
    broken = complete.broken_file(saved.folder)
    if broken is not None:
        raise _damaged(broken, "it is missing, or was changed since it was written")
    return saved


def _network(card: dict[str, Any], version: int) -> ResNet | Backbone:
    return Backbone.from_card(card) if version == _BACKBONE_FORMAT else ResNet(**files.with_tuples(card))


def _refusal(saved: Saved) -> checks.UsageError | None:
    """Why settings cannot be gone on with here: another machine may have less memory."""
    try:
        # What only runs with phases still to plan must keep to was checked when this one was planned.
        saved.settings.check(later_phases=False)
        saved.settings.check_source(saved.traits.horizontal_flip, saved.traits.image_shape)
    except checks.UsageError as error:
        return error
    return None


def _damaged(path: str, why: str) -> checks.UsageError:
    return checks.UsageError(f"{path} is damaged: {why}. Put back a copy of the learner's folder.")


@contextlib.contextmanager
def _alone(folder: str, reading: bool = False) -> Iterator[None]:
    """Keeps other processes out of a learner's folder, or only those that write while this one reads.

    Whoever works there is waited for, as that takes seconds: hours of learning shall not end by somebody's reading.
    """
    text = f"{folder}: another process is saving or loading there. Waiting for it ..."
    with contextlib.ExitStack() as held:
        try:
            path = os.path.join(folder, folders.LEARNER_LOCK)
            held.enter_context(locks.hold(path, lambda: screen.notice(text), shared=reading))
        except OSError:
            pass  # a folder that can only be read, or a file system without locks: whoever writes will hear of it
        yield


def check_free(folder: str) -> None:
    """Raises UsageError unless a learner may be written to a folder, which is given by its absolute path."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise checks.UsageError(f"{folder}: a file is there; expected a folder or nothing. Name another.")
    if os.path.isdir(folder) and not folders.is_learner(folder):
        others = folders.beside_a_learner(folder)
        if not all(folders.is_model(os.path.join(folder, name)) for name in others):
            raise checks.UsageError(
                f"{folder}: the folder is not empty and holds no learner (no {folders.LEARNER_FILE}). Name another."
            )


def progress_folder(folder: str, mark: str) -> str:
    """Where an attempt to learn keeps what it has come to, until its result is saved in the learner's folder.

    Args:
      folder: of the learner, which may not be there yet.
      mark: tells the attempt from others, in characters that names of files may have.
    """
    state = "first"
    with contextlib.suppress(files.UnreadableError, KeyError, TypeError):
        state = os.path.basename(str(files.read_json(os.path.join(folder, folders.LEARNER_FILE))["state"]))
    return os.path.join(folder, folders.STATES, f"{state}{folders.PROGRESS}{mark}")


def _next_number(folder: str) -> int:
    numbers = [int(name[:6]) for name in os.listdir(os.path.join(folder, folders.STATES)) if name[:6].isdigit()]
    return max(numbers, default=-1) + 1


def _remove_others(folder: str, state: str) -> None:
    """Removes states that count no more, what killed processes have left, and the progress towards this state."""
    for name in os.listdir(os.path.join(folder, folders.STATES)):
        if name != os.path.basename(state):
            shutil.rmtree(os.path.join(folder, folders.STATES, name), ignore_errors=True)
