"""What an earlier process has left of a run: the phases that count, and what becomes of those that are damaged.

A run goes on from the newest phase that is whole: its network, its exemplars and its statistics are all that later
phases need. What is damaged behind it is set aside. Of a damaged phase before it only the figures are needed, and they
are used if they can be proved; the rest stays where it is. Whole phases that belong elsewhere are refused, never moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil

from mnemonics_tf import __version__, checks, results
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.run import phase_marks
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.system import complete, screen


def recover(directory: RunDirectory, writes: bool) -> list[PhaseResult]:
    """The phases that count, from phase 0 on: a run goes on with the one after them.

    Args:
      directory: an opened run.
      writes: whether this process may change its folder; of several workers the first one, before all others.

    Returns:
      What each of them has reached.

    Raises:
      UsageError: a phase belongs elsewhere, or the figures of one that is damaged are lost while a later one is whole.
    """
    count = max(directory.num_complete_phases(), _num_folders(directory) if writes else 0)
    marks: list[phase_marks.Mark | None] = []
    damages: dict[int, phase_marks.DamagedError] = {}
    for phase in range(count):
        try:
            marks.append(directory.verified(phase))
        except phase_marks.DamagedError as error:
            marks.append(None)
            damages[phase] = error
    newest = max((phase for phase, mark in enumerate(marks) if mark is not None), default=-1)
    phase_marks.check_chain([directory.phase_dir(phase) for phase in range(newest + 1)], marks[: newest + 1])
    found = [
        _proven(directory, phase, damages[phase], newest) if phase in damages else directory.read_metrics(phase)
        for phase in range(newest + 1)
    ]
    if writes:
        _tell(directory, marks[: newest + 1], {phase: damages[phase] for phase in damages if phase < newest})
        for phase in range(newest + 1, count):
            _set_aside(directory, phase, damages[phase])
    return found


def check_room(directory: RunDirectory, phase: int) -> None:
    """Raises UsageError if there is no room for what the next phase will write: what is learned would be lost.

    A phase needs what the one before it took, and as much again for its snapshots. Nothing is known before phase 0.

    Args:
      directory: an opened run.
      phase: the one that is to be learned.
    """
    if not phase:
        return
    before = directory.phase_dir(phase - 1)
    paths = [os.path.join(before, name) for name in complete.names_in(before)]
    needed, free = 2 * sum(os.lstat(path).st_size for path in paths), shutil.disk_usage(directory.path).free
    if free < needed:
        raise checks.UsageError(
            f"--output_dir = {directory.path}: {free / 1e6:,.1f} MB are free there, and phase {phase} may need "
            f"{needed / 1e6:,.1f} MB. Make room, and the same command goes on."
        )


def _num_folders(directory: RunDirectory) -> int:
    """How many phases there are, up to the last that has something in its place, marked or not."""
    names = os.listdir(os.path.dirname(directory.phase_dir(0)))
    return max((int(name) + 1 for name in names if name.isdecimal() and f"{int(name):03d}" == name), default=0)


def _proven(directory: RunDirectory, phase: int, damage: phase_marks.DamagedError, newest: int) -> PhaseResult:
    """The figures of a damaged phase: of `metrics.json` or `results.json`, if something else says that they are right.

    That is the checksum in the phase's mark or, if that is lost, the other one of the two files.

    Raises:
      UsageError: nothing does.
    """
    folder = directory.phase_dir(phase)
    copies = []
    with contextlib.suppress(checks.UsageError):
        copies.append(directory.read_metrics(phase))
    with contextlib.suppress(checks.UsageError, IndexError):
        copies.append(results.read(directory.results_file).phases[phase])
    with contextlib.suppress(phase_marks.DamagedError):
        expected = phase_marks.read(folder).files.get(results.METRICS_FILE)
        for copy in copies:
            if hashlib.sha256(results.phase_to_text(copy).encode()).hexdigest() == expected:
                return copy
    if len(copies) == 2 and copies[0] == copies[1]:
        return copies[0]
    raise checks.UsageError(
        f"{damage.path} is missing or was damaged, and with it what phase {phase} had reached, while phase {newest} is "
        f"whole. Put a copy of {folder} back, or move {folder} and all later phases elsewhere to train them again."
    ) from damage


def _tell(
    directory: RunDirectory, marks: list[phase_marks.Mark | None], early: dict[int, phase_marks.DamagedError]
) -> None:
    """Says what is odd about the phases that are used, and harmless."""
    for phase, damage in early.items():
        screen.notice(
            f"{screen.shown(damage.path)} is missing or was damaged. Only the figures of phase {phase} are needed any "
            "more, and they are whole: the run goes on."
        )
    for phase, mark in enumerate(marks):
        for path in [] if mark is None else phase_marks.added_files(directory.phase_dir(phase), mark):
            screen.notice(f"{screen.shown(path)} is none of the run's own files: it is left alone.")
    last = marks[-1] if marks else None
    if last is None or last.version is None:
        return
    if (last.version, last.code) != (__version__, directory.code):
        other = f"version {last.version}" if last.version != __version__ else "another state of the code"
        screen.notice(
            f"{directory.phase_dir(len(marks) - 1)} was learned by {other} of mnemonics_tf (this is {__version__}): "
            "what comes now may differ from what one and the same code would give."
        )


def _set_aside(directory: RunDirectory, phase: int, damage: phase_marks.DamagedError) -> None:
    folder = directory.phase_dir(phase)
    if not os.path.lexists(folder):
        return
    place = directory.set_aside(folder)
    is_unfinished = not os.path.lexists(phase_marks.path_of(place))
    why = "has no mark that says it is complete" if is_unfinished else "was damaged"
    screen.notice(f"{screen.shown(damage.path)}: phase {phase} {why}. It is set aside in {place}, and learned again.")
