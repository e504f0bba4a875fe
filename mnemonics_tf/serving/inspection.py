"""What a SavedModel would do besides arithmetic. A SavedModel is a program: it may read and write files.

Models that this package exports compute, and nothing else. Before one is loaded that may come from elsewhere, its graph
is looked through for operations that reach out of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Container, Iterator
from typing import Any

from mnemonics_tf.system import files

_MAX_BYTES = 2**29  # of a graph, without its weights
# Parts of the names of operations that touch files, the network, the screen or Python, or end the process. TensorFlow
# marks many of them, but not all, as having a state.
_OUTSIDE = re.compile(
    "File|PyFunc|Save|Restore|MergeV2|Print|Dump|Rpc|Remote|Dataset|Iterator|Reader|Lmdb|Debug|Summary"
    "|^GenerateVocabRemapping$|^ImmutableConst$|^Abort$"
)
# Operations with a state that stays within the model: variables, branches and loops, checks, chance, tables and lists.
# All others with one (queues, sessions, devices, collectives, whatever is sent or received) are refused.
_STATE_WITHIN = re.compile(
    r"(VarHandleOp|VarIsInitializedOp|VariableShape|ReadVariableOp|Assign(Add|Sub)?VariableOp|DisableCopyOnRead"
    r"|Resource(Gather|Scatter|Apply|SparseApply|StridedSlice)\w*|StatefulPartitionedCall|If|While|Case|Empty|DeepCopy"
    r"|Assert|CheckNumerics(V2)?|Timestamp|TensorArray\w*|Lookup\w*|(Anonymous)?(Mutable)?(Dense)?HashTable\w*"
    r"|Random(Crop|Gamma|Poisson(V2)?|Shuffle|StandardNormal|Uniform|UniformInt)|Stateful(Random|Standard|Truncated|Uniform)\w*"
    r"|StatelessRandomGetAlg|TruncatedNormal|ParameterizedTruncatedNormal|Multinomial|SampleDistortedBoundingBox(V2)?"
    r"|CudnnRNN\w*)"
)
# Pipelines within the graph by which `serve_jpeg` passes over images that cannot be decoded. Others touch files.
_HARMLESS = frozenset(
    f"{name}Dataset" for name in ("Concatenate", "IgnoreErrors", "Map", "Options", "Tensor", "TensorSlice")
) | {"BatchDatasetV2", "DatasetToSingleElement", "ParallelMapDatasetV2"}
# Every SavedModel has these two, for those who save or restore it in another way than loading it.
_SAVER = re.compile(r"_traced_(save|restore)(_\d+)?$")


class ReachingOutError(files.UnreadableError):
    """A SavedModel does more than compute, and is not loaded. The text says so.

    Attributes:
      operations: names of what it does besides.
    """

    def __init__(self, operations: list[str]):
        super().__init__(f"besides computing it does {', '.join(operations)}, and so it is not loaded")
        self.operations = operations


def load(folder: str) -> Any:
    """Loads a SavedModel with TensorFlow, once it has proved to compute and to do nothing else.

    Raises:
      ReachingOutError: it does more.
      UnreadableError: there is no graph, it cannot be read, or TensorFlow cannot load it.
    """
    import tensorflow as tf

    outside = reaching_out(folder)
    if outside:
        raise ReachingOutError(outside)
    try:
        with _without_patterns(folder) as path:
            return tf.saved_model.load(path)
    except Exception as error:  # of damaged files it raises all kinds, an IndexError among them
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise files.UnreadableError(f"TensorFlow cannot load it: {reason}") from error


@contextlib.contextmanager
def _without_patterns(folder: str) -> Iterator[str]:
    """A path of a folder that TensorFlow does not take for a pattern of names, as it does brackets."""
    if not set(folder) & set("[]*?\\"):
        yield folder
        return
    with tempfile.TemporaryDirectory() as aside:
        link = os.path.join(aside, "model")
        os.symlink(os.path.abspath(folder), link)
        yield link


def reaching_out(folder: str) -> list[str]:
    """Names of operations in a SavedModel that do more than compute, in alphabetical order; none in our own.

    Args:
      folder: of the SavedModel. Nothing in it is executed.

    Raises:
      UnreadableError: there is no graph, or it cannot be read.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(files.read_bytes(os.path.join(folder, "saved_model.pb"), _MAX_BYTES))
    except DecodeError as error:
        raise files.UnreadableError("it is no SavedModel") from error
    return sorted(set().union(*(_found(graph, len(model.meta_graphs) == 1) for graph in model.meta_graphs)))


def _found(graph: Any, is_only_one: bool) -> set[str]:
    """Names of what one graph of a SavedModel does besides computing."""
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    savers = {name for name in functions if _SAVER.search(name)}
    if not (is_only_one and graph.HasField("object_graph_def")):
        savers = set()  # what TensorFlow 1 has written is run from its nodes, which may call any function
    found = {node.op for node in graph.graph_def.node if _reaches_out(node.op, functions)}
    # A saver is passed over, as nothing runs it. What has its name and is an attribute of the model, or is called by
    # another function or as its gradient, would be run.
    found |= savers & set(graph.object_graph_def.concrete_functions)
    found |= savers & {gradient.gradient_func for gradient in graph.graph_def.library.gradient}
    for name in functions.keys() - savers:
        for node in functions[name].node_def:
            found |= savers.intersection(_functions_of(node))
            if _reaches_out(node.op, functions):
                found.add(node.op)
    return found


def _reaches_out(operation: str, functions: Container[str]) -> bool:
    """Whether an operation does more than compute; `functions` are those of the graph, which may be called by name."""
    from tensorflow.python.framework import op_def_registry

    if operation in _HARMLESS or operation in functions:
        return False
    known = op_def_registry.get(operation)
    has_state = known is None or known.is_stateful  # TensorFlow will not load an operation that it does not know
    return bool(_OUTSIDE.search(operation) or (has_state and not _STATE_WITHIN.fullmatch(operation)))


def _functions_of(node: Any) -> Iterator[str]:
    """Names of the functions that a node refers to."""
    yield node.op  # a function may be called by its name
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for each in value.list.func:
            yield each.name
