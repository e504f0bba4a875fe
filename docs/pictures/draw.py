"""Draws the pictures of these pages from runs, into the folder of this file.

The runs, from the project's folder (a quarter of an hour on two cores, seed 0):

    bash launch/quickstart.sh                                     # runs/quickstart, and its report
    RUN="python -m mnemonics_tf.main"
    BASE="--gin_file=configs/datasets/digits.gin --gin_file=configs/schedules/digits.gin"
    BASE="$BASE --gin_file=configs/base_method.gin"
    $RUN --gin_file=configs/methods/joint.gin $BASE --output_dir=runs/joint
    $RUN --gin_file=configs/methods/lwf_without_exemplars.gin $BASE --output_dir=runs/nothing_kept \
        --gin_param='BalancedFinetune.enabled = False' --gin_param='ModelLevel.distillation = False' \
        --gin_param='lwf.classification_weight = 1.0'

and the pictures:

    python docs/pictures/draw.py runs/quickstart runs/nothing_kept runs/joint

`memory.png` is of later phases of CIFAR-100 that take hours (the command is in `configs/sweeps/bytes.gin`, with
`--lengths=1,2,4,8,16`), and is drawn by itself:

    python docs/pictures/draw.py runs/bytes

So is `parts.png`, of the runs of `configs/sweeps/parts.gin`:

    python docs/pictures/draw.py runs/parts
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image

from mnemonics_tf.report.page import drawing
from mnemonics_tf.report.page.record import Record, read_record

_HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(_HERE.parents[1] / "launch"))

_PER_CLASS = 2
_SIDE = 40  # pixels of an exemplar in the picture
_GAIN = 6
_PAPER = 255  # white
_COLOURS = 64  # of a file: figures have few, and one byte for each pixel is enough


def _write(picture: Image.Image, name: str) -> None:
    few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(_HERE / name, optimize=True)


def _write_figure(sketch: drawing.Sketch, name: str) -> None:
    buffer = io.BytesIO()
    sketch.figure.savefig(buffer, format="png", dpi=160, transparent=False, facecolor="white")
    _write(Image.open(buffer), name)


def exemplars(run: Record) -> None:
    """Some exemplars of each class: the image that each began as, what was learned of it, and the difference."""
    before, after = [], []
    for phase in range(run.last + 1):
        started, learned = run.exemplars(phase, starting=True), run.exemplars(phase)
        for index in run.classes_of(phase):
            before.extend(started[0][started[1] == index][:_PER_CLASS])
            after.extend(learned[0][learned[1] == index][:_PER_CLASS])
    change = np.array(after, np.float32) - np.array(before, np.float32)
    rows = [np.array(before), np.array(after), np.clip(128 + _GAIN * change, 0, 255).astype(np.uint8)]
    grid = np.concatenate([_row(row) for row in rows])
    _write(Image.fromarray(grid), "exemplars.png")


def _row(images: np.ndarray) -> np.ndarray:
    """Grey images `[n, H, W, 1]` side by side without blur, with some paper around each and more between classes."""
    factor = _SIDE // images.shape[1]
    tiles = images[..., 0].repeat(factor, axis=1).repeat(factor, axis=2)
    framed = [
        np.pad(tile, ((2, 2), (2, 2 + 8 * (place % _PER_CLASS == _PER_CLASS - 1))), constant_values=_PAPER)
        for place, tile in enumerate(tiles)
    ]
    return np.concatenate(framed, axis=1)


def curves(named: dict[str, Record]) -> None:
    """Accuracy after each phase, of the classifier that each run reports."""
    with drawing.sketch(6.4, 2.9) as sketch:
        axes = sketch.figure.subplots()
        for colour, (name, run) in zip(("#3b82c4", "#d9772b", "#2a9d74"), named.items(), strict=True):
            phases = run.results.phases
            accuracies = [phase.accuracy[run.results.primary_classifier] for phase in phases]
            axes.plot([phase.num_classes for phase in phases], accuracies, "o-", color=colour, label=name)
        axes.set(xlabel="classes learned so far", ylabel="test accuracy (%)", ylim=(0, 103))
        axes.set_xticks([phase.num_classes for phase in phases])
        drawing.legend_outside(axes)
        _write_figure(sketch, "curves.png")


def confusions(named: dict[str, Record]) -> None:
    """What the last network of each run takes test images for."""
    with drawing.sketch(6.4, 3.2) as sketch:
        for axes, (name, run) in zip(sketch.figure.subplots(1, 2, sharey=True), named.items(), strict=True):
            counts = run.confusion(run.last)[run.results.primary_classifier].astype(np.float64)
            axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
            axes.grid(False)
            axes.set_xticks(range(len(counts)), run.class_names)
            axes.set_yticks(range(len(counts)), run.class_names)
            axes.set(title=name, xlabel="was taken for")
            axes.axvline(run.results.phase_sizes[0] - 0.5, color=drawing.INK, linewidth=0.8)
            axes.axhline(run.results.phase_sizes[0] - 0.5, color=drawing.INK, linewidth=0.8)
        sketch.figure.axes[0].set_ylabel("shows, in the order of arrival")
        _write_figure(sketch, "confusions.png")


def of_report(run: Record, name: str) -> None:
    """A figure of the run's report, made smaller."""
    picture = Image.open(pathlib.Path(run.folder) / "report" / "figures" / f"{name}.png").convert("RGB")
    picture.thumbnail((1100, 1100), Image.Resampling.LANCZOS)
    _write(picture, f"report_{name}.png")


# Memories of bytes.gin, and what the picture calls them.
_MEMORIES = {
    "raw4": "4 raw images a class",
    "webp75_4": "their bytes by WebP 75",
    "raw20": "20 raw images a class",
    "webp90_20": "their bytes by WebP 90",
}


def memory(folder: str) -> None:
    """Accuracy over the number of steps, of memories raw and coded."""
    from instrument import curves as of_instrument
    from instrument.outcomes import load

    found = [load(path, None) for path in pathlib.Path(folder).glob("*.json")]
    shown = [
        dataclasses.replace(outcome, memory=called)
        for name, called in _MEMORIES.items()
        for outcome in found
        if outcome is not None and outcome.memory == name
    ]
    with tempfile.TemporaryDirectory() as drawn:
        of_instrument.draw(shown, pathlib.Path(drawn))
        _write(Image.open(pathlib.Path(drawn) / f"{of_instrument.NAME}.png"), "memory.png")


# What is added, one after the other, as grids and the picture call it; and the methods.
_STEPS = {
    "without": ("as published", "o"),
    "use": ("memory well used", "s"),
    "coding": ("and coded", "^"),
    "ours": ("and half learned: ours", "D"),
}
# iCaRL's training is LwF's here, and reports the nearest mean.
_METHODS = {"LwF": ("lwf", "cnn"), "iCaRL": ("lwf", "nme"), "BiC": ("bic", "cnn"), "LUCIR": ("lucir", "cnn")}


def parts(folder: str) -> None:
    """Average accuracy and forgetting of each method, from what is published to what is ours."""
    with drawing.sketch(6.4, 3.4) as sketch:
        axes = sketch.figure.subplots()
        for colour, (shown, (method, classifier)) in zip(drawing.COLOURS, _METHODS.items(), strict=False):
            points = [_reached(folder, method, step, classifier) for step in _STEPS]
            forgotten, accuracies = zip(*points, strict=True)
            axes.plot(forgotten, accuracies, "-", color=colour, label=shown)
            for (_, marker), x, y in zip(_STEPS.values(), forgotten, accuracies, strict=True):
                axes.plot(x, y, marker, color=colour)
        for called, marker in _STEPS.values():
            axes.plot([], [], marker, color=drawing.INK, label=called)
        axes.set(xlabel="forgotten of the first 50 classes (points)", ylabel="average accuracy (%)")
        axes.set_xlim(left=0)
        drawing.legend_outside(axes)
        _write_figure(sketch, "parts.png")


def _reached(folder: str, method: str, step: str, classifier: str) -> tuple[float, float]:
    """Forgetting and average accuracy."""
    (path,) = pathlib.Path(folder).glob(f"{method}-{step}-*")
    found = read_record(str(path)).results
    return found.forgetting[classifier], found.average_accuracy[classifier]


def main(folders: list[str]) -> None:
    """Draws what the text above says of so many folders."""
    if len(folders) == 1:
        is_sweep = any(pathlib.Path(*folders).glob("*/results.json"))
        (parts if is_sweep else memory)(*folders)
        return
    quickstart, nothing_kept, joint = map(read_record, folders)
    exemplars(quickstart)
    curves(
        {
            "all images kept\n(joint training)": joint,
            "20 learned exemplars\na class (LUCIR)": quickstart,
            "nothing kept\n(plain training)": nothing_kept,
        }
    )
    confusions({"nothing kept": nothing_kept, "20 learned exemplars a class": quickstart})
    for name in ("old_and_new", "distances_learned", "tsne"):
        of_report(quickstart, name)


if __name__ == "__main__":
    main(sys.argv[1:])
