"""The folder that a grid's results go to."""

from __future__ import annotations

import os
import pathlib
import tempfile

from mnemonics_tf import checks
from mnemonics_tf.system import files


def folder_of(given: str | None, grid_file: str) -> str:
    """The folder that `--output_dir` names; None stands for the one named after the grid.

    Raises:
      UsageError: it is empty, such as of a variable that is not set.
    """
    default = os.path.join("runs", pathlib.Path(grid_file).stem)
    if given == "":
        raise checks.UsageError(f"--output_dir is empty: expected a folder. Leave it out for {default}.")
    return default if given is None else given


def prepared(folder: str, *inside: str) -> pathlib.Path:
    """Makes the folder that `--output_dir` names, and folders inside it. Returns its absolute path.

    Raises:
      UsageError: it cannot be written to.
    """
    files.check_path("--output_dir", folder)
    path = pathlib.Path(os.path.abspath(os.path.expanduser(folder)))
    try:
        for made in (path, *(path / name for name in inside)):
            made.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=made):
                pass
    except OSError as error:
        raise checks.UsageError(
            f"--output_dir = {folder}: cannot be used ({error.strerror}). Name a folder you can write to."
        ) from error
    return path
