"""Files: what is read, how they are replaced, and what is said of disks that are full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.system import files


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device"),
        (OSError(errno.EDQUOT, "x"), "Disk quota exceeded"),
        (OSError(errno.EFBIG, "x"), "File too large"),
        (OSError(errno.EROFS, "x"), "Read-only file system"),
        (OSError(errno.EACCES, "No space left on device"), None),
        (ValueError("x"), None),
        (tf.errors.ResourceExhaustedError(None, None, "a/b; No space left on device"), "No space left on device"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), None),
    ],
)
def test_reason_why_nothing_can_be_written(error, expected):
    assert files.why_unwritable(error) == expected


def test_path_that_is_no_utf8_is_refused_from_the_root_on(tmp_path, monkeypatch):
    files.check_path("--output_dir", "żółw")
    strange = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    with pytest.raises(UsageError, match=r"--output_dir = b'/.*caf.xe9': expected a path in UTF-8"):
        files.check_path("--output_dir", strange)
    os.mkdir(strange)
    monkeypatch.chdir(strange)
    with pytest.raises(UsageError, match="--output_dir = b'run': expected a path in UTF-8"):
        files.check_path("--output_dir", "run")


def test_link_in_the_place_of_a_file_is_replaced(tmp_path):
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "file").symlink_to(tmp_path / "precious")
    (tmp_path / "file.partial").symlink_to(tmp_path / "precious")
    files.write_text(str(tmp_path / "file"), "new")
    assert (tmp_path / "precious").read_text() == "keep"
    assert (tmp_path / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["file", "precious"]


def test_systems_without_some_error_numbers_are_served():
    # macOS has no EREMOTEIO.
    script = (
        "import errno; del errno.EREMOTEIO; from mnemonics_tf.system import files; "
        "print(files.why_failing(OSError(5, '')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == (f"{os.strerror(5)}\n", "")
