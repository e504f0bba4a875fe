"""Archives of arrays: what is read, and what is refused before it is unpacked."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.memory.exemplar_file import load_exemplars, read_exemplars
from mnemonics_tf.system import archives
from mnemonics_tf.system.files import UnreadableError


def test_arrays_are_read(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, numbers=np.arange(3))
    with archives.reading(path) as arrays:
        np.testing.assert_array_equal(arrays["numbers"], [0, 1, 2])
    np.savez_compressed(path, numbers=np.arange(3))
    with archives.reading(path, most=1000) as arrays:
        np.testing.assert_array_equal(arrays["numbers"], [0, 1, 2])


def test_array_that_promises_more_than_there_is_memory_for_is_damage(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)})
    path = tmp_path / "forged.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", header.getvalue())
    with pytest.raises(UsageError, match=r"forged\.npz is damaged: Unable to allocate"):
        read_exemplars(path)


def test_bombs_are_not_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((30, 1000, 1000), np.uint8), labels=np.zeros(30, np.int64))
    assert path.stat().st_size < 100_000
    for most in (None, 1_000_000):
        with pytest.raises(UnreadableError, match=r"compressed|unpacks to 30"), archives.reading(str(path), most):
            pass
    with pytest.raises(UnreadableError, match="compressed"):
        load_exemplars(str(path), np.arange(3))


def test_pickles_are_no_arrays(tmp_path):
    content = io.BytesIO()
    np.save(content, np.array([print]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("labels.npy", content.getvalue())
    with archives.reading(str(tmp_path / "a.npz")) as arrays, pytest.raises(ValueError, match="pickle"):
        arrays["labels"]
