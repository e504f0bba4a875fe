"""The folder that TensorFlow Serving loads: versions that appear whole, once each, and its list of models."""

from __future__ import annotations

import concurrent.futures
import shutil
from pathlib import Path

import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.serving import versions
from mnemonics_tf.serving.versions import add_versions, identity
from mnemonics_tf.system import locks


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


def test_another_export_of_the_same_weights_is_another_version(tmp_path):
    model, root = _fake(tmp_path / "a", b"a"), tmp_path / "models"
    add_versions(str(root), "birds", _by_identity(model), "/models", copy=True)
    (model / "saved_model.pb").write_bytes(b"graph that does more")
    assert add_versions(str(root), "birds", _by_identity(model), "/models") == [str(root / "birds/2")]
    assert add_versions(str(root), "birds", _by_identity(model), "/models") == []
    # What an earlier release noted of a version says less than its files do.
    (root / "birds/2/assets.extra/identity").write_text("of an earlier release")
    assert add_versions(str(root), "birds", _by_identity(model), "/models") == []


def test_version_of_a_read_only_model_can_be_removed(tmp_path):
    model, root = _fake(tmp_path / "a", b"a"), tmp_path / "models"
    for folder in (model / "variables", model):
        folder.chmod(0o555)
    (added,) = add_versions(str(root), "birds", _by_identity(model), "/models")
    assert all(folder.stat().st_mode & 0o700 == 0o700 for folder in (Path(added), Path(added) / "variables"))


def test_one_export_waits_for_another_to_the_same_folder(tmp_path, capfd):
    model, root = _fake(tmp_path / "a", b"a"), tmp_path / "models"
    root.mkdir()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with locks.hold(str(root / ".lock")):
            export = pool.submit(add_versions, str(root), "birds", _by_identity(model), "/models")
            with pytest.raises(concurrent.futures.TimeoutError):
                export.result(0.5)
            assert list((root / "birds").iterdir()) == []
        assert export.result(30) == [str(root / "birds/1")]
    assert f"Another process is exporting to {root}: waiting for it" in capfd.readouterr().err


def test_file_that_is_there_is_not_written_through(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"another model's")
    with pytest.raises(FileExistsError):
        versions._link_or_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"another model's"


@pytest.mark.parametrize(("out", "name"), [("birds", "model"), (".", "birds")])
def test_learner_is_no_place_for_versions(tmp_path, out, name):
    model = _fake(tmp_path / "a", b"a")
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds/learner.json").write_text("{}")
    with pytest.raises(UsageError, match="itself a model, learner or run"):
        add_versions(str(tmp_path / out), name, _by_identity(model), "/models")
    assert [each.name for each in (tmp_path / "birds").iterdir()] == ["learner.json"]


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
