"""The small job that faults are done to: a run's folder by the product's own code, with learning left out.

What a phase "learns" is a function of the exemplars that the phase before it has left in its file, so a phase that goes
on from the wrong state ends with other bytes. It needs no TensorFlow and takes milliseconds.
"""

from __future__ import annotations

import hashlib
import os

from mnemonics_tf.results import METRICS_FILE, PhaseResult, phase_to_text, summarise
from mnemonics_tf.run import data_note
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.recovery import recover

NUM_PHASES = 3
_CONFIG = "Experiment.seed = 1\nModelLevel.epochs = 160\n"
_SIZES = [2, 1, 1]
_CLASSES = {"class_names": ["hen", "owl", "kea", "żółw"], "class_order": [2, 0, 1, 3], "phase_sizes": _SIZES}
_SETUP = {
    **dict.fromkeys(("dataset", "method", "head", "exemplars", "budget", "discard", "weight_transfer"), "none"),
    "adjust_exemplars": False, "balanced_finetune": None, "distillation": True, "seed": 1, "order_seed": None,
    "primary_classifier": "cnn",
}  # fmt: skip


def run(folder: str) -> None:
    """Runs the job, or goes on with it. Raises what a run raises."""
    directory = RunDirectory(folder)
    directory.open(_CONFIG)
    phases = recover(directory, writes=True)
    if data_note.read(directory, _CLASSES, renews=True) is None:
        data_note.write(directory, {**_CLASSES, "pixel_range": {"mean": [0.5], "std": [0.25]}})
    for phase in range(len(phases), NUM_PHASES):
        learned = _learned(directory, phase)
        with directory.writing_phase(phase) as place:
            os.mkdir(os.path.join(place, "checkpoint"))
            for name, content in (("checkpoint/model.weights.h5", learned[:5000]), ("exemplars.npz", learned)):
                with open(os.path.join(place, name), "wb") as file:
                    file.write(content)
            phases.append(_reached(phase, learned))
            with open(os.path.join(place, METRICS_FILE), "w", encoding="utf-8") as file:
                file.write(phase_to_text(phases[-1]))
        directory.write_results(_summary(phases))
    directory.write_results(_summary(phases))


def _learned(directory: RunDirectory, phase: int) -> bytes:
    before = b"nothing"
    if phase:
        with open(os.path.join(directory.phase_dir(phase - 1), "exemplars.npz"), "rb") as file:
            before = file.read()
    return hashlib.shake_256(before + bytes([phase])).digest(20_000)


def _reached(phase: int, learned: bytes) -> PhaseResult:
    accuracy = {"cnn": learned[0] / 255 * 100}
    return PhaseResult(phase, sum(_SIZES[: phase + 1]), accuracy, accuracy, {"cnn": [50.0] * (phase + 1)}, 4, {}, {})


def _summary(phases: list[PhaseResult]):
    return summarise(phases, phase_sizes=_SIZES, class_order=_CLASSES["class_order"], **_SETUP)
