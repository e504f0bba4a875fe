"""A SavedModel that cannot be replaced stays what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.serving.replacing import replacing_export
from mnemonics_tf.system import stopping


def test_model_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    place, replace = tmp_path / "model", os.replace
    place.mkdir()
    (place / "saved_model.pb").write_text("old")

    def replace_or_fail(source, target):
        assert not any(each.startswith(str(tmp_path)) for each in stopping._temporary)  # a signal would remove both
        if str(source).endswith("new"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_fail)
    with pytest.raises(UsageError, match="No space left on device"), replacing_export(str(place)) as partial:
        Path(partial).mkdir()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [place / "saved_model.pb"]
    assert (place / "saved_model.pb").read_text() == "old"
