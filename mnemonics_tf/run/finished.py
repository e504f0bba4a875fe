"""A run that is finished: its results from its files alone, in about a second, without TensorFlow and without data."""

from __future__ import annotations

from mnemonics_tf import checks
from mnemonics_tf import results as schema
from mnemonics_tf.results import Results, summarise
from mnemonics_tf.run import data_note, phase_marks
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.run.directory import RunDirectory


def results_of(directory: RunDirectory, configuration: Configuration) -> Results | None:
    """The results of a run that has nothing left to do, its files compared with their checksums.

    Args:
      directory: of the run, not opened yet; it is opened, and so locked, if there are results.
      configuration: all that the run consists of, checked.

    Returns:
      What `results.json` then holds. None if that cannot be told so: phases are still to come, files are missing,
      several workers are to meet, a phase is damaged, or the images may be others than they were, which only loading
      them can tell.

    Raises:
      UsageError: the folder holds a run of another configuration, or a phase of another run.
      BusyError: another process is working in the folder.
    """
    if not getattr(configuration.source, "is_fixed", False) or not configuration.devices.works_alone:
        return None
    try:
        before = schema.read(directory.results_file)
        noted = data_note.read(directory, {})
    except checks.UsageError:
        return None  # it is written anew, or refused with more than is known here
    if noted is None or not before.is_complete or directory.num_complete_phases() <= before.num_phases:
        return None
    numbers = range(before.num_phases + 1)
    try:
        marks = [directory.verified(phase) for phase in numbers]
    except phase_marks.DamagedError:
        return None  # a run that goes on sets it aside
    phase_marks.check_chain([directory.phase_dir(phase) for phase in numbers], marks)
    directory.open(configuration.text())
    directory.check_configuration(marks)
    found = summarise(
        [directory.read_metrics(phase) for phase in numbers],
        phase_sizes=noted["phase_sizes"],
        class_order=noted["class_order"],
        dataset=before.dataset,
        **configuration.setup,
    )
    directory.remove_snapshots()
    directory.write_results(found)
    return found
