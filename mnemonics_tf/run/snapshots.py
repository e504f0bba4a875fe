"""What a phase under way has come to, on disk, so that a killed run loses little of it.

    phases/003.snapshots/
      train_model.npz                   the network, once it is trained
      learn_exemplars.npz  ...          pixels (and what else is learned) of each optimisation, after its last epoch

All that a step draws is a function of the seed, the phase and the step, so what goes on from here ends with the bits
that it would have ended with. The folder goes when the phase is complete.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from mnemonics_tf.system import files, screen

_DAMAGES = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class PhaseSnapshots:
    """The snapshots of one phase.

    Args:
      folder: made when the first is saved.
      writes: whether this process does; of several workers the first one. All of them read.
    """

    def __init__(self, folder: str, writes: bool):
        self._folder, self._writes = folder, writes

    def __len__(self) -> int:
        return len(os.listdir(self._folder)) if os.path.isdir(self._folder) else 0

    def load(self, stage: str) -> Mapping[str, np.ndarray] | None:
        """What was saved last for a stage; None if nothing was, or it cannot be read."""
        path = self._path(stage)
        if not os.path.lexists(path):
            return None
        try:
            # Each member of the archive has a checksum, which is compared as it is read.
            with files.open_plain(path) as file, np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except _DAMAGES as error:
            screen.notice(f"{path} is damaged ({type(error).__name__}): {stage} starts anew.")
            return None

    def save(self, stage: str, state: Mapping[str, np.ndarray]) -> None:
        """Keeps the state of a stage, in one step, in the place of what it had before."""
        if not self._writes:
            return
        os.makedirs(self._folder, exist_ok=True)
        with files.replacing(self._path(stage)) as file:
            np.savez(file, allow_pickle=False, **dict(state))

    def _path(self, stage: str) -> str:
        return os.path.join(self._folder, f"{stage}.npz")
