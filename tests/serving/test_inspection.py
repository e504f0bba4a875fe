"""SavedModels that do more than compute are told before they are loaded."""

from __future__ import annotations

import pytest
import tensorflow as tf

from mnemonics_tf.serving.inspection import load, reaching_out
from mnemonics_tf.system.files import UnreadableError


class _Model(tf.Module):
    """Doubles its input, and perhaps does something else as well."""

    def __init__(self, besides):
        super().__init__()
        self.factor, self._besides = tf.Variable(2.0), besides

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def serve(self, number):
        self._besides()
        return number * self.factor


def _saved(folder, besides) -> str:
    tf.saved_model.save(_Model(besides), str(folder))
    return str(folder)


def test_model_that_computes_is_harmless(tmp_path):
    assert reaching_out(_saved(tmp_path / "model", lambda: None)) == []


@pytest.mark.parametrize(
    ("besides", "named"),
    [
        (lambda: tf.io.write_file("/tmp/never", "x"), "WriteFile"),
        (lambda: tf.io.read_file("/etc/passwd"), "ReadFile"),
        (
            lambda: tf.cond(tf.timestamp() < 0, lambda: tf.io.write_file("/tmp/never", "x"), tf.no_op),
            "WriteFile",
        ),
        (lambda: tf.raw_ops.SaveV2(prefix="x", tensor_names=["a"], shape_and_slices=[""], tensors=[1.0]), "SaveV2"),
        (lambda: tf.data.TextLineDataset("/etc/passwd").take(1).get_single_element(), "TextLineDataset"),
        (
            lambda: tf.data.Dataset.from_tensors("x").map(lambda x: [x, tf.io.read_file(x)][1]).get_single_element(),
            "ReadFile",
        ),
    ],
    ids=["write", "read", "hidden in a branch", "save", "lines", "hidden in a pipeline"],
)
def test_model_that_touches_files_is_told(tmp_path, besides, named):
    assert named in reaching_out(_saved(tmp_path / "model", besides))


def test_what_is_no_model_is_unreadable(tmp_path):
    with pytest.raises(UnreadableError):
        reaching_out(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(UnreadableError, match="no SavedModel"):
        reaching_out(str(tmp_path))


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_model_whose_weights_are_cut_off_or_lost_is_unreadable(tmp_path, name):
    folder = _saved(tmp_path / "model", lambda: None)
    assert load(folder).serve(tf.constant(3.0)) == 6
    path = tmp_path / "model/variables" / name
    content = path.read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 10, 0):
        path.write_bytes(content[:kept])
        with pytest.raises(UnreadableError, match="TensorFlow cannot load it: "):
            load(folder)
    path.unlink()
    with pytest.raises(UnreadableError, match="TensorFlow cannot load it: "):
        load(folder)
