"""What a SavedModel would do besides arithmetic. A SavedModel is a program: it may read and write files.

Models that this package exports compute, and nothing else. Before one is loaded that may come from elsewhere, its graph
is looked through for operations that reach out of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from mnemonics_tf.system import files

_MAX_BYTES = 2**29  # of a graph, without its weights
# Parts of the names of operations that touch files, the network, the screen or Python.
_OUTSIDE = re.compile(
    "File|PyFunc|Save|Restore|MergeV2|Print|Dump|Rpc|Remote|Dataset|Iterator|Reader|Lmdb|Debug|Summary"
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
        return tf.saved_model.load(folder)
    except Exception as error:  # of damaged files it raises all kinds, an IndexError among them
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise files.UnreadableError(f"TensorFlow cannot load it: {reason}") from error


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
    found = set()
    for graph in model.meta_graphs:
        found |= {node.op for node in graph.graph_def.node if _reaches_out(node.op)}
        for function in graph.graph_def.library.function:
            if _SAVER.search(function.signature.name):
                continue
            for node in function.node_def:
                called = [name for name in _functions_of(node) if _SAVER.search(name)]
                found |= {name for name in (node.op, *called) if _reaches_out(name) or name in called}
    return sorted(found)


def _reaches_out(operation: str) -> bool:
    return operation not in _HARMLESS and bool(_OUTSIDE.search(operation))


def _functions_of(node: Any) -> Iterator[str]:
    """Names of the functions that a node refers to."""
    yield node.op  # a function may be called by its name
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for each in value.list.func:
            yield each.name
