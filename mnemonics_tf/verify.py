"""Says file by file whether runs and learners are whole: `python -m mnemonics_tf.verify FOLDER...`.

Exit code 0: all of it is whole; 1: something is not; 2: a folder is neither a run nor a learner, or cannot be listed.
Nothing is changed, and nothing of what is read is executed: files are compared with the checksums that were noted when
they were written.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator

from absl import app

from mnemonics_tf import checks, results
from mnemonics_tf.run import bindings, phase_marks
from mnemonics_tf.run.directory import SET_ASIDE, SNAPSHOTS, RunDirectory
from mnemonics_tf.system import complete, files, folders, locks, screen, stopping

_NOT_WHOLE = 1  # the exit code

WHOLE, NOTE, DAMAGED = "whole", "note", "DAMAGED"
_BUSY = "another process is working there: what it writes may seem unfinished"
_UNCHECKED = ("tensorboard", "report")  # in a run's folder: nothing is computed from them


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to be said of a file.

    Attributes:
      state: `WHOLE`, `DAMAGED`, or `NOTE` for what is neither, such as files that are no part of a run.
      path: of the file, below the run's or learner's folder.
      why: a few words; empty for what is whole.
    """

    state: str
    path: str
    why: str = ""


def verdicts(folder: str) -> Iterator[Verdict]:
    """What is to be said of each file of a run or learner, in the order in which they are read.

    Args:
      folder: of the run or learner. Nothing in it is changed.

    Raises:
      UsageError: it is neither.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    if folders.is_learner(folder):
        yield from _learner(folder)
    elif folders.is_run(folder) or os.path.isdir(os.path.join(folder, "phases")):
        yield from _run(RunDirectory(folder))
    else:
        what = "neither a run nor a learner is in it" if os.path.isdir(folder) else "there is no such folder"
        raise checks.UsageError(f"{folder}: {what}. Expected the folder of a run, or of a learner.")


def _learner(folder: str) -> Iterator[Verdict]:
    """Of the card, and of the state that counts."""
    if locks.is_held(os.path.join(folder, folders.LEARNING_LOCK)):
        yield Verdict(NOTE, folders.LEARNING_LOCK, _BUSY)
    try:
        card = folders.read_checked(os.path.join(folder, folders.LEARNER_FILE))
        state = os.path.normpath(card["state"])
        if os.path.isabs(state) or len(state.split(os.sep)) != 2 or state.startswith(os.pardir):
            raise files.UnreadableError("its state lies elsewhere")
    except (files.UnreadableError, KeyError, TypeError) as error:
        yield Verdict(DAMAGED, folders.LEARNER_FILE, _reason(error))
        return
    yield Verdict(WHOLE, folders.LEARNER_FILE)
    place = os.path.join(folder, state)
    yield from _compared(folder, place)
    others = os.path.dirname(place)
    for name in sorted(os.listdir(others)) if os.path.isdir(others) else []:
        if name != os.path.basename(place):
            why = "is not used any more"
            if folders.PROGRESS in name:
                why = "what an interrupted attempt to learn has come to"
            yield Verdict(NOTE, os.path.join(os.path.dirname(state), name), why)


def _run(run: RunDirectory) -> Iterator[Verdict]:
    """Of what a run is configured by, of its data, of each phase, and of what they have reached."""
    if locks.is_held(run.lock_file):
        yield Verdict(NOTE, os.path.basename(run.lock_file), _BUSY)
    count = run.num_complete_phases()
    marks = [_mark_or_none(run.phase_dir(phase)) for phase in range(count)]
    yield _configuration(run, marks)
    yield _data(run, marks)
    for phase in range(count):
        yield from _compared(run.path, run.phase_dir(phase))
        yield from _belongs(run, phase, marks)
    yield from _figures(run, count)
    yield from _skipped(run)
    yield from _others(run, count)


def _mark_or_none(folder: str) -> phase_marks.Mark | None:
    try:
        return phase_marks.read(folder)
    except phase_marks.DamagedError:
        return None


def _configuration(run: RunDirectory, marks: list[phase_marks.Mark | None]) -> Verdict:
    name = folders.RUN_FILE
    try:
        found = bindings.checksum(files.read_text(run.config_file))
    except files.UnreadableError as error:
        return Verdict(DAMAGED, name, _reason(error))
    expected = {mark.configuration for mark in marks if mark is not None} - {None}
    if expected and found not in expected:
        return Verdict(DAMAGED, name, "it is not the configuration that the phases name")
    return Verdict(WHOLE, name) if expected else Verdict(NOTE, name, "nothing says yet what should be in it")


def _data(run: RunDirectory, marks: list[phase_marks.Mark | None]) -> Verdict:
    name = os.path.basename(run.data_file)
    if not marks and not os.path.lexists(run.data_file):
        return Verdict(NOTE, name, "is not written yet")
    try:
        noted = complete.checksum_of(folders.read_checked(run.data_file))
    except files.UnreadableError as error:
        return Verdict(DAMAGED, name, _reason(error))
    if {mark.data for mark in marks if mark is not None} - {None, noted}:
        return Verdict(DAMAGED, name, "it is not of the data that the phases name")
    return Verdict(WHOLE, name)


def _compared(top: str, folder: str) -> Iterator[Verdict]:
    """Of each file that a mark lists, and of those that it does not."""
    mark_name = os.path.relpath(phase_marks.path_of(folder), top)
    mark = _mark_or_none(folder)
    if mark is None:
        why = "it is damaged" if os.path.lexists(phase_marks.path_of(folder)) else "it is missing"
        yield Verdict(DAMAGED, mark_name, f"{why}, and with it what the files of the folder should be")
        return
    yield Verdict(WHOLE, mark_name)
    damaged = set(phase_marks.damaged_files(folder, mark))
    for name in sorted(mark.files):
        path = os.path.join(folder, name)
        shown = os.path.relpath(path, top)
        if path not in damaged:
            yield Verdict(WHOLE, shown)
        else:
            yield Verdict(DAMAGED, shown, "was changed" if os.path.lexists(path) else "is missing")
    for path in phase_marks.added_files(folder, mark):
        yield Verdict(NOTE, os.path.relpath(path, top), "is none of the files that were written here")


def _belongs(run: RunDirectory, phase: int, marks: list[phase_marks.Mark | None]) -> Iterator[Verdict]:
    """Of a phase that is another than its place says, or came of another than is there."""
    mark, folder = marks[phase], run.phase_dir(phase)
    if mark is None:
        return
    name = os.path.relpath(folder, run.path)
    if mark.phase not in (None, phase):
        yield Verdict(DAMAGED, name, f"it is phase {mark.phase}")
        return
    try:
        places = [run.phase_dir(each) for each in range(phase + 1)]
        # One of those before it may belong elsewhere itself, which is told there.
        near = [own if index in (0, phase - 1, phase) else None for index, own in enumerate(marks[: phase + 1])]
        phase_marks.check_chain(places, near)
    except checks.UsageError as error:
        yield Verdict(DAMAGED, name, _first_sentence(error, folder))


def _figures(run: RunDirectory, count: int) -> Iterator[Verdict]:
    """Of `results.json`, which has the figures of each phase once more."""
    name = results.RESULTS_FILE
    if not count and not os.path.lexists(run.results_file):
        yield Verdict(NOTE, name, "is not written yet")
        return
    try:
        found = results.read(run.results_file)
    except checks.UsageError as error:
        yield Verdict(DAMAGED, name, _first_sentence(error, screen.shown(run.results_file)))
        return
    for phase, reached in enumerate(found.phases[:count]):
        try:
            same = run.read_metrics(phase) == reached
        except checks.UsageError:
            continue  # told already
        if not same:
            yield Verdict(DAMAGED, name, f"its figures of phase {phase} are not those of the phase")
            return
    if len(found.phases) != count:
        yield Verdict(NOTE, name, f"has {len(found.phases)} phases of {count}: the run's command writes it anew")
    yield Verdict(WHOLE, name)


def _skipped(run: RunDirectory) -> Iterator[Verdict]:
    name = os.path.basename(run.skipped_file)
    if not os.path.lexists(run.skipped_file):
        return
    try:
        if not isinstance(files.read_json(run.skipped_file), dict):
            raise files.UnreadableError("it is no list of images")
        yield Verdict(NOTE, name, "is only looked at by people, and has no checksum")
    except files.UnreadableError as error:
        yield Verdict(DAMAGED, name, _reason(error))


def _others(run: RunDirectory, count: int) -> Iterator[Verdict]:
    """Of what is under way, and of what is not looked at."""
    phases = os.path.join(run.path, "phases")
    known = {os.path.basename(run.phase_dir(phase)) for phase in range(count)}
    for name in sorted(os.listdir(phases)) if os.path.isdir(phases) else []:
        path = os.path.join("phases", name)
        if name.endswith(SNAPSHOTS):
            yield from _archives(run.path, os.path.join(phases, name))
        elif name.endswith(".partial"):
            yield Verdict(NOTE, path, "was being written when the process ended, and counts for nothing")
        elif name not in known:
            unfinished = name.isdecimal() and os.path.isdir(os.path.join(phases, name))
            if unfinished:
                yield Verdict(DAMAGED, os.path.join(path, complete.MARK), "is missing")
            else:
                yield Verdict(NOTE, path, "is no phase")
    if os.path.isdir(os.path.join(run.path, SET_ASIDE)):
        yield Verdict(NOTE, SET_ASIDE, "holds what was damaged, and is not used")
    for name in _UNCHECKED:
        if os.path.lexists(os.path.join(run.path, name)):
            yield Verdict(NOTE, name, "is only looked at by people, and has no checksums")


def _archives(top: str, folder: str) -> Iterator[Verdict]:
    """Of what a phase under way has come to: archives whose members have checksums of their own."""
    for name in complete.names_in(folder):
        path = os.path.join(folder, name)
        shown = os.path.relpath(path, top)
        if not name.endswith(".npz"):
            yield Verdict(NOTE, shown, "has no checksum")
            continue
        try:
            with files.open_plain(path) as file, zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
        except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
            broken = name
        yield Verdict(WHOLE, shown) if broken is None else Verdict(DAMAGED, shown, "its step will begin anew")


def _first_sentence(error: Exception, path: str) -> str:
    """What is wrong with a file, from an error that begins with its path and goes on with advice."""
    return str(error).removeprefix(path).partition(". ")[0].strip()


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, files.UnreadableError) else "it does not hold what it should"


def main(argv: list[str]) -> int:
    """Prints a line for each file of the folders in `argv[1:]`. Returns the exit code."""
    code = 0
    try:
        if len(argv) < 2:
            raise checks.UsageError("No folder was given. Try `python -m mnemonics_tf.verify runs/lucir_digits`.")
        for folder in argv[1:]:
            found = []
            for verdict in verdicts(folder):
                found.append(verdict)
                line = f"{verdict.state:8} {verdict.path}" + (f": {verdict.why}" if verdict.why else "")
                screen.say(screen.shown(line))
            damaged = sum(verdict.state == DAMAGED for verdict in found)
            whole = sum(verdict.state == WHOLE for verdict in found)
            code = code or (_NOT_WHOLE if damaged else 0)
            screen.say(screen.shown(f"{folder}: {whole} whole, {damaged} not. {_advice(folder, damaged)}".rstrip()))
    except checks.UsageError as error:
        return _refused(str(error))
    except OSError as error:  # of files that cannot be read verdicts tell, but a folder ends the list
        if error.filename is None:
            raise  # standard output is what fails
        return _refused(f"{error.filename} cannot be listed: {error.strerror}. Nothing is said of what lies behind it.")
    return code


def _refused(text: str) -> int:
    print(f"mnemonics_tf: {screen.shown(text)}", file=sys.stderr)
    return screen.USAGE_ERROR


def _advice(folder: str, damaged: int) -> str:
    if not damaged:
        return ""
    if folders.is_learner(os.path.expanduser(folder)):
        return "Put back a copy of the learner's folder."
    return "The command that began the run sets aside what it cannot use, and goes on from the newest whole phase."


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
