"""Models as TensorFlow Serving finds them: a folder for each model, a numbered folder in it for each version.

    models/
      models.config     which models there are, for --model_config_file
      birds/1/          a SavedModel
      birds/2/          a later one, which the server takes up while it runs

A version appears in one step, as the server looks for new ones all the time. Its files are hard links to those of the
model where that can be: they take no room, stay when the model is replaced or its run deleted, and are there in a
container that sees `models` alone. Elsewhere they are copies.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Mapping

from mnemonics_tf import checks
from mnemonics_tf.system import complete, files, folders, locks, screen

CONFIG = "models.config"
_LOCK = ".lock"  # beside it: one export numbers and writes at a time
_HEADER = "# Written by mnemonics_tf.export, anew each time. Keep one of your own under another name."
_NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_IDENTITY = os.path.join("assets.extra", "identity")  # in a version: what it was made of


def check_name(name: str) -> None:
    """Raises UsageError for a name that does not do for an address and a folder."""
    if not _NAME.fullmatch(name):
        raise checks.UsageError(
            f"--name = {name!r}: expected letters, digits, '_', '-' and '.', as the name becomes a part of an address."
        )
    if name == CONFIG:
        raise checks.UsageError(f"--name = {name!r}: the list of all models is called so. Give another name.")


def add_versions(root: str, name: str, models: Mapping[str, str], base_path: str, copy: bool = False) -> list[str]:
    """Adds SavedModels as versions of a model, and tells the server of it.

    Args:
      root: the folder of all models, made if it is not there.
      name: of the model.
      models: folders of SavedModels, the oldest first, by what tells each from all others (`identity` or the like).
        Those that are versions already are left out.
      base_path: where the server will see `root`.
      copy: whether files are copied in any case. False by default: they are linked where that can be.

    Returns:
      The folders of the versions that were added.

    Raises:
      UsageError: `root` cannot be used.
    """
    root = os.path.abspath(os.path.expanduser(root))
    place = os.path.join(root, name)
    for folder, flag in ((root, "OUT"), (place, "OUT/NAME")):
        if folders.is_learner(folder) or folders.is_run(folder) or folders.is_model(folder):
            raise checks.UsageError(
                f"{flag} = {folder}: that is itself a model, learner or run. Name a folder for models."
            )
    try:
        os.makedirs(place, exist_ok=True)
        with _alone(root):
            added = _written(place, models, copy)
            files.write_text(os.path.join(root, CONFIG), _config(root, base_path))
    except FileExistsError as error:
        raise checks.UsageError(
            f"OUT = {root}: another process is writing there. Give the same command again once it is over."
        ) from error
    except OSError as error:
        raise checks.UsageError(
            f"OUT = {root} cannot be written to ({error.strerror or error}). Make room, or name another folder."
        ) from error
    return added


def _alone(root: str) -> contextlib.AbstractContextManager[object]:
    """Waits for other exports to the same folder: two that number and write at once would mix their files."""
    text = f"Another process is exporting to {root}: waiting for it ..."
    try:
        return locks.hold(os.path.join(root, _LOCK), lambda: screen.notice(text))
    except locks.NoLocksError:
        return contextlib.nullcontext()


def _written(place: str, models: Mapping[str, str], copy: bool) -> list[str]:
    """The folders of the versions that were written; see `add_versions`."""
    there = set().union(*(_identities(os.path.join(place, str(number))) for number in versions_in(place)))
    added = []
    for its_identity, model in models.items():
        if its_identity in there:
            continue
        taken = [int(each) for each in os.listdir(place) if each.isdecimal()]
        final = os.path.join(place, str(max(taken, default=0) + 1))
        with complete.writing(final, mark=lambda folder: None) as partial:
            shutil.copytree(model, partial, copy_function=shutil.copy2 if copy else _link_or_copy, dirs_exist_ok=True)
            for folder, _, _ in os.walk(partial):
                os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)  # a model may be read-only
            os.makedirs(os.path.dirname(os.path.join(partial, _IDENTITY)), exist_ok=True)
            files.write_text(os.path.join(partial, _IDENTITY), its_identity)
        added.append(final)
    return added


def versions_in(place: str) -> list[int]:
    """Numbers of a model's versions, in their order."""
    return sorted(int(each) for each in os.listdir(place) if each.isdecimal() and folders.is_model(f"{place}/{each}"))


def identity(model: str) -> str:
    """What tells a SavedModel from others: its weights and its graph, as another export of the weights may do more."""
    parts = (os.path.join("variables", "variables.index"), "saved_model.pb")
    return complete.checksum_of([complete.checksum(os.path.join(model, part)) for part in parts])


def _identities(folder: str) -> set[str]:
    """What a version was made of, as it says itself and as its files do; nothing of one that is damaged."""
    found = set()
    with contextlib.suppress(files.UnreadableError):  # someone else's
        found.add(files.read_text(os.path.join(folder, _IDENTITY)))
    with contextlib.suppress(files.UnreadableError, OSError):
        found.add(identity(folder))
    return found


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise  # a copy would write into the file that the other link belongs to
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)


def _config(root: str, base_path: str) -> str:
    """The server's list of models, in protobuf's text form."""
    lines = [_HEADER, "model_config_list {"]
    for name in sorted(os.listdir(root)):
        if os.path.isdir(os.path.join(root, name)) and _NAME.fullmatch(name) and versions_in(os.path.join(root, name)):
            path = f"{base_path.rstrip('/')}/{name}".replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'  config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}')
    return "\n".join([*lines, "}", ""])
