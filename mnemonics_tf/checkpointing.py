"""The run directory: what is written, when it counts as written, and how a run finds its way back in.

    <output_dir>/
      config.gin        the resolved configuration
      results.json      all phases so far
      phases/000/       checkpoint/model.weights.h5  exemplars.npz  metrics.json  saved_model/  COMPLETE
      tensorboard/

A phase is written beside its place and moved there when all its files are on disk, so a killed run never leaves half a
phase. `COMPLETE` holds a checksum of each file.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

from mnemonics_tf import checks

_MARK = "COMPLETE"


class RunDirectory:
    """Reads and writes one run's folder. Creating the object touches nothing on disk.

    Args:
      path: the folder.
    """

    def __init__(self, path: str):
        self.path = os.path.abspath(os.path.expanduser(path))
        self._config = os.path.join(self.path, "config.gin")
        self._results = os.path.join(self.path, "results.json")

    @property
    def tensorboard_dir(self) -> str:
        """Where TensorBoard's files go."""
        return os.path.join(self.path, "tensorboard")

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
        """Creates the folder, or makes sure that it belongs to this configuration.

        Args:
          config: the resolved configuration.

        Raises:
          UsageError: a file is in the way, the folder cannot be written or holds something else, or its run was
            configured otherwise. Nothing is changed then.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise checks.UsageError(f"--output_dir = {self.path}: a file is there; expected a folder or nothing.")
        if os.path.exists(self._config):
            self._check_same_config(config)
        elif os.path.isdir(self.path) and os.listdir(self.path):
            raise checks.UsageError(
                f"--output_dir = {self.path}: the folder is not empty and holds no run (no config.gin). Name another."
            )
        is_new = not os.path.exists(self.path)
        try:
            os.makedirs(self.path, exist_ok=True)
            # Written even if it is there: that shows whether the folder can be written to.
            _write_atomically(self._config, config)
            os.makedirs(os.path.join(self.path, "phases"), exist_ok=True)
        except OSError as error:
            if is_new and os.path.isdir(self.path) and not os.listdir(self.path):
                os.rmdir(self.path)
            raise checks.UsageError(
                f"--output_dir = {self.path}: cannot write there ({error.strerror}). Name a folder you can write to."
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
        with open(os.path.join(folder, _MARK), encoding="utf-8") as file:
            try:
                expected = json.load(file)
            except ValueError:
                expected = {_MARK: ""}
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
        _write_atomically(os.path.join(partial, _MARK), json.dumps(checksums, indent=1, sort_keys=True))
        for path in _files(partial):
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        _flush(os.path.dirname(final))

    def write_results(self, results: dict[str, Any]) -> None:
        """Replaces `results.json` in one step."""
        _write_atomically(self._results, json.dumps(results, indent=1) + "\n")

    def read_metrics(self, phase: int) -> dict[str, Any]:
        """The metrics of a complete phase."""
        with open(os.path.join(self.phase_dir(phase), "metrics.json"), encoding="utf-8") as file:
            return json.load(file)

    def _check_same_config(self, config: str) -> None:
        with open(self._config, encoding="utf-8") as file:
            present = file.read()
        if present == config:
            return
        changes = [
            line
            for line in difflib.unified_diff(present.splitlines(), config.splitlines(), lineterm="", n=0)
            if line[0] in "+-" and not line.startswith(("---", "+++")) and line[1:].strip()
        ]
        raise checks.UsageError(
            f"--output_dir = {self.path} holds a run of another configuration. Name another folder, or undo the "
            "difference (- there, + now):\n  " + "\n  ".join(changes)
        )


def _files(folder: str) -> list[str]:
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _checksum(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: str) -> None:
    """Forces a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_atomically(path: str, text: str) -> None:
    partial = f"{path}.partial"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
