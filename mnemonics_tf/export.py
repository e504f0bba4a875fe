"""Brings a model to where it is used: `python -m mnemonics_tf.export MODEL_DIR OUT --format=...`.

MODEL_DIR is an exported model, a learner's folder, or the folder of a run.

--format=serving      OUT becomes a folder for TensorFlow Serving: OUT/NAME/1, 2, ... and OUT/models.config. Each call
                      adds a version; of a run, one for each phase. NAME is --name, or that of MODEL_DIR's folder.
--format=tflite       OUT is a file of TensorFlow Lite, in float32.
--format=tflite_int8  The same in 8 bits, measured by the exemplars of the learner or run.
--format=onnx         OUT is a file of ONNX, in float32; pip install 'mnemonics_tf[export]' has what it needs.

A converted model is run beside the one it was made of, and the difference told.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import app, flags

from mnemonics_tf import checks
from mnemonics_tf.run import intact
from mnemonics_tf.run.models import model_of, models_of_run
from mnemonics_tf.system import files, folders, gin_flags, screen, stopping

# TensorFlow takes seconds to import, and --help needs none of it: what uses it is imported once the flags are known.
if TYPE_CHECKING:
    import numpy as np

    from mnemonics_tf.serving.conversion import Conversion

_SERVING = "serving"
_SUFFIXES = {"tflite": ".tflite", "tflite_int8": ".tflite", "onnx": ".onnx"}
_EXEMPLARS = "exemplars.npz"  # beside the model of a run's phase
_MOST_IMAGES = 200  # to measure and compare by
_NUM_DRAWN = 16  # where there are no exemplars

_FORMAT = flags.DEFINE_enum("format", _SERVING, [_SERVING, *_SUFFIXES], "What is made: see above.")
_NAME = flags.DEFINE_string("name", None, "Name of the model, for serving. Default: that of MODEL_DIR's folder.")
_BASE_PATH = flags.DEFINE_string("base_path", "/models", "Where TensorFlow Serving will see OUT.")
_COPY = flags.DEFINE_bool("copy", False, "Copy files, for serving. Default: hard links, where they can be made.")
flags.adopt_module_key_flags(gin_flags)


def main(argv: list[str]) -> int:
    """Exports, and tells what came of it. Returns the exit code."""
    try:
        if len(argv) != 3:
            raise checks.UsageError(
                "Expected a model and where it is to go: python -m mnemonics_tf.export MODEL_DIR OUT --format=..."
            )
        given = [name for name in ("name", "base_path", "copy") if flags.FLAGS[name].present]
        if _FORMAT.value != _SERVING and given:
            raise checks.UsageError(f"--{given[0]} is for --format=serving, not for {_FORMAT.value}. Leave it out.")
        files.check_given(MODEL_DIR=argv[1], OUT=argv[2])
        files.check_path("OUT", argv[2])
        source, out = (os.path.abspath(os.path.expanduser(path)) for path in argv[1:])
        lines = _add_versions(source, out) if _FORMAT.value == _SERVING else _convert(source, out)
        for line in lines:
            screen.say(screen.shown(line))
    except Exception as error:
        return screen.exit_code(error, argv[-1], "give the same command again")
    return 0


def _add_versions(source: str, out: str) -> list[str]:
    """Makes versions for TensorFlow Serving. Returns what to tell of it."""
    from mnemonics_tf.serving import versions

    name = os.path.basename(source) if _NAME.value is None else _NAME.value
    versions.check_name(name)
    with contextlib.ExitStack() as stack:
        if folders.is_learner(source):
            stack.enter_context(screen.quiet())  # TensorFlow's libraries talk
            models = {_state_of(source): stack.enter_context(_saved_model(source))[0]}
        else:
            found = models_of_run(source) if folders.is_run(source) else [model_of(source)[1]]
            for model in found:
                intact.check_model(model)
            models = {versions.identity(model): model for model in found}
        added = versions.add_versions(out, name, models, _BASE_PATH.value, _COPY.value)
    told = [f"version     {folder}" for folder in added]
    return [*(told or [f"Nothing is new: {name} has these versions already."]), f"models      {out}/{versions.CONFIG}"]


def _state_of(learner: str) -> str:
    try:
        return folders.state_of_learner(learner)
    except files.UnreadableError as error:
        card = os.path.join(learner, folders.LEARNER_FILE)
        raise checks.UsageError(f"{card} is damaged: {error}. Put back a copy of the learner's folder.") from error


def _convert(source: str, out: str) -> list[str]:
    """Writes a model in another form. Returns what to tell of it."""
    kind = _FORMAT.value
    suffix = _SUFFIXES[kind]
    if not out.endswith(suffix) or os.path.isdir(out):
        raise checks.UsageError(f"OUT = {out}: --format={kind} makes a file; expected a name that ends in {suffix}.")
    with screen.quiet():  # converters talk
        made = _made(source, kind)
    if isinstance(made, checks.UsageError):
        raise made
    conversion, what = made
    try:
        os.makedirs(os.path.dirname(out), exist_ok=True)
        with files.replacing(out) as file:
            file.write(conversion.content)
    except OSError as error:
        raise checks.UsageError(f"OUT = {out} cannot be written ({error.strerror or error}). Name another.") from error
    return [
        f"written     {out} ({len(conversion.content):,} bytes)",
        f"compared    on {conversion.num_images} {what}: probabilities differ by {conversion.largest_difference:.1g} "
        f"at most, the likeliest class is the same of {100 * conversion.same_class:.0f} %",
    ]


def _made(source: str, kind: str) -> tuple[Conversion, str] | checks.UsageError:
    """A model in another form and what it was compared on; or the reason why there is none, which is one line alone."""
    try:
        with _saved_model(source) as (model, exemplars):
            from mnemonics_tf.serving.conversion import convert
            from mnemonics_tf.serving.exported import read_exported

            if exemplars is None and kind == "tflite_int8":
                raise checks.UsageError(
                    f"--format = {kind} measures by exemplars how far activations reach, and there are none with "
                    f"{source}. Give the folder of a learner or run that keeps some, or take --format=tflite."
                )
            read = read_exported(model)
            if exemplars is None:
                return convert(read, kind, _drawn(read.image_shape)), "images of noise"
            return convert(read, kind, exemplars), "exemplars"
    except checks.UsageError as error:
        return error


@contextlib.contextmanager
def _saved_model(source: str) -> Iterator[tuple[str, np.ndarray | None]]:
    """The SavedModel that stands for a folder, and exemplars `[n, H, W, C]` uint8 if there are some with it.

    A learner's is exported anew, for as long as it is used.
    """
    kind, folder = model_of(source)
    if kind == "model":
        path = os.path.join(os.path.dirname(folder), _EXEMPLARS)
        yield folder, _spread(_read_exemplars(path)) if os.path.isfile(path) else None
        return
    from mnemonics_tf import methods
    from mnemonics_tf.learner.learner import IncrementalLearner

    learner = IncrementalLearner.load(folder, method=methods.defined_in(gin_flags.GIN_IMPORT.value))
    with tempfile.TemporaryDirectory() as aside:
        stopping.remove_when_stopped(aside)
        model = os.path.join(aside, "model")
        learner.export(model)
        yield model, _spread(learner.memory.images)
        stopping.keep_when_stopped(aside)


def _read_exemplars(path: str) -> np.ndarray:
    from mnemonics_tf.memory.exemplar_file import read_exemplars

    return read_exemplars(path).images


def _spread(images: np.ndarray) -> np.ndarray | None:
    """Some of the images, of all classes, as uint8; None if there are none."""
    from mnemonics_tf.data.pixels import to_uint8

    step = max(1, -(-len(images) // _MOST_IMAGES))
    return to_uint8(images[::step]) if len(images) else None


def _drawn(image_shape: tuple[int, int, int]) -> np.ndarray:
    """Images of noise `[n, H, W, C]`."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (_NUM_DRAWN, *image_shape), np.uint8)


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
