"""What the gin files of a run say, in a few characters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mnemonics_tf.system import gin_paths
from sweeping.grid import ROOT


def checksum(arguments: Sequence[str]) -> str:
    """Checksum of gin files and of all that they include; a file that is not there counts as empty.

    Args:
      arguments: the flags of a run, of which those that name gin files count.
    """
    digest = hashlib.sha256()
    for argument in arguments:
        flag, _, name = argument.partition("=")
        if flag == "--gin_file":
            for text in gin_paths.texts(str(ROOT / name), str(ROOT)):
                digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:16]
