"""Is a run what was written, for those who read it and do not go on with it: they set nothing aside, and refuse.

A run that goes on compares all files with their checksums itself (`recovery`), and `verify` tells of each of them.
"""

from __future__ import annotations

import os

from mnemonics_tf import checks
from mnemonics_tf.run import bindings, phase_marks
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.system import screen


def check_configuration(run: RunDirectory, config: str) -> None:
    """Makes sure that `config.gin` is what the phases were learned by.

    Args:
      run: whose it is. A folder may have been copied without its phases, which then say nothing.
      config: its text.

    Raises:
      UsageError: a phase names another configuration.
    """
    own = bindings.checksum(config)
    for mark in filter(None, run.marks()):
        if mark.configuration not in (None, own):
            raise checks.UsageError(
                f"{screen.shown(run.config_file)} is not the configuration that the phases of the run name. Put back a "
                "copy of it."
            )


def check_last_mark(run: RunDirectory) -> None:
    """Makes sure that the last complete phase is the last one there: a phase comes to its place with its mark.

    Raises:
      DamagedError: the phase after it is there, and has lost its mark.
    """
    folder = run.phase_dir(run.num_complete_phases())
    if os.path.isdir(folder):
        raise phase_marks.DamagedError(phase_marks.path_of(folder))


def check_model(folder: str) -> None:
    """Makes sure that a SavedModel which lies in a phase of a run is the one that was written there.

    A damaged one may load, and answer otherwise. Of models that lie elsewhere nobody has noted what they were.

    Args:
      folder: of the SavedModel.

    Raises:
      DamagedError: a file of it is missing or was changed, or the phase's mark is damaged.
    """
    phase, name = os.path.split(os.path.abspath(folder))
    if not os.path.lexists(phase_marks.path_of(phase)):
        return
    noted = {path: checksum for path, checksum in phase_marks.read(phase).files.items() if path.startswith(f"{name}/")}
    for path in phase_marks.damaged_files(phase, phase_marks.Mark(noted)):
        raise phase_marks.DamagedError(path)
