"""The run directory: what is written, when it counts as written, and how a run finds its way back in.

    <output_dir>/
      config.gin        the resolved configuration
      data.json         class names and order, statistics of pixels
      results.json      all phases so far
      skipped.json      images that could not be read, with the reason; only if there are any
      phases/000/       checkpoint/model.weights.h5  exemplars.npz  metrics.json  saved_model/  COMPLETE
      tensorboard/
      .lock             keeps a second process out
      scratch-*         exemplars of a streamed data set while a phase runs

A phase is written beside its place and moved there when all its files are on disk, so a killed run never leaves half a
phase. `COMPLETE` holds a checksum of each file.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Iterator
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.system import files

_CONFIG = "config.gin"
_LOCK = ".lock"
_MARK = "COMPLETE"
_SCRATCH = "scratch-"
# Bindings of what a run is computed on, and of where its data lie: both may be others when it is resumed. Whether the
# data are the same is told by data.json.
_FREE = ("Devices.", "folder.path =", "tfds.data_dir =", "tfds.shards_dir =")


class RunDirectory:
    """Reads and writes one run's folder. Creating the object touches nothing on disk.

    Args:
      path: the folder.
    """

    def __init__(self, path: str):
        self.path = os.path.abspath(os.path.expanduser(path))
        self._config = os.path.join(self.path, _CONFIG)
        self._results = os.path.join(self.path, "results.json")
        self._data = os.path.join(self.path, "data.json")
        self._holds_lock = False

    @property
    def tensorboard_dir(self) -> str:
        """Where TensorBoard's files go."""
        return os.path.join(self.path, "tensorboard")

    @property
    def skipped_file(self) -> str:
        """Where images that could not be read are listed, if there were any."""
        return os.path.join(self.path, "skipped.json")

    @property
    def results_file(self) -> str:
        """Where the results are."""
        return self._results

    def phase_dir(self, phase: int) -> str:
        """The folder of a phase."""
        return os.path.join(self.path, "phases", f"{phase:03d}")

    def saved_model_dir(self, phase: int) -> str:
        """The servable model of a phase."""
        return os.path.join(self.phase_dir(phase), "saved_model")

    def open(self, config: str) -> None:
        """Creates the folder, or makes sure that it belongs to this configuration, and keeps other processes out.

        Args:
          config: the resolved configuration.

        Raises:
          UsageError: a file is in the way, the folder cannot be used or holds something else, its run was configured
            otherwise, or another process is working in it. Nothing is changed then.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise checks.UsageError(f"--output_dir = {self.path}: a file is there; expected a folder or nothing.")
        made = _missing_folders(self.path)
        try:
            if os.path.exists(self._config):
                self._check_same_config(config)
            elif os.path.isdir(self.path) and set(os.listdir(self.path)) - {_LOCK, f"{_CONFIG}.partial"}:
                raise checks.UsageError(
                    f"--output_dir = {self.path}: the folder is not empty and holds no run (no {_CONFIG}). "
                    "Name another."
                )
            os.makedirs(self.path, exist_ok=True)
            self._lock()
            # Written even if it is there: that shows whether the folder can be written to.
            files.write_text(self._config, config)
            os.makedirs(os.path.join(self.path, "phases"), exist_ok=True)
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
        self._check_same_config(config)

    def read_data(self, classes: dict[str, Any]) -> dict[str, Any] | None:
        """What was noted of the data set when the run began; None if nothing is noted yet.

        Args:
          classes: what must not have changed since, such as names and order of classes.

        Raises:
          UsageError: it has changed, or the note is damaged.
        """
        if not os.path.isfile(self._data):
            return None
        try:
            with open(self._data, encoding="utf-8") as file:
                noted = json.load(file)
            changed = [name for name, value in classes.items() if noted[name] != value]
        except (ValueError, KeyError, TypeError) as error:
            raise checks.UsageError(
                f"{self._data} is damaged ({type(error).__name__}). Put back a copy of it, or name another folder."
            ) from error
        if changed:
            raise checks.UsageError(
                f"--output_dir = {self.path}: the run began with other data: {', '.join(changed)} of {self._data} "
                "differ from what the data source has now. Put the data back as they were, or name another folder."
            )
        return noted

    def write_data(self, data: dict[str, Any]) -> None:
        """Notes what `read_data` returns."""
        files.write_text(self._data, json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    def add_skipped(self, skipped: dict[str, str]) -> None:
        """Adds images that could not be read to `skipped.json`: where they are, and the reason."""
        if skipped:
            files.write_text(self.skipped_file, json.dumps(self.read_skipped() | skipped, indent=1))

    def read_skipped(self) -> dict[str, str]:
        """All images of the run that could not be read."""
        if not os.path.isfile(self.skipped_file):
            return {}
        with contextlib.suppress(ValueError, TypeError), open(self.skipped_file, encoding="utf-8") as file:
            return dict(json.load(file))
        return {}

    @contextlib.contextmanager
    def scratch(self, worker: int) -> Iterator[str]:
        """A folder for what one phase of one worker needs on disk; it goes when the phase is over.

        Every worker has one here: the system's own folder for temporary files may be memory.
        """
        folder = os.path.join(self.path, f"{_SCRATCH}{worker}")
        shutil.rmtree(folder, ignore_errors=True)  # what a killed process has left behind
        os.mkdir(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _lock(self) -> None:
        """Holds the folder while this object lives; the system lets go of it even if the process is killed."""
        if self._holds_lock:
            return
        descriptor = os.open(os.path.join(self.path, _LOCK), os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._holds_lock = True
        except BlockingIOError:
            raise checks.UsageError(
                f"--output_dir = {self.path}: another process is working there. Wait for it, or name another folder."
            ) from None
        except OSError as error:
            raise checks.UsageError(
                f"--output_dir = {self.path}: its file system knows no locks ({error.strerror}), which keep a second "
                "process out. Name a folder on another, or have this one mounted with locks (flock)."
            ) from error

    def num_complete_phases(self) -> int:
        """How many phases, from phase 0 on without a gap, are complete."""
        count = 0
        while os.path.isfile(os.path.join(self.phase_dir(count), _MARK)):
            count += 1
        return count

    def verify_phase(self, phase: int) -> None:
        """Compares a complete phase's files with their checksums.

        Raises:
          UsageError: a file is missing or was changed.
        """
        folder = self.phase_dir(phase)
        try:
            with open(os.path.join(folder, _MARK), encoding="utf-8") as file:
                expected = json.load(file)
        except ValueError:
            expected = None
        if not expected or not isinstance(expected, dict):
            expected = {_MARK: None}  # matches nothing
        for name, checksum in expected.items():
            path = os.path.join(folder, name)
            if not os.path.isfile(path) or _checksum(path) != checksum:
                raise checks.UsageError(
                    f"{path} is missing or was damaged since it was written. Delete {folder} and all later phases to "
                    "train them again from the phase before."
                )

    @contextlib.contextmanager
    def writing_phase(self, phase: int) -> Iterator[str]:
        """Hands out a folder to fill; once that is done without an error, it becomes the phase's folder."""
        final = self.phase_dir(phase)
        partial = f"{final}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        yield partial
        checksums = {os.path.relpath(path, partial): _checksum(path) for path in _files(partial)}
        files.write_text(os.path.join(partial, _MARK), json.dumps(checksums, indent=1, sort_keys=True))
        for path in _files(partial):
            files.flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        files.flush(os.path.dirname(final))

    def write_results(self, results: dict[str, Any]) -> None:
        """Replaces `results.json` in one step."""
        files.write_text(self._results, json.dumps(results, indent=1) + "\n")

    def read_metrics(self, phase: int) -> dict[str, Any]:
        """The metrics of a complete phase."""
        with open(os.path.join(self.phase_dir(phase), "metrics.json"), encoding="utf-8") as file:
            return json.load(file)

    def _check_same_config(self, config: str) -> None:
        with open(self._config, encoding="utf-8") as file:
            present = file.read()
        before, now = (_compared(text) for text in (present, config))
        if before == now:
            return
        changes = [
            line
            for line in difflib.unified_diff(before, now, lineterm="", n=0)
            if line[0] in "+-" and not line.startswith(("---", "+++")) and line[1:].strip()
        ]
        raise checks.UsageError(
            f"--output_dir = {self.path} holds a run of another configuration. Name another folder, or undo the "
            "difference (- there, + now):\n  " + "\n  ".join(changes)
        )


def _compared(config: str) -> list[str]:
    """The lines of a configuration that must not change while a run is under way."""
    lines, is_free = [], False
    for line in config.splitlines():
        if line[:1] not in ("", " "):  # what is long goes on in lines that are indented
            is_free = line.startswith(_FREE)
        if not is_free:
            lines.append(line)
    return lines


def _missing_folders(path: str) -> list[str]:
    """The folders that making `path` would make, innermost first."""
    missing = []
    while not os.path.exists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _remove_made(folders: list[str], run: str) -> None:
    """Takes back the empty folders that an attempt to open a run has made."""
    with contextlib.suppress(OSError):
        os.remove(os.path.join(run, _LOCK))
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _files(folder: str) -> list[str]:
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _checksum(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
