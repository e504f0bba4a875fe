"""Which model a folder has to offer: that of a run, of a learner, or an exported one itself."""

from __future__ import annotations

import os

from mnemonics_tf import checks
from mnemonics_tf.run import phase_marks
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.system import folders


def model_of(place: str) -> tuple[str, str]:
    """What can be asked or exported there.

    Args:
      place: an exported model, a learner's folder, or the folder of a run, of which the last complete phase counts.

    Returns:
      `learner` and the learner's folder, or `model` and that of a SavedModel.

    Raises:
      UsageError: there is none of them, or a file of a run's model is not what was written.
    """
    folder = os.path.abspath(os.path.expanduser(place))
    if folders.is_learner(folder):
        return "learner", folder
    if folders.is_run(folder):
        folder = models_of_run(folder)[-1]
    if folders.is_model(folder):
        check_unchanged(folder)
        return "model", folder
    what = "no model and no learner is in it" if os.path.isdir(folder) else "there is no such folder"
    raise checks.UsageError(
        f"MODEL_DIR = {folder}: {what}. Expected an exported model, a learner's folder, or a run's."
    )


def models_of_run(folder: str) -> list[str]:
    """The SavedModels of a run's complete phases, in their order.

    Raises:
      UsageError: no phase is complete, or the last has lost its mark.
    """
    run = RunDirectory(folder)
    run.check_last_mark()
    complete = run.num_complete_phases()
    if not complete:
        raise checks.UsageError(f"MODEL_DIR = {folder}: no phase of that run is complete. Start it again first.")
    return [run.saved_model_dir(phase) for phase in range(complete)]


def check_unchanged(folder: str) -> None:
    """Makes sure that a SavedModel which lies in a phase of a run is the one that was written there.

    A damaged one may load, and answer otherwise. Of models that lie elsewhere nobody has noted what they were.

    Args:
      folder: of the SavedModel.

    Raises:
      UsageError: a file of it is missing or was changed, or the phase's mark is damaged.
    """
    phase, name = os.path.split(os.path.abspath(folder))
    if not os.path.lexists(phase_marks.path_of(phase)):
        return
    noted = {path: checksum for path, checksum in phase_marks.read(phase).files.items() if path.startswith(f"{name}/")}
    for path in phase_marks.damaged_files(phase, phase_marks.Mark(noted)):
        raise phase_marks.DamagedError(path)
