"""An exported model, read again."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.serving import inspection


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """A SavedModel that a learner or a run has exported.

    Attributes:
      model: what TensorFlow loads; its endpoints are those of `serving.export`.
      class_names: what the columns of its probabilities stand for.
      image_shape: `(H, W, C)` of the images that it takes.
      resized_side: pixels to which the shorter side of images from files is brought before the centre square is cut
        out; None for the side of the square, also for models of earlier versions, which do not tell.
    """

    model: Any
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    resized_side: int | None


def read_exported(folder: str) -> ExportedModel:
    """Reads a SavedModel, which is executed: one that does more than compute is refused.

    Raises:
      UsageError: this package has not exported it, it is damaged, or it reaches out.
    """
    try:
        model = inspection.load(folder)
        told = model.classes()
        names = tuple(name.decode() for name in told["class_names"].numpy().tolist())
        _, height, width, channels = model.signatures["serving_default"].structured_input_signature[1]["images"].shape
        resized_side = int(told["resized_side"]) if "resized_side" in told else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise checks.UsageError(f"MODEL_DIR = {folder}: no model that mnemonics_tf exported ({reason}).") from error
    return ExportedModel(model, names, (height, width, channels), resized_side)
