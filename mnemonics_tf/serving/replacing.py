"""A SavedModel takes the place of an older one whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.system import complete, files, folders, stopping


def remove_left_exports(folder: str) -> None:
    """Removes what killed processes have left beside the place of a SavedModel, which nobody else is writing now."""
    parent, name = os.path.split(folder)
    for each in os.listdir(parent):
        if each.startswith(f".{name}."):
            shutil.rmtree(os.path.join(parent, each), ignore_errors=True)


@contextlib.contextmanager
def replacing_export(folder: str) -> Iterator[str]:
    """Hands out a folder for a SavedModel; once it is filled without an error it takes the place of `folder`.

    Raises:
      UsageError: something else than a SavedModel is there, or the folder cannot be written to.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    is_empty = os.path.isdir(folder) and not os.listdir(folder)
    if os.path.lexists(folder) and not folders.is_model(folder) and not is_empty:
        raise checks.UsageError(f"{folder}: something else than a SavedModel is there. Name another folder.")
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        # Beside its place, under a name that nobody else has.
        with tempfile.TemporaryDirectory(
            dir=os.path.dirname(folder), prefix=f".{os.path.basename(folder)}.", ignore_cleanup_errors=True
        ) as aside:
            stopping.remove_when_stopped(aside)
            partial, old = os.path.join(aside, "new"), os.path.join(aside, "old")
            yield partial
            complete.flush_all(partial)
            stopping.keep_when_stopped(aside)  # for a moment all that there is of the model lies there
            if os.path.isdir(folder):
                os.replace(folder, old)
            try:
                os.replace(partial, folder)
            except BaseException:  # Ctrl-C, too
                if os.path.isdir(old) and not os.path.lexists(folder):
                    os.replace(old, folder)
                raise
    except (OSError, tf.errors.OpError) as error:
        reason = files.why_unwritable(error) or getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise checks.UsageError(f"{folder} cannot be written to ({reason}). Name another.") from error
