"""What a phase under way has come to, on disk, so that a killed or stopped process loses little of it.

    phases/003.snapshots/               of a run; a learner's are in states/ of its folder
      train_model_steps.npz             the training of the network, while it is trained
      train_model.npz                   the network, once it is trained
      learn_exemplars.npz  ...          optimisations of exemplars, further trainings, long passes over images
      *.aside                           what could not be used

A file holds plain arrays, each with a checksum, and says whose it is (of which run, phase and stage) and how long each
step has taken by then. It is written beside its place, synced, and renamed. The folder goes when the phase is complete:
whoever has named it sees to that.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping

import numpy as np

from mnemonics_tf.system import archives, files, screen

_OWNER = "owner"
_SECONDS = "seconds"


class PhaseSnapshots:
    """The snapshots of one phase.

    Args:
      folder: made when the first is saved.
      writes: whether this process does; of several workers the first one. All of them read.
      owner: tells whose they are; others are not used.
      seconds: tells how long each step has taken so far, in seconds, at the moment; None notes nothing.
    """

    def __init__(
        self,
        folder: str,
        writes: bool,
        owner: Callable[[], str] = str,
        seconds: Callable[[], Mapping[str, float]] | None = None,
    ):
        self._folder, self._writes, self._owner, self._seconds = folder, writes, owner, seconds

    @property
    def folder(self) -> str:
        """Where they are, if there are any."""
        return self._folder

    def __len__(self) -> int:
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        return sum(name.endswith(".npz") for name in names)

    def load(self, stage: str) -> Mapping[str, np.ndarray] | None:
        """What was saved last for a stage; None if nothing was, or it is damaged or another's, which a notice says."""
        path = self._path(stage)
        if not os.path.lexists(path):
            return None
        try:
            state = _read(path)
            owner, _ = str(state.pop(_OWNER)), state.pop(_SECONDS)
        except archives.DAMAGES as error:
            self.set_aside(stage, f"it is damaged ({type(error).__name__})")
            return None
        if owner != self._owner_of(stage):
            self.set_aside(stage, "it is of another run, phase, stage or version")
            return None
        return state

    def save(self, stage: str, state: Mapping[str, np.ndarray]) -> None:
        """Keeps the state of a stage, in one step, in the place of what it had before."""
        if not self._writes:
            return
        seconds = {} if self._seconds is None else dict(self._seconds())
        told = {_OWNER: np.array(self._owner_of(stage)), _SECONDS: np.array(json.dumps(seconds))}
        if not os.path.isdir(self._folder):
            os.makedirs(self._folder, exist_ok=True)
            files.flush(os.path.dirname(self._folder))
        with files.replacing(self._path(stage)) as file:
            np.savez(file, allow_pickle=False, **{**state, **told})

    def remove(self, stage: str) -> None:
        """Removes what is kept of a stage, if there is anything."""
        if self._writes:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._path(stage))

    def set_aside(self, stage: str, reason: str) -> None:
        """Says why what is kept of a stage is not used, and moves it out of the way."""
        path = self._path(stage)
        if not self._writes:
            return
        screen.notice(f"{path} is not used: {reason}. It is set aside as {stage}.npz.aside, and {stage} starts anew.")
        with contextlib.suppress(OSError):
            os.replace(path, f"{path}.aside")

    def seconds(self) -> dict[str, float]:
        """How long each step had taken when the last snapshot was saved; empty if nobody knows."""
        latest: dict[str, float] = {}
        for name in sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else []:
            # What is damaged is named when its turn comes.
            with contextlib.suppress(*archives.DAMAGES):
                path = os.path.join(self._folder, name)
                noted = json.loads(str(_read(path, _SECONDS)[_SECONDS])) if name.endswith(".npz") else {}
                found = {str(step): float(taken) for step, taken in noted.items() if 0 <= taken < float("inf")}
                latest = max(latest, found, key=lambda each: sum(each.values()))
        return latest

    def _owner_of(self, stage: str) -> str:
        return f"{stage} {self._owner()}"

    def _path(self, stage: str) -> str:
        return os.path.join(self._folder, f"{stage}.npz")


def _read(path: str, wanted: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file, or one of them. Each is read to its end, where its checksum is compared."""
    found = {}
    with files.open_plain(path) as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if wanted not in (None, member.filename.removesuffix(".npy")):
                continue
            if member.compress_type != zipfile.ZIP_STORED:  # a few bytes could become many
                raise ValueError("it is compressed, and snapshots are not")
            content = io.BytesIO(archive.read(member))
            found[member.filename.removesuffix(".npy")] = np.lib.format.read_array(content, allow_pickle=False)
    return found
