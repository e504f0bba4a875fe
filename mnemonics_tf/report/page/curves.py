"""The curves of a run, from its files for TensorBoard. Neither TensorFlow nor TensorBoard's server is needed."""

from __future__ import annotations

import glob
import os
import re
import struct
from collections.abc import Iterator

from mnemonics_tf.report.page.blocks import MissingError
from mnemonics_tf.system import files, screen

Curve = dict[int, float]  # values by step

# Records that are longer hold pictures.
_LONGEST = 16384
_CHUNK = re.compile(r"_(?:part\d+|chunk\d+of\d+)")
_STAGE = re.compile(r"phase_(\d+)/([^/]+)/(.+)")


def read_curves(folder: str) -> dict[str, Curve]:
    """All numbers that a run has written for TensorBoard, by tag.

    Args:
      folder: of the run.

    Raises:
      MissingError: it has no such files.
    """
    found: dict[str, Curve] = {}
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "tensorboard", "events.*")))
    if not paths:
        raise MissingError("The run has no files for TensorBoard, in which the curves of its trainings are kept.")
    for path in paths:
        for tag, step, value in _scalars(path):
            found.setdefault(tag, {})[step] = value
    return found


def of_stage(curves: dict[str, Curve], stage: str, name: str) -> dict[int, Curve]:
    """The curve of a number over the epochs of a stage, by phase.

    Where the stage has several parts, or was done in chunks of classes, it is the mean over them.

    Args:
      curves: as `read_curves` returns them.
      stage: such as `learn_exemplars`.
      name: such as `meta_loss`, or `` for the sum of all losses of a training.
    """
    parts: dict[tuple[int, str], Curve] = {}
    for tag, curve in curves.items():
        match = _STAGE.fullmatch(tag)
        if match is None or _CHUNK.sub("", match[2]) != stage or match[3] not in ((name,) if name else _losses(match)):
            continue
        total = parts.setdefault((int(match[1]), match[2]), {})
        for step, value in curve.items():
            total[step] = total.get(step, 0.0) + value
    by_phase: dict[int, list[Curve]] = {}
    for (phase, _), curve in parts.items():
        by_phase.setdefault(phase, []).append(curve)
    return {phase: _mean(each) for phase, each in sorted(by_phase.items())}


def at_phases(curves: dict[str, Curve], prefix: str) -> dict[str, Curve]:
    """Numbers `run/<prefix>/<name>` by name; their steps are phases."""
    start = f"run/{prefix}/"
    return {tag.removeprefix(start): curve for tag, curve in curves.items() if tag.startswith(start)}


def _losses(match: re.Match) -> tuple[str, ...]:
    """The name in the match, if it is that of a loss: trainings write their rates beside them."""
    return () if match[3].endswith("rate") or "/" in match[3] else (match[3],)


def _mean(parts: list[Curve]) -> Curve:
    steps = sorted(set.intersection(*map(set, parts)))
    return {step: sum(part[step] for part in parts) / len(parts) for step in steps}


def _scalars(path: str) -> Iterator[tuple[str, int, float]]:
    """The numbers in a file of events, as far as it can be read: a run that is going on has not finished it."""
    from google.protobuf import message
    from tensorboard.compat.proto import event_pb2

    for record in _records(path):
        try:
            event = event_pb2.Event.FromString(record)
        except message.DecodeError:
            return
        for value in event.summary.value:
            tensor = value.tensor
            if value.WhichOneof("value") == "simple_value":
                yield screen.shown(value.tag), event.step, value.simple_value
            elif tensor.dtype == 1 and not tensor.tensor_shape.dim:  # one float32
                content = tensor.tensor_content
                yield (
                    screen.shown(value.tag),
                    event.step,
                    struct.unpack("<f", content)[0] if len(content) == 4 else sum(tensor.float_val),
                )


def _records(path: str) -> Iterator[bytes]:
    """The records of a TFRecord file but long ones: length, its checksum, content, its checksum."""
    try:
        with files.open_plain(path) as file:
            while len(head := file.read(12)) == 12:
                (length,) = struct.unpack("<Q", head[:8])
                if length > _LONGEST:
                    if length > files.MAX_BYTES:
                        return
                    file.seek(length + 4, os.SEEK_CUR)
                    continue
                content = file.read(length)
                if len(file.read(4)) < 4:
                    return
                yield content
    except (OSError, files.UnreadableError):
        return
