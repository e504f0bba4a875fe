"""Learns what is new in a folder of images: `python -m mnemonics_tf.learn LEARNER_DIR IMAGES_DIR`.

IMAGES_DIR has a folder of images for each class. LEARNER_DIR is made anew, or taught the classes and images that it has
not seen yet: those it has seen need not be there any more. LEARNER_DIR/model is then a model that can be served, and
`python -m mnemonics_tf.predict LEARNER_DIR/model IMAGE...` asks it.

The same command goes on where an earlier process was killed or stopped, in the middle of the step; of what was learned
before nothing is touched until all of it is learned.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import app, flags

from mnemonics_tf import checks
from mnemonics_tf.system import complete, files, folders, gin_flags, lazy, locks, screen, stopping

# TensorFlow takes seconds to import, and --help needs none of it: what uses it is imported once the flags are known.
if TYPE_CHECKING:
    from mnemonics_tf.learner.learner import IncrementalLearner
    from mnemonics_tf.learner.news import News
    from mnemonics_tf.memory.settings import Memory

_MODEL = "model"
_EXPORTED = os.path.join("assets.extra", "state")  # in a model: which state of the learner it is
_ROOM = 30_000_000  # bytes of a new learner with its model
_SMALLEST = 32  # pixels, for the network `small`
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

# These are settled when a learner is begun, the last two aside.
_METHOD = flags.DEFINE_string("method", "lucir", "Base method: a name in configs/methods, or auto.")
_MEMORY = flags.DEFINE_string("memory", "20", "Exemplars that are kept of each class; or bytes for all, such as 2MB.")
_LEARN = flags.DEFINE_bool("learn_exemplars", False, "Learn the exemplars (mnemonics), which takes longer.")
_BACKBONE = flags.DEFINE_string(
    "backbone",
    None,
    "Network: small, resnet8, resnet20, resnet32, resnet18; with --weights a model of keras.applications. Default: "
    "small; below 32 pixels resnet8; with --weights MobileNetV2.",
)
_WEIGHTS = flags.DEFINE_string("weights", None, "File of pretrained weights of a model of keras.applications.")
_SIZE = flags.DEFINE_integer(
    "size", 64, "Side of the squares to which images are brought, in pixels; with --weights 96 if nothing is said."
)
_FLIP = flags.DEFINE_bool("flip", True, "Whether a mirrored image still shows its class.")
_HELD_OUT = flags.DEFINE_float("held_out", 0.2, "Share of the images that are not learned, but measured by.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of all that is random.")
flags.adopt_module_key_flags(gin_flags)
_FROM_RUN = flags.DEFINE_string("from_run", None, "Folder of a run of mnemonics_tf.main from which to begin.")
_EPOCHS = flags.DEFINE_integer("epochs", None, "Passes over the images, this time. Default: what suits their number.")


def main(argv: list[str]) -> int:
    """Learns, saves, exports, and tells what came of it. Returns the exit code."""
    try:
        if len(argv) != 3:
            what = f"Unexpected argument {argv[3]!r}: expected" if len(argv) > 3 else "Expected"
            raise checks.UsageError(f"{what} two folders, as in python -m mnemonics_tf.learn LEARNER_DIR IMAGES_DIR.")
        files.check_given(LEARNER_DIR=argv[1], IMAGES_DIR=argv[2])
        folder, images = (os.path.abspath(os.path.expanduser(path)) for path in argv[1:])
        files.check_path("LEARNER_DIR", folder)
        options = _options()
        _check_folder(folder, options)
        _check_images(images, folder)
        with _alone(folder):
            _learn(folder, images, options)
    except Exception as error:
        place = argv[1] if len(argv) > 1 else ""
        return screen.exit_code(error, place, "the same command goes on", _reworded)
    except stopping.StoppedError as stopped:
        screen.last_words(f"mnemonics_tf: {stopped} {screen.how_to_go_on('mnemonics_tf.learn')}")
        return screen.STOPPED
    return 0


def _options() -> dict[str, Any]:
    """What a learner is begun with, by the arguments of `IncrementalLearner`; contradictions are told at once."""
    from mnemonics_tf.learner.defaults import Choices

    settled = ("method", "memory", "learn_exemplars", "backbone", "weights", "size", "flip", "seed")
    given = [name for name in settled if flags.FLAGS[name].present]
    files.check_given(**{"--from_run": _FROM_RUN.value})
    if _FROM_RUN.value and given:
        raise checks.UsageError(f"--{given[0]} and --from_run: a learner that begins from a run has it from there.")
    checks.check_fraction(**{"--held_out": _HELD_OUT.value})
    checks.check_positive_integer(**{"--size": _SIZE.value})
    if _EPOCHS.value is not None:
        checks.check_positive_integer(**{"--epochs": _EPOCHS.value})
    options = {
        "method": _METHOD.value,
        "backbone": _backbone(),
        "memory": _memory(_MEMORY.value, _LEARN.value),
        "image_size": _side(),
        "horizontal_flip": _FLIP.value,
        "seed": _SEED.value,
    }
    Choices.made(**options, parts={})
    return {**options, "validation_share": _HELD_OUT.value}


def _backbone() -> str | None:
    """One of this package's networks; None for the default, and for one with pretrained weights, which takes Keras."""
    from mnemonics_tf.learner import pretrained

    pretrained.check(_BACKBONE.value, _WEIGHTS.value)
    if _WEIGHTS.value is not None:
        return None
    return "small" if _BACKBONE.value is None and _SIZE.value >= _SMALLEST else _BACKBONE.value


def _side() -> int:
    """Of images, in pixels."""
    from mnemonics_tf.learner import pretrained

    return _SIZE.value if _WEIGHTS.value is None or flags.FLAGS["size"].present else pretrained.SIDE


def _begun(options: dict[str, Any]) -> IncrementalLearner:
    """A learner that knows nothing yet."""
    from mnemonics_tf.learner import pretrained
    from mnemonics_tf.learner.learner import IncrementalLearner

    if _WEIGHTS.value is None:
        return IncrementalLearner(**options)
    backbone = pretrained.application(_BACKBONE.value or pretrained.DEFAULT, options["image_size"], _WEIGHTS.value)
    return IncrementalLearner(**{**options, "backbone": backbone})


def _memory(text: str, learned: bool) -> Memory | None:
    """The memory that --memory and --learn_exemplars ask for; None if neither is given and the method may decide."""
    from mnemonics_tf.memory.settings import Memory

    if not flags.FLAGS["memory"].present and not learned and _METHOD.value in ("auto", "analytic"):
        return None
    kind: dict[str, Any] = {"strategy": "mnemonics" if learned else "herding", "initial": "herding", "adjust": learned}
    found = re.fullmatch(r"(\d{1,18})\s*([kmg]?)(b?)", text.strip().lower())
    if found is None or (found[2] and not found[3]):
        raise checks.UsageError(f"--memory = {text!r}: expected a number of exemplars a class, or bytes such as 2MB.")
    number = int(found[1]) * _UNITS[found[2]]
    return Memory(**kind, total_bytes=number, codec="webp") if found[3] else Memory(**kind, per_class=number)


def _check_folder(folder: str, options: dict[str, Any]) -> None:
    """Raises UsageError unless LEARNER_DIR is a learner that was begun so, or may become one."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise checks.UsageError(f"LEARNER_DIR = {folder}: a file is there; expected a folder or nothing. Name another.")
    if folders.is_learner(folder):
        if _FROM_RUN.value:
            raise checks.UsageError(f"--from_run: there is a learner in {folder} already. Leave it out to teach that.")
        _check_settled(folder, options)
        return
    if folders.is_run(folder):
        raise checks.UsageError(
            f"LEARNER_DIR = {folder}: that is the folder of a run. Name another folder for the learner, which can go "
            f"on from the run: --from_run={shlex.quote(folder)}."
        )
    if folders.is_model(folder):
        raise checks.UsageError(
            f"LEARNER_DIR = {folder}: that is an exported model, which learns no more. Give the learner's own folder."
        )
    if os.path.isdir(folder) and folders.beside_a_learner(folder):
        raise checks.UsageError(
            f"LEARNER_DIR = {folder}: the folder is not empty and holds no learner (no {folders.LEARNER_FILE}). "
            "Name another."
        )


def _check_settled(folder: str, options: dict[str, Any]) -> None:
    """Raises UsageError for a flag that says something else than what the learner was begun with."""
    from mnemonics_tf.learner.defaults import AUTO, BACKBONES

    try:
        card = files.read_json(os.path.join(folder, folders.LEARNER_FILE))
        memory, backbone, network = options["memory"], BACKBONES.get(options["backbone"]), card["network"]
        weights = _WEIGHTS.value and complete.checksum(os.path.expanduser(_WEIGHTS.value))
        wanted = {
            "method": (options["method"], card["method"]["name"]),
            "memory": (memory and _amount(dataclasses.asdict(memory)), _amount(card["memory"])),
            "learn_exemplars": (_LEARN.value, card["memory"]["strategy"] == "mnemonics"),
            "weights": (weights, network.get("file")),
            "backbone": (
                (_BACKBONE.value and _BACKBONE.value.lower(), network.get("name"))
                if weights
                else (backbone and json.loads(json.dumps(dataclasses.asdict(backbone))), network)
            ),
            "size": (options["image_size"], card["traits"]["image_shape"][0]),
            "flip": (options["horizontal_flip"], card["traits"]["horizontal_flip"]),
            "held_out": (options["validation_share"], card["validation_share"]),
            "seed": (options["seed"], card["seed"]),
        }
    except (files.UnreadableError, KeyError, TypeError, IndexError):
        return  # damaged, or of another version: whoever loads it says so
    for name, (now, then) in wanted.items():
        if flags.FLAGS[name].present and now not in (then, None, AUTO):
            raise checks.UsageError(
                f"--{name} = {flags.FLAGS[name].value}: the learner in {folder} was begun with another. Leave it out, "
                "or begin another learner in another folder."
            )


def _amount(memory: dict[str, Any]) -> list[Any]:
    """What --memory says of the settings of a memory."""
    return [memory[name] for name in ("per_class", "total_bytes", "codec")]


def _check_images(images: str, folder: str) -> None:
    """Raises UsageError for what the names of files tell, before TensorFlow is imported; IMAGES_DIR is looked through
    once LEARNER_DIR, or the run from which it begins, is read."""
    from mnemonics_tf.data import listing

    kinds = {"learner": folders.is_learner, "run": folders.is_run, "model": folders.is_model}
    what = next((f"that is the folder of a {kind}" for kind, is_one in kinds.items() if is_one(images)), None)
    if not os.path.isdir(images):
        what = "that is a file" if os.path.isfile(images) else "there is no such folder"
    if what is not None:
        raise checks.UsageError(f"IMAGES_DIR = {images}: {what}. Give a folder with a folder for each class.")
    _check_apart(folder, images)
    known: list[str] = []
    if folders.is_learner(folder):
        try:
            card = files.read_json(os.path.join(folder, folders.LEARNER_FILE))
            known = [str(name) for name in card["classes"]["names"]]
        except (files.UnreadableError, KeyError, TypeError):
            return  # damaged, or of another version: whoever loads it says so
    elif _FROM_RUN.value:
        return  # which knows classes, of which the folder may hold no image any more
    names, _ = listing.scan(listing.root_of(images), fewest=1, may_be_empty=known)
    listing.check_names(names, known)
    listing.check_several(names, known)


def _reworded(text: str) -> str:
    """What a listing refuses is known to runs by the name of a setting, and in Python by that of an argument."""
    return re.sub(r"(?<![\w./])folder\.path\b|\Aimages(?= = |: )", "IMAGES_DIR", text)


def _check_apart(folder: str, images: str) -> None:
    """Raises UsageError if LEARNER_DIR lies where the classes are, and would be taken for one."""
    from mnemonics_tf.data import clutter, layout, listing

    for split in layout.split_folders(listing.root_of(images)):
        first = os.path.relpath(os.path.realpath(folder), os.path.realpath(split)).split(os.sep)[0]
        if first != os.pardir and not clutter.is_clutter(first, True):
            raise checks.UsageError(
                f"LEARNER_DIR = {folder}: it lies in IMAGES_DIR, where every folder is a class. Name a folder "
                f"elsewhere, such as {os.path.join(os.path.dirname(split), os.path.basename(folder))}."
            )


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Makes the folder, and keeps other processes out; takes back what it has made if nothing came to be in it.

    Raises:
      BusyError: another process is learning there.
      UsageError: the folder cannot be used.
    """
    is_new = not os.path.isdir(folder)
    lock = os.path.join(folder, folders.LEARNING_LOCK)
    try:
        os.makedirs(folder, exist_ok=True)
        held = locks.hold(lock)
    except locks.HeldError:
        raise checks.BusyError(
            f"LEARNER_DIR = {folder}: another process is learning there. Wait for it, or name another folder."
        ) from None
    except OSError as error:
        raise checks.UsageError(
            f"LEARNER_DIR = {folder}: cannot be used ({error.strerror or error}). Name a folder you can write to."
        ) from error
    with held:
        try:
            yield
        finally:
            if not folders.is_learner(folder):
                with contextlib.suppress(OSError):
                    os.remove(lock)
                    if is_new:
                        os.rmdir(folder)


def _learn(folder: str, images: str, options: dict[str, Any]) -> None:
    """Teaches the learner what is new, with a line before what takes long."""
    with screen.quiet():  # TensorFlow's libraries talk
        lazy.import_quickly()
        from mnemonics_tf import methods
        from mnemonics_tf.learner.learner import IncrementalLearner
        from mnemonics_tf.learner.telling import report_of
    modules = gin_flags.GIN_IMPORT.value
    if folders.is_learner(folder):
        learner = IncrementalLearner.load(folder, method=methods.defined_in(modules))
    elif _FROM_RUN.value:
        learner = IncrementalLearner.from_run(_FROM_RUN.value, validation_share=_HELD_OUT.value, modules=modules)
    else:
        learner = _begun(options)
    news = learner.what_is_new(images)
    _show(str(news), *news.notices)
    if not len(news) and not folders.is_learner(folder) and not _FROM_RUN.value:
        raise checks.UsageError(
            f"IMAGES_DIR = {images}: there is nothing to begin with, as no image is left to learn from. Leave each "
            "image in one class."
        )
    learned = None
    if len(news):
        _check_room(folder)
        _announce(learner, news)
        learned = learner.learn_new(news, epochs=_EPOCHS.value, progress=folder)
    if len(news) or not folders.is_learner(folder):
        learner.save(folder)
    _export(learner, folder)
    _show("", *report_of(learner, learned), f"learner     {folder}", f"model       {os.path.join(folder, _MODEL)}")


def _check_room(folder: str) -> None:
    """Raises UsageError if there is no room for what will be written: what was learned for an hour would be lost."""
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    used = sum(os.lstat(path).st_size for path in paths)
    needed, free = _ROOM + 2 * used, shutil.disk_usage(folder).free
    if free < needed:
        raise checks.UsageError(
            f"LEARNER_DIR = {folder}: {free / 1e6:,.0f} MB are free there, and {needed / 1e6:,.0f} MB may be needed. "
            "Make room, or name a folder elsewhere."
        )


def _announce(learner: IncrementalLearner, news: News) -> None:
    from mnemonics_tf.learner.expected import told

    if not len(news.train):
        return
    seconds = learner.expected_seconds(news, epochs=_EPOCHS.value)
    _show("Learning them begins." if seconds is None else f"Learning them takes about {told(seconds)}.")


def _export(learner: IncrementalLearner, folder: str) -> None:
    """Writes the servable model, unless it is that of the learner's state already."""
    from mnemonics_tf.serving.replacing import remove_left_exports

    model = os.path.join(folder, _MODEL)
    remove_left_exports(model)
    state = folders.state_of_learner(folder)  # by content: a folder that was put back has the same numbers again
    mark = os.path.join(model, _EXPORTED)
    with contextlib.suppress(files.UnreadableError):
        if files.read_text(mark) == state:
            return
    try:
        with screen.quiet():
            learner.export(model)
        os.makedirs(os.path.dirname(mark), exist_ok=True)
        files.write_text(mark, state)
    except (checks.UsageError, OSError) as error:
        cause = error.__cause__ or error
        reason = files.why_unwritable(cause) or getattr(cause, "strerror", None) or str(error)
        raise checks.UsageError(
            f"{model} cannot be written ({reason}). What was learned is saved in {folder}: make room, and the same "
            "command exports it without learning it again."
        ) from error


def _show(*lines: str) -> None:
    for line in lines:
        screen.say(screen.shown(line))


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf", screen.how_to_go_on("mnemonics_tf.learn"), screen.STOPPED)
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
