"""Run folders with everything that a page shows, made without training: names in them are as unfriendly as can be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from run_folders import write_run
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

SIZES = [3, 2, 2]
NAMES = [
    "<script>alert(1)</script>",
    "=1+1",
    "a|b*c_d`e",
    "\\input{x} $y$ 50% #1 & ~^",
    "\"'><img src=x>",
    "żółw",
    "{{ 7*1000003 }}",
]
NUM_KEPT = 4


def write_full_run(folder: Path, num_complete: int | None = None, **options) -> Path:
    """Writes a run of 7 classes in 3 phases whose exemplars were learned; `options` are those of `results_of`."""
    options = {"dataset": "birds & bees", "phase_sizes": SIZES, "settings": {"ExemplarMemory.codec": "raw"}, **options}
    write_run(folder, num_complete=num_complete, **options)
    results = json.loads((folder / "results.json").read_text())
    for phase in results["phases"]:
        phase |= {"num_exemplars": NUM_KEPT * phase["num_classes"], "exemplars_per_class": NUM_KEPT}
        phase |= {"bytes_per_class": 800, "memory_bytes": 5600}
        phase["seconds"] = {"train_model": 61.5, "learn_exemplars": 12.0}
        phase["movement"] = {"learned": {"mean": 0.5 + phase["phase"], "largest": 9.0, "unmoved": 30.0}}
        if phase["phase"]:
            phase["movement"]["adjusted"] = {"mean": 0.0, "largest": 0.0, "unmoved": 100.0}
            phase["notes"] = [f"half of <b>phase {phase['phase']}</b> was left out."]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "data.json").write_text(json.dumps({"class_names": NAMES}))
    writer = _Events(folder / "tensorboard")
    for index in range(len(results["phases"])):
        _write_phase(folder / f"phases/{index:03d}", index)
        for epoch in (1, 2, 3):
            writer.number(f"phase_{index}/train_model/cross_entropy", epoch, 2.0 / epoch)
            writer.number(f"phase_{index}/train_model/learning_rate", epoch, 0.1)
            for part, name in enumerate(("learn_exemplars_chunk1of2", "learn_exemplars_chunk2of2")):
                writer.number(f"phase_{index}/{name}/meta_loss", epoch, 1.0 / epoch + part)
                writer.number(f"phase_{index}/{name}/distance/cosine", epoch, 0.01 * epoch + part)
                writer.number(f"phase_{index}/{name}/distance/euclidean", epoch, 0.5 * epoch)
            for name in ("adjust_exemplars_part1", "adjust_exemplars_part2") if index else ():
                writer.number(f"phase_{index}/{name}/distance/cosine", epoch, 0.001 * epoch)
                writer.number(f"phase_{index}/{name}/distance/euclidean", epoch, 0.05 * epoch)
        writer.number("run/peak_mebibytes/train_model", index, 512.0 + index)
    writer.close()
    return folder


def _write_phase(folder: Path, phase: int) -> None:
    folder.mkdir(parents=True)
    known, generator = sum(SIZES[: phase + 1]), np.random.default_rng(5)
    labels = np.repeat(np.arange(known), NUM_KEPT)
    images = generator.integers(0, 200, (len(labels), 16, 16, 3), np.uint8)
    new = labels >= known - SIZES[phase]
    np.savez(folder / "exemplars.npz", images=images + np.uint8(phase), labels=labels)
    np.savez(folder / "starting_images.npz", images=images[new], labels=labels[new])
    counts = np.full((known, known), 1) + 20 * np.eye(known, dtype=np.int64)
    np.savez(folder / "confusion.npz", class_ids=np.arange(known), cnn=counts, nme=counts)


class _Events:
    """Writes numbers as TensorFlow does, by TensorBoard's own writer of records."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self._file = (folder / "events.out.tfevents.1.phase000").open("wb")
        self._records = RecordWriter(self._file)

    def number(self, tag: str, step: int, value: float) -> None:
        tensor = tensor_util.make_tensor_proto(np.float32(value))
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, tensor=tensor)])
        self._records.write(event_pb2.Event(step=step, summary=summary).SerializeToString())

    def close(self) -> None:
        # A picture, which is passed over, and a record that a killed process has left half written.
        self._records.write(b"x" * 100_000)
        self._file.flush()
        self._file.write(b"\x40\0\0\0\0\0\0\0ab")
        self._file.close()
