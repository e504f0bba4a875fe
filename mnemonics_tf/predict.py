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
from mnemonics_tf.run.models import model_of
from mnemonics_tf.system import files, gin_flags, lazy, screen, stopping

# TensorFlow takes seconds to import, and --help needs none of it: what uses it is imported once the flags are known.
if TYPE_CHECKING:
    import numpy as np

    # The probability of each class, `[n, num_classes]`, for images `[n, H, W, 3]` uint8.
    Asked = Callable[[np.ndarray], np.ndarray]

# The side of the squares that the model takes, and the one that the shorter side of images is brought to before; None
# for the same.
_Reading = tuple[int, int | None]

_AT_ONCE, _VALUES = 256, 2**20  # images that are read and answered together, and pixels of them
_NOT_THERE = "there is no such file"

_TOP = flags.DEFINE_integer("top", 3, "How many of the likeliest classes are shown of each image.")
flags.adopt_module_key_flags(gin_flags)


def main(argv: list[str]) -> int:
    """Answers for all images that can be read. Returns the exit code."""
    try:
        checks.check_positive_integer(**{"--top": _TOP.value})
        if len(argv) < 3:
            raise checks.UsageError("Expected a model and images: python -m mnemonics_tf.predict MODEL_DIR IMAGE...")
        files.check_given(MODEL_DIR=argv[1])
        kind, folder = model_of(argv[1])
        with screen.quiet():
            lazy.import_quickly()
            names, reading, ask = _learner(folder) if kind == "learner" else _exported(folder)
        return _answer(argv[2:], names, reading, ask)
    except Exception as error:
        return screen.exit_code(error, "".join(argv[1:2]), "give the same command again")


def _learner(folder: str) -> tuple[Sequence[str], _Reading, Asked]:
    """Names of the classes of a saved learner, how its images are read, and what asks it."""
    from mnemonics_tf import methods
    from mnemonics_tf.learner.learner import IncrementalLearner

    learner = IncrementalLearner.load(folder, method=methods.defined_in(gin_flags.GIN_IMPORT.value))
    reading = _reading(learner.image_shape, learner.resized_side)
    return learner.class_names, reading, lambda images: learner.predict(images).probabilities


def _exported(folder: str) -> tuple[Sequence[str], _Reading, Asked]:
    """The same of a SavedModel that a learner or a run has exported."""
    import tensorflow as tf

    from mnemonics_tf.serving.exported import read_exported

    read = read_exported(folder)
    reading = _reading(read.image_shape, read.resized_side)
    return read.class_names, reading, lambda images: read.model.serve(tf.constant(images))["probabilities"].numpy()


def _reading(image_shape: tuple[int, ...], resized_side: int | None) -> _Reading:
    """How images become the squares that the model takes. Raises UsageError for a model that takes something else."""
    height, width, channels = image_shape
    if height != width or channels != 3:
        raise checks.UsageError(
            f"The model takes images of {height} x {width} with {channels} channels, and image files become squares of "
            "three. Read them yourself, and give arrays to model.serve."
        )
    return height, resized_side


def _answer(paths: Sequence[str], names: Sequence[str], reading: _Reading, ask: Asked) -> int:
    """Prints a line for each image. Returns the exit code."""
    code = 0
    at_once = min(max(_VALUES // reading[0] ** 2, 1), _AT_ONCE)  # a network takes many times the memory of its images
    for start in range(0, len(paths), at_once):
        some = paths[start : start + at_once]
        images, reasons = _read(some, reading)
        probabilities = ask(images) if len(images) else images
        position = 0
        for row, path in enumerate(some):
            if row in reasons:
                print(
                    screen.shown(f"mnemonics_tf: {path} cannot be read: {reasons[row]}."), file=sys.stderr, flush=True
                )
                code = screen.USAGE_ERROR
                continue
            # Of equal ones the first, as a model's own answers have it.
            likeliest = (-probabilities[position]).argsort(kind="stable")[: _TOP.value]
            shown = ", ".join(f"{names[index]} {100 * probabilities[position, index]:.1f} %" for index in likeliest)
            screen.say(screen.shown(f"{path}: {shown}"))
            position += 1
    return code


def _read(paths: Sequence[str], reading: _Reading) -> tuple[np.ndarray, dict[int, str]]:
    """The images that can be read, `[at most n, side, side, 3]` uint8, and the reason for each other one."""
    import numpy as np

    from mnemonics_tf.data.reading import look_through
    from mnemonics_tf.data.stored import StoredImages
    from mnemonics_tf.data.types import LabelledImages

    files, (side, _) = [os.path.expanduser(path) for path in paths], reading
    reasons = {row: _NOT_THERE for row, file in enumerate(files) if not os.path.lexists(file)}
    reasons |= {row: "it is a folder; give the files in it" for row, file in enumerate(files) if os.path.isdir(file)}
    there = np.array([row for row in range(len(files)) if row not in reasons], np.int64)
    if not len(there):
        return np.zeros((0, side, side, 3), np.uint8), reasons
    stored = LabelledImages(StoredImages.of_files([files[row] for row in there], *reading), there)
    readable, others = look_through(stored, "reading images", keep=True)
    return readable.array, reasons | {int(there[row]): reason for row, reason in others.items()}


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
