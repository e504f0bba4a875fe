"""Kinds of file that runs and other folders hold: damages are counted for each of them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

from damages import DAMAGES, swap

_PASSED_OVER = ".lock"  # an empty file
_LOOKED_AT = ("tensorboard", "report")  # by people alone


def files_by_kind(folder: str) -> dict[str, list[str]]:
    """Paths of a folder's files, relative to it, by the kinds that they are of."""
    found: dict[str, list[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(parent, name), folder)
            if not name.endswith(_PASSED_OVER):
                found.setdefault(kind_of(path), []).append(path)
    return {kind: sorted(paths) for kind, paths in sorted(found.items())}


def kind_of(path: str) -> str:
    """What a table calls the files of which one lies at a path in its folder."""
    parts = path.split(os.sep)
    if parts[0] in _LOOKED_AT:
        return f"{parts[0]}/: pictures and curves"
    if any(part.endswith(".partial") for part in parts):
        return "a phase that was being written"
    if parts[0] in ("phases", "states") and len(parts) > 2:
        if ".snapshots" in parts[1] or ".progress" in parts[1]:
            return f"snapshots: {_stage(parts[-1])}"
        return os.path.join(*parts[2:])
    return parts[-1]


def _stage(name: str) -> str:
    """What kind of work a snapshot is of, by the name of its file."""
    kinds = {"features": "passes", "logits": "passes", "exemplars": "exemplars", "train_model.npz": "trained networks"}
    return next((kind for word, kind in kinds.items() if word in name), "trainings" if "steps" in name else "others")


class Damager:
    """Damages files in each way in turn, so that each kind of file has all of them.

    Args:
      draw: decides where.
    """

    def __init__(self, draw: random.Random):
        self._draw = draw
        self._next = 0

    def damage(self, folder: str, name: str, others: Sequence[str]) -> str:
        """Damages a file. Returns in which way.

        Args:
          folder: of the run.
          name: the file's path in it.
          others: paths in the folder of files that may be put in its place.
        """
        path = os.path.join(folder, name)
        for way in self._ways():
            if way is swap:
                done = swap(path, self._draw, [os.path.join(folder, other) for other in others])
            else:
                done = way(path, self._draw)
            if done:
                return way.__name__
        raise RuntimeError(f"{name} cannot be damaged.")

    def _ways(self) -> Iterator:
        for _ in DAMAGES:
            way = DAMAGES[self._next % len(DAMAGES)]
            self._next += 1
            yield way
