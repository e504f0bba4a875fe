"""Archives of arrays (`.npz`) that others may have made: a few bytes of a zip file can unpack to any number."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from mnemonics_tf.system import files

# What is raised where files, and what is in them, are not what they should be: by NumPy, by Keras, or by whoever takes
# numbers from there. A number may be infinite, a shape have no entry, a header promise more than there is memory for.
DAMAGES = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def reading(path: str, most: int | None = None) -> Iterator[np.lib.npyio.NpzFile]:
    """Hands out the arrays of an archive, each of which is read when it is asked for; none of them is a pickle.

    Args:
      path: of the file.
      most: bytes that its members may have together once they are unpacked; None if they must not be compressed, as
        most archives are written.

    Raises:
      OSError: it is not there or may not be read.
      UnreadableError: it is no plain file, has more bytes, or is compressed.
      zipfile.BadZipFile: it is no archive.
    """
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with files.open_plain(path) as file:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if most is None and any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise files.UnreadableError("it is compressed, and should not be")
        unpacked = sum(member.file_size for member in members)
        if most is not None and unpacked > most:
            raise files.UnreadableError(f"it unpacks to {unpacked:,} bytes")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
