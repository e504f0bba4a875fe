"""The run directory: what is written, when it counts as written, and how a run finds its way back in.

    <output_dir>/
      config.gin        the resolved configuration
      data.json         class names and order, statistics of pixels
      results.json      all phases so far
      skipped.json      images that could not be read, with the reason; only if there are any
      phases/000/       checkpoint/model.weights.h5  exemplars.npz  metrics.json  saved_model/  COMPLETE
                        confusion.npz  starting_images.npz  (see `observations`)
      phases/003.snapshots/     what a phase under way has come to; only until it is complete
      tensorboard/
      set_aside/        what was damaged and is not used any more; only if there was something
      .lock             keeps a second process out
      scratch-*         exemplars of a streamed data set while a phase runs

A phase is written beside its place and moved there when all its files are on disk, so a killed run never leaves half a
phase. `COMPLETE` is its mark: see `phase_marks`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence

from mnemonics_tf import __version__, checks, results
from mnemonics_tf.results import PhaseResult, Results
from mnemonics_tf.run import bindings, phase_marks
from mnemonics_tf.system import complete, files, folders, locks, sources, stopping
from mnemonics_tf.system.snapshot_files import PhaseSnapshots

_LOCK = ".lock"
_CONFIG_PARTIAL = f"{folders.RUN_FILE}{files.PARTIAL}"  # of a process that was killed while it opened the run
_SCRATCH = "scratch-"
SNAPSHOTS = ".snapshots"  # how the folders end that hold those of a phase
SET_ASIDE = "set_aside"
FURTHER_CLASSES = "Further classes are learned by IncrementalLearner.from_run, or `mnemonics_tf.learn --from_run=...`."


class RunDirectory:
    """Reads and writes one run's folder. Creating the object touches nothing on disk.

    Args:
      path: where the run is, or is to be; `~` is the user's home.
    """

    def __init__(self, path: str):
        self.path = os.path.abspath(os.path.expanduser(path))
        self._config = os.path.join(self.path, folders.RUN_FILE)
        self._results = os.path.join(self.path, results.RESULTS_FILE)
        self._data = os.path.join(self.path, "data.json")
        self._held: locks.Lock | None = None
        self._configuration = ""  # checksum of it, once it is known
        self._own_modules = ""  # checksums of those that it imports, likewise
        self._noted: str | None = None  # checksum of what data.json says, once it is known
        self._replaced: dict[str, dict[str, str]] = {}  # marks of images that data.json does not tell of
        self._phase_sizes: Sequence[int] = ()

    @property
    def tensorboard_dir(self) -> str:
        """Where TensorBoard's files go."""
        return os.path.join(self.path, "tensorboard")

    @property
    def skipped_file(self) -> str:
        """Where images that could not be read are listed, if there were any."""
        return os.path.join(self.path, "skipped.json")

    @property
    def config_file(self) -> str:
        """The path of `config.gin`."""
        return self._config

    @property
    def data_file(self) -> str:
        """The path of `data.json`."""
        return self._data

    @property
    def lock_file(self) -> str:
        """The path of what a process that works in the folder holds."""
        return os.path.join(self.path, _LOCK)

    @property
    def results_file(self) -> str:
        """The path of `results.json`."""
        return self._results

    def phase_dir(self, phase: int) -> str:
        """The folder in which a phase is or will be, whether it is complete or not."""
        return os.path.join(self.path, "phases", f"{phase:03d}")

    def saved_model_dir(self, phase: int) -> str:
        """The folder of a phase's servable model."""
        return os.path.join(self.phase_dir(phase), "saved_model")

    def open(self, config: str) -> None:
        """Creates the folder, or makes sure that it belongs to this configuration, and keeps other processes out.

        Args:
          config: the resolved configuration, as it is to stand in `config.gin`.

        Raises:
          UsageError: a file is in the way, the folder cannot be used or holds something else, its run was configured
            otherwise, or another process is working in it. Nothing is changed then.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise checks.UsageError(f"--output_dir = {self.path}: a file is there; expected a folder or nothing.")
        for name in ("phases", "tensorboard", folders.RUN_FILE):
            if os.path.islink(os.path.join(self.path, name)):
                raise checks.UsageError(
                    f"--output_dir = {self.path}: its {name} is a link, and what it points to may belong to another. "
                    "Put the thing itself there, or name another folder."
                )
        made = _missing_folders(self.path)
        try:
            if os.path.exists(self._config):
                config = self._check_same_config(config)
            elif os.path.isdir(self.path) and set(os.listdir(self.path)) - {_LOCK, _CONFIG_PARTIAL}:
                held = "holds a learner" if folders.is_learner(self.path) else "is not empty"
                raise checks.UsageError(
                    f"--output_dir = {self.path}: the folder {held} and holds no run (no {folders.RUN_FILE}). "
                    "Name another."
                )
            os.makedirs(self.path, exist_ok=True)
            self._lock()
            # Written even if it is there: that shows whether the folder can be written to.
            files.write_text(self._config, config)
            os.makedirs(os.path.join(self.path, "phases"), exist_ok=True)
            # Or a power cut could take the folders back.
            for folder in (self.path, *(os.path.dirname(each) for each in made)):
                files.flush(folder)
            self._note_configuration(config)
        except (OSError, UnicodeDecodeError) as error:
            if not os.path.exists(self._config):
                _remove_made(made, self.path)
            raise checks.UsageError(
                f"--output_dir = {self.path}: cannot be used ({getattr(error, 'strerror', None) or error}). "
                "Name a folder you can write to."
            ) from error

    def check_shared(self, config: str) -> None:
        """Makes sure that a worker which writes nothing sees the folder that the first worker has opened.

        Raises:
          UsageError: it does not, or is configured otherwise.
        """
        if not os.path.isfile(self._config):
            raise checks.UsageError(
                f"--output_dir = {self.path}: the first worker has opened a run there, which this one does not see. "
                "Name a folder that all workers share."
            )
        self._note_configuration(self._check_same_config(config))

    def _note_configuration(self, config: str) -> None:
        self._configuration, self._own_modules = bindings.checksum(config), sources.imported(config)

    @property
    def code(self) -> str:
        """Checksum of the sources that learn phases of the run now, modules of the user's own included."""
        return sources.checksum_with(self._own_modules)

    def note_data(self, checksum: str) -> None:
        """Notes what `data.json` says, by its checksum, for the marks of the phases that are learned now."""
        self._noted = checksum

    def note_replaced(self, images: dict[str, dict[str, str]], phase_sizes: Sequence[int]) -> None:
        """Notes which images are others than those with which the run began, for the marks of the phases learned now.

        Args:
          images: their marks by split and class index.
          phase_sizes: how many classes each phase brings.
        """
        self._replaced, self._phase_sizes = images, phase_sizes

    def _replaced_until(self, phase: int) -> dict[str, dict[str, str]]:
        """Of the classes known by a phase: images of later ones may be replaced while it is under way."""
        known = sum(self._phase_sizes[: phase + 1])
        found = {
            split: {index: mark for index, mark in marks.items() if int(index) < known}
            for split, marks in self._replaced.items()
        }
        return {split: marks for split, marks in found.items() if marks}

    def add_skipped(self, skipped: dict[str, str]) -> None:
        """Adds images that could not be read to `skipped.json`: where they are, and the reason."""
        if skipped:
            files.write_text(self.skipped_file, json.dumps(self.read_skipped() | skipped, indent=1))

    def read_skipped(self) -> dict[str, str]:
        """All images of the run that could not be read."""
        with contextlib.suppress(ValueError, TypeError):
            return dict(files.read_json(self.skipped_file))
        return {}

    @contextlib.contextmanager
    def scratch(self, worker: int) -> Iterator[str]:
        """A folder for what one phase of one worker needs on disk; it goes when the phase is over.

        Every worker has one here: the system's own folder for temporary files may be memory.
        """
        folder = os.path.join(self.path, f"{_SCRATCH}{worker}")
        complete.remove(folder)  # what a killed process has left behind
        os.mkdir(folder)
        stopping.remove_when_stopped(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            stopping.keep_when_stopped(folder)

    def snapshots(
        self, phase: int, writes: bool, seconds: Callable[[], dict[str, float]], code: str = ""
    ) -> PhaseSnapshots:
        """What a phase under way has come to.

        Args:
          phase: its index.
          writes: whether this process is the one that writes.
          seconds: tells how long each step has taken so far.
          code: of which code alone they are taken; empty for any, which `recovery` tells of.
        """

        def owner() -> str:
            self.check_there()
            before = [phase_marks.checksum_in(self.phase_dir(phase - 1))] if phase else []
            replaced = self._replaced_until(phase)
            others = [json.dumps(replaced, sort_keys=True)] if replaced else []
            marks = map(str, (complete.checksum_or_none(self._data), *before, *others))
            # Nothing is added where there is none: snapshots of earlier versions stay those of their run.
            by = [f"{code}{self._own_modules}"] if code else []
            told = (__version__, self._configuration, str(phase), *marks, *by)
            return hashlib.sha256("\n".join(told).encode()).hexdigest()

        return PhaseSnapshots(f"{self.phase_dir(phase)}{SNAPSHOTS}", writes, owner, seconds)

    def check_there(self) -> None:
        """Makes sure that the folder is still there: what is written to another in its place would be no run.

        Raises:
          UsageError: this process has opened the folder, and somebody has removed or moved it since.
        """
        if self._held is not None and not os.path.lexists(self._config):
            raise checks.UsageError(
                f"--output_dir = {self.path}: the folder, or its {folders.RUN_FILE}, was removed or moved while the "
                "run was working there. Put it back, and the same command goes on from what it holds."
            )

    def remove_snapshots(self) -> None:
        """Removes those of all phases: they are complete, or begin anew."""
        folder = os.path.join(self.path, "phases")
        for name in os.listdir(folder):
            if name.endswith(SNAPSHOTS):
                complete.remove(os.path.join(folder, name))

    def _lock(self) -> None:
        """Holds the folder while this object lives; the system lets go of it even if the process is killed."""
        if self._held is not None:
            return
        try:
            self._held = locks.hold(self.lock_file)
        except locks.HeldError:
            raise checks.BusyError(
                f"--output_dir = {self.path}: another process is working there. Wait for it, or name another folder."
            ) from None
        except locks.NoLocksError as error:
            raise checks.UsageError(
                f"--output_dir = {self.path}: its file system knows no locks ({error.strerror}), which keep a second "
                "process out. Name a folder on another, or have this one mounted with locks (flock)."
            ) from error

    def num_complete_phases(self) -> int:
        """How many phases there are, up to the last that is marked as complete; none is looked into."""
        folder = os.path.join(self.path, "phases")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return max((int(name) + 1 for name in names if self._is_marked(folder, name)), default=0)

    def _is_marked(self, folder: str, name: str) -> bool:
        is_phase = name.isdecimal() and f"{int(name):03d}" == name
        return is_phase and os.path.lexists(phase_marks.path_of(os.path.join(folder, name)))

    def verified(self, phase: int) -> phase_marks.Mark:
        """The mark of a complete phase, once its files have proved to be those that were written.

        Raises:
          DamagedError: a file is missing or was changed.
          UsageError: it is another phase, or one of another configuration.
        """
        return phase_marks.verified(self.phase_dir(phase), phase, self._configuration)

    def check_configuration(self, marks: Sequence[phase_marks.Mark]) -> None:
        """Makes sure that phases are of the run's configuration; for marks that were read before it was opened.

        Args:
          marks: of phases 0, 1, ...

        Raises:
          UsageError: one of them names another.
        """
        for phase, mark in enumerate(marks):
            phase_marks.check_configuration(self.phase_dir(phase), mark, self._configuration)

    def set_aside(self, path: str) -> str:
        """Moves what cannot be used out of the way, and keeps it. Where it is now."""
        return complete.set_aside(path, os.path.join(self.path, SET_ASIDE))

    def marks(self) -> list[phase_marks.Mark | None]:
        """The mark of each complete phase; None of one that is damaged."""
        found: list[phase_marks.Mark | None] = []
        for phase in range(self.num_complete_phases()):
            try:
                found.append(phase_marks.read(self.phase_dir(phase)))
            except phase_marks.DamagedError:
                found.append(None)
        return found

    @contextlib.contextmanager
    def writing_phase(self, phase: int) -> Iterator[str]:
        """Hands out a folder to fill; once that is done without an error, it becomes the phase's folder."""
        self.check_there()
        before = self.phase_dir(phase - 1)
        mark = phase_marks.Mark(
            files={},
            phase=phase,
            run=secrets.token_hex(16) if phase == 0 else phase_marks.read(before).run,
            configuration=self._configuration,
            before=None if phase == 0 else phase_marks.checksum_in(before),
            data=self._noted,
            version=__version__,
            code=self.code,
            images=self._replaced_until(phase) or None,
        )
        with complete.writing(self.phase_dir(phase), lambda folder: phase_marks.write(folder, mark)) as folder:
            yield folder

    def write_results(self, found: Results) -> None:
        """Replaces `results.json` in one step."""
        self.check_there()
        files.write_text(self._results, results.to_text(found))

    def read_metrics(self, phase: int) -> PhaseResult:
        """What a complete phase reached. Raises UsageError if its file is missing or damaged."""
        return results.read_phase(os.path.join(self.phase_dir(phase), results.METRICS_FILE))

    def _check_same_config(self, config: str) -> str:
        """The configuration as it goes on standing in `config.gin`. Raises UsageError if the run's is another."""
        try:
            present = files.read_text(self._config)
        except files.UnreadableError as error:
            raise checks.UsageError(
                f"{self._config} cannot be read: {error}. Put back a copy of it, or name another folder."
            ) from error
        changes = bindings.differences(present, config)
        if changes:
            goes_on = f"\n{FURTHER_CLASSES}" if any(line[1:].startswith("Protocol.") for line in changes) else ""
            raise checks.UsageError(
                f"--output_dir = {self.path} holds a run of another configuration. Name another folder, or undo the "
                "difference (- there, + now):\n  " + "\n  ".join(changes) + goes_on
            )
        return bindings.as_begun(present, config)


def _missing_folders(path: str) -> list[str]:
    """The folders that making `path` would make, innermost first."""
    missing = []
    while not os.path.exists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _remove_made(made: list[str], run: str) -> None:
    """Takes back the empty folders that an attempt to open a run has made."""
    with contextlib.suppress(OSError):
        os.remove(os.path.join(run, _LOCK))
    for folder in made:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
