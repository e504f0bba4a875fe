"""The folder that a grid's results go to."""

from __future__ import annotations

import os
import pathlib
import tempfile

from mnemonics_tf import checks
from mnemonics_tf.system import files


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
