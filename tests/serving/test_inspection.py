"""SavedModels that do more than compute are told before they are loaded."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

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
        (lambda: tf.raw_ops.RecordInput(file_pattern="/etc/passwd"), "RecordInput"),
        (
            lambda: tf.raw_ops.GenerateVocabRemapping(
                new_vocab_file="/etc/passwd", old_vocab_file="/etc/passwd", new_vocab_offset=0, num_new_vocab=1
            ),
            "GenerateVocabRemapping",
        ),
        (lambda: tf.raw_ops.Abort(error_msg="x"), "Abort"),
        (
            lambda: tf.raw_ops.CollectiveGather(
                input=[1.0], group_size=2, group_key=1, instance_key=1, shape=[2], communication_hint="auto"
            ),
            "CollectiveGather",
        ),
    ],
    ids=["write", "read", "branch", "save", "lines", "pipeline", "records", "vocabulary", "abort", "network"],
)
def test_model_that_touches_files_is_told(tmp_path, besides, named):
    assert named in reaching_out(_saved(tmp_path / "model", besides))


class _Posing(_Model):
    """Has a function that is named as TensorFlow names those by which a SavedModel is saved another time."""

    def __init__(self, is_called: bool):
        super().__init__(lambda: self.hidden() if is_called else None)

        def _traced_save():
            tf.io.write_file("/tmp/never", "x")
            return tf.constant(0.0)

        self.hidden = tf.function(_traced_save, input_signature=[])


@pytest.mark.parametrize("is_called", [False, True], ids=["attribute", "called"])
def test_function_under_the_name_of_a_saver_is_told(tmp_path, is_called):
    model = _Posing(is_called)
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=model.serve)
    assert any("_traced_save" in name for name in reaching_out(str(tmp_path / "model")))


def test_model_that_only_its_nodes_call_is_told(tmp_path):
    saved = tmp_path / "model/saved_model.pb"
    tf.saved_model.save(_Posing(is_called=False), str(saved.parent))
    model = saved_model_pb2.SavedModel.FromString(saved.read_bytes())
    model.meta_graphs[0].ClearField("object_graph_def")  # as TensorFlow 1 has written it
    saved.write_bytes(model.SerializeToString())
    assert "WriteFile" in reaching_out(str(saved.parent))


def test_operations_with_a_state_of_their_own_are_harmless(tmp_path):
    def compute():
        values = tf.TensorArray(tf.float32, 2).unstack(tf.random.normal([2])).stack()
        tf.debugging.assert_all_finite(values, "finite")
        return tf.while_loop(lambda x: x < 3.0, lambda x: x + 1.0, [values[0]])

    assert reaching_out(_saved(tmp_path / "model", compute)) == []


@pytest.mark.parametrize("name", ["birds [new]", "birds\\new", "birds*"])
def test_path_that_looks_like_a_pattern_is_a_path(tmp_path, name):
    assert load(_saved(tmp_path / name, lambda: None)).serve(tf.constant(3.0)) == 6


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
