"""What the gin files of a run say, in a few characters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mnemonics_tf.system import complete, gin_paths
from sweeping.grid import ROOT


def checksum(arguments: Sequence[str]) -> str:
    """Checksum of gin files, of all that they include, and of modules beside them that they import.

    A file that is not there counts as empty.

    Args:
      arguments: the flags of a run, of which those that name gin files count.
    """
    digest = hashlib.sha256()
    for argument in arguments:
        flag, _, name = argument.partition("=")
        if flag == "--gin_file":
            for file in gin_paths.walk(str(ROOT / name), str(ROOT)):
                digest.update(hashlib.sha256(file.text.encode()).digest())
                for module, path in sorted(file.modules.items()):
                    digest.update(f"{module}\n{complete.checksum_or_none(path)}".encode())
    return digest.hexdigest()[:16]
