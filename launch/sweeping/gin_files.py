"""What the gin files of a run say, in a few characters."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Iterator, Sequence

from sweeping.grid import ROOT

_INCLUDE = re.compile(r"""^[ \t]*include[ \t]+(['"])(.+?)\1""", re.MULTILINE)


def checksum(arguments: Sequence[str]) -> str:
    """Of the contents of gin files and of all that they include; files that are not there count as empty.

    Args:
      arguments: of a run, with its --gin_file flags.
    """
    digest = hashlib.sha256()
    for argument in arguments:
        flag, _, name = argument.partition("=")
        if flag == "--gin_file":
            path = ROOT / name
            for text in _texts(path, (path.parent, ROOT), frozenset()):
                digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:16]


def _texts(path: pathlib.Path, folders: Sequence[pathlib.Path], above: frozenset[pathlib.Path]) -> Iterator[str]:
    """The text of a file and of those that it includes, which are looked for in `folders`, as `main` does it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # `main` will say so
    yield text
    above |= {path}
    for _, name in _INCLUDE.findall(text):
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is not None and found not in above:  # two that include each other would never end
            yield from _texts(found, folders, above)
