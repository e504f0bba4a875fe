"""Says what images show: `python -m mnemonics_tf.predict MODEL_DIR IMAGE...`.

MODEL_DIR is an exported model, a learner's folder, or the folder of a run, of which the last phase counts. Each image
has a line with the likeliest classes. An image that cannot be read is named, the others are answered, and the exit code
is 2.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import app, flags

from mnemonics_tf import checks
from mnemonics_tf.system import folders, screen, stopping

# TensorFlow takes seconds to import, and --help needs none of it: what uses it is imported once the flags are known.
if TYPE_CHECKING:
    import numpy as np

    # The probability of each class, `[n, num_classes]`, for images `[n, H, W, 3]` uint8.
    Asked = Callable[[np.ndarray], np.ndarray]

_AT_ONCE = 256  # images that are read and answered together
_NOT_THERE = "there is no such file"

_TOP = flags.DEFINE_integer("top", 3, "How many of the likeliest classes are shown of each image.")


def main(argv: list[str]) -> int:
    """Answers for all images that can be read. Returns the exit code."""
    try:
        checks.check_positive_integer(**{"--top": _TOP.value})
        if len(argv) < 3:
            raise checks.UsageError("Expected a model and images: python -m mnemonics_tf.predict MODEL_DIR IMAGE...")
        kind, folder = _kind_of(os.path.abspath(os.path.expanduser(argv[1])))
        with screen.quiet():
            names, side, ask = _learner(folder) if kind == "learner" else _exported(folder)
        return _answer(argv[2:], names, side, ask)
    except Exception as error:
        code, text = screen.explained(error, "".join(argv[1:2]), "give the same command again")
        if code is None or flags.FLAGS["verbosity"].present:
            raise
        print(f"mnemonics_tf: {screen.shown(text)}", file=sys.stderr)
        return code


def _kind_of(folder: str) -> tuple[str, str]:
    """`learner` or `model`, and where that is. Raises UsageError for anything else."""
    if folders.is_learner(folder):
        return "learner", folder
    if folders.is_model(folder):
        return "model", folder
    if folders.is_run(folder):
        from mnemonics_tf.run.directory import RunDirectory

        run = RunDirectory(folder)
        complete = run.num_complete_phases()
        if not complete:
            raise checks.UsageError(f"MODEL_DIR = {folder}: no phase of that run is complete. Start it again first.")
        return "model", run.saved_model_dir(complete - 1)
    what = "no model and no learner is in it" if os.path.isdir(folder) else "there is no such folder"
    raise checks.UsageError(
        f"MODEL_DIR = {folder}: {what}. Expected an exported model, a learner's folder, or a run's."
    )


def _learner(folder: str) -> tuple[Sequence[str], int, Asked]:
    """Names of the classes of a saved learner, the side of its images, and what asks it."""
    from mnemonics_tf.learner.learner import IncrementalLearner

    learner = IncrementalLearner.load(folder)
    return learner.class_names, _side(learner.image_shape), lambda images: learner.predict(images).probabilities


def _exported(folder: str) -> tuple[Sequence[str], int, Asked]:
    """The same of a SavedModel that a learner or a run has exported."""
    import tensorflow as tf

    try:
        model = tf.saved_model.load(folder)
        names = [name.decode() for name in model.classes()["class_names"].numpy().tolist()]
        shape = model.signatures["serving_default"].structured_input_signature[1]["images"].shape
    except (OSError, ValueError, KeyError, AttributeError, TypeError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise checks.UsageError(f"MODEL_DIR = {folder}: no model that mnemonics_tf exported ({reason}).") from error
    return names, _side(tuple(shape[1:])), lambda images: model.serve(tf.constant(images))["probabilities"].numpy()


def _side(image_shape: tuple[int, ...]) -> int:
    """Of the squares that the model takes. Raises UsageError for a model that takes something else."""
    height, width, channels = image_shape
    if height != width or channels != 3:
        raise checks.UsageError(
            f"The model takes images of {height} x {width} with {channels} channels, and image files become squares of "
            "three. Read them yourself, and give arrays to model.serve."
        )
    return height


def _answer(paths: Sequence[str], names: Sequence[str], side: int, ask: Asked) -> int:
    """Prints a line for each image. Returns the exit code."""
    code = 0
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        images, reasons = _read(some, side)
        probabilities = ask(images) if len(images) else images
        position = 0
        for row, path in enumerate(some):
            if row in reasons:
                print(
                    screen.shown(f"mnemonics_tf: {path} cannot be read: {reasons[row]}."), file=sys.stderr, flush=True
                )
                code = screen.USAGE_ERROR
                continue
            likeliest = probabilities[position].argsort()[::-1][: _TOP.value]
            shown = ", ".join(f"{names[index]} {100 * probabilities[position, index]:.1f} %" for index in likeliest)
            print(screen.shown(f"{path}: {shown}"), flush=True)
            position += 1
    return code


def _read(paths: Sequence[str], side: int) -> tuple[np.ndarray, dict[int, str]]:
    """The images that can be read, `[at most n, side, side, 3]` uint8, and the reason for each other one."""
    import numpy as np

    from mnemonics_tf.data.reading import look_through
    from mnemonics_tf.data.stored import StoredImages
    from mnemonics_tf.data.types import LabelledImages

    files = [os.path.expanduser(path) for path in paths]
    reasons = {row: _NOT_THERE for row, file in enumerate(files) if not os.path.lexists(file)}
    reasons |= {row: "it is a folder; give the files in it" for row, file in enumerate(files) if os.path.isdir(file)}
    there = np.array([row for row in range(len(files)) if row not in reasons], np.int64)
    if not len(there):
        return np.zeros((0, side, side, 3), np.uint8), reasons
    stored = LabelledImages(StoredImages.of_files([files[row] for row in there], side), there)
    readable, others = look_through(stored, "reading images", keep=True)
    return readable.array, reasons | {int(there[row]): reason for row, reason in others.items()}


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
