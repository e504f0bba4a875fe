"""Which model a folder has to offer: that of a run, of a learner, or an exported one itself."""

from __future__ import annotations

import os

from mnemonics_tf import checks
from mnemonics_tf.run import intact
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
        intact.check_model(folder)
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
    intact.check_last_mark(run)
    complete = run.num_complete_phases()
    if not complete:
        raise checks.UsageError(f"MODEL_DIR = {folder}: no phase of that run is complete. Start it again first.")
    return [run.saved_model_dir(phase) for phase in range(complete)]
