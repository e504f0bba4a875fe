"""The folder that TensorFlow Serving loads: versions that appear whole, once each, and its list of models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mnemonics_tf.serving.versions import add_versions, identity


def _fake(folder: Path, weights: bytes) -> Path:
    """What stands for a SavedModel in a test that loads none."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables/variables.index").write_bytes(weights)
    return folder


def _by_identity(*models: Path) -> dict[str, str]:
    return {identity(str(model)): str(model) for model in models}


def test_versions_follow_one_another_and_none_comes_twice(tmp_path):
    first, second, third = (_fake(tmp_path / name, name.encode()) for name in ("a", "b", "c"))
    root = tmp_path / "models"
    added = add_versions(str(root), "birds", _by_identity(first, second), "/models", copy=True)
    assert [Path(each).name for each in added] == ["1", "2"]
    assert not (root / "birds/1/saved_model.pb").samefile(first / "saved_model.pb")
    (root / "birds/7").mkdir()  # someone else's
    (added,) = add_versions(str(root), "birds", _by_identity(first, second, third), "/models")
    assert added == str(root / "birds/8")
    assert (root / "birds/8/variables/variables.index").read_bytes() == b"c"
    shutil.rmtree(first)
    assert add_versions(str(root), "birds", _by_identity(second, third), "/models") == []
    assert (root / "birds/1/saved_model.pb").read_bytes() == b"graph"


def test_list_of_models_is_what_the_server_reads(tmp_path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    root = tmp_path / "models"
    (root / "notes").mkdir(parents=True)
    for name in ("birds", "bees-2"):
        add_versions(str(root), name, _by_identity(_fake(tmp_path / name, name.encode())), '/srv/"models"/')
    text = (root / "models.config").read_text()
    read = text_format.Parse(text, config.ModelServerConfig())
    listed = [(each.name, each.base_path, each.model_platform) for each in read.model_config_list.config]
    assert listed == [(name, f'/srv/"models"/{name}', "tensorflow") for name in ("bees-2", "birds")]
    assert text.startswith("# Written by")
