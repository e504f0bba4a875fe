"""`data.json`: what a run has found out about its data when it began, and whether they are still those.

Classes and their order may not change, nor the images that complete phases have learned. Those of phases to come may:
a phase that learned others than `data.json` tells of has them in its mark.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.run import phase_marks
from mnemonics_tf.run.directory import FURTHER_CLASSES, RunDirectory
from mnemonics_tf.system import complete, files, folders, screen


def read(run: RunDirectory, classes: dict[str, Any], renews: bool = False) -> dict[str, Any] | None:
    """What was noted of the data set when the run began; None if nothing is noted yet.

    Args:
      run: an opened run.
      classes: what must not have changed since, such as names and order of classes.
      renews: whether a damaged note may be set aside, which then counts as none. It is where every complete phase
        tells by itself whether a new note is of the same data.

    Raises:
      UsageError: it has changed, or the note is damaged.
    """
    path = run.data_file
    if not os.path.lexists(path):
        return None
    try:
        noted = folders.read_checked(path)
        changed = [name for name, value in classes.items() if noted[name] != value]
    except (files.UnreadableError, AttributeError, KeyError, TypeError) as error:
        reason = error if isinstance(error, files.UnreadableError) else type(error).__name__
        if renews and None not in _data_of_phases(run):
            place = run.set_aside(path)
            screen.notice(f"{path} is damaged ({reason}). It is set aside in {place}, and written anew.")
            return None
        raise checks.UsageError(
            f"{path} is damaged ({reason}). Put back a copy of it, or name another folder."
        ) from error
    if changed:
        raise checks.UsageError(
            f"--output_dir = {run.path}: the run began with other data: {', '.join(changed)} of {path} "
            "differ from what the data source has now. Put the data back as they were, or name another folder. "
            f"{FURTHER_CLASSES}"
        )
    _check_phases(run, complete.checksum_of(noted))
    return noted


def images_as_learned(run: RunDirectory, noted: Any) -> Any:
    """Marks of the images that complete phases were learned from, and of those that are yet to come.

    Args:
      run: whose phases are asked.
      noted: what `data.json` says of them, `{split: [mark of each class index]}`; what is damaged is handed back.
    """
    if not isinstance(noted, dict) or not all(isinstance(marks, list) for marks in noted.values()):
        return noted
    known = {split: list(marks) for split, marks in noted.items()}
    for mark in filter(None, run.marks()):
        for split, replaced in (mark.images or {}).items():
            for index, text in replaced.items():
                known[split][int(index)] = text  # both have a checksum
    return known


def write(run: RunDirectory, data: dict[str, Any]) -> None:
    """Notes what `read` returns, with a checksum: other statistics of pixels would be used in silence.

    Raises:
      UsageError: there are phases that were learned from other data.
    """
    _check_phases(run, complete.checksum_of(data))
    files.write_text(run.data_file, json.dumps(folders.with_checksum(data), indent=1, ensure_ascii=False) + "\n")


def _check_phases(run: RunDirectory, noted: str) -> None:
    """Raises UsageError if a complete phase was learned from other data than data.json says, by its checksum."""
    run.note_data(noted)
    for phase, data in enumerate(_data_of_phases(run)):
        if data not in (None, noted):
            what = f"a phase of other data than {run.data_file} tells of"
            raise phase_marks.foreign(run.phase_dir(phase), what)


def _data_of_phases(run: RunDirectory) -> list[str | None]:
    """The checksum of data.json when each complete phase was learned; None where the phase does not tell."""
    return [None if mark is None else mark.data for mark in run.marks()]
