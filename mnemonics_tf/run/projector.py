"""Files of TensorBoard's embedding projector: what a network makes of the exemplars, phase by phase, with thumbnails.

tensorboard/
  projector_config.pbtxt            lists the phases
  projector/phase_003/tensors.tsv   an embedding a row
  projector/phase_003/metadata.tsv  class, the phase that brought it, and which exemplar it is
  projector/phase_003/sprite.png    all thumbnails, row after row
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.pixels import to_uint8
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.run.pictures import enlarged
from mnemonics_tf.system import files, screen

_MOST = 500  # exemplars of a phase
_THUMBNAIL = 32  # pixels
_CONFIG, _FOLDER = "projector_config.pbtxt", "projector"


def chosen(exemplars: LabelledImages) -> LabelledImages:
    """Some of the exemplars, of all classes."""
    return exemplars.take(np.arange(0, len(exemplars), max(1, -(-len(exemplars) // _MOST))))


def write(
    log_dir: str,
    phase: int,
    exemplars: LabelledImages,
    features: np.ndarray,
    names: Sequence[str],
    phase_sizes: Sequence[int],
) -> None:
    """Writes a phase, and lists it with those before it.

    Args:
      log_dir: TensorBoard's folder of the run.
      phase: its index.
      exemplars: n of them, by class index.
      features: their embeddings, `[n, d]`.
      names: of all classes, by index.
      phase_sizes: number of new classes in each phase.
    """
    folder = os.path.join(log_dir, _FOLDER, f"phase_{phase:03d}")
    os.makedirs(folder, exist_ok=True)
    with files.replacing(os.path.join(folder, "tensors.tsv")) as file:
        np.savetxt(file, features, "%.5g", delimiter="\t")
    brought = np.repeat(np.arange(len(phase_sizes)), phase_sizes)
    rows = ["class\tphase\texemplar"]
    rows += [f"{screen.shown(names[label])}\t{brought[label]}\t{row}" for row, label in enumerate(exemplars.labels)]
    files.write_text(os.path.join(folder, "metadata.tsv"), "\n".join([*rows, ""]))
    thumbnails = enlarged(to_uint8(in_memory(exemplars).array), _THUMBNAIL)
    with files.replacing(os.path.join(folder, "sprite.png")) as file:
        Image.fromarray(_sprite(thumbnails)).save(file, "PNG")
    files.write_text(os.path.join(log_dir, _CONFIG), _config(log_dir, phase, thumbnails.shape[1:3]))


def _sprite(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails `[n, h, w, 3]` in a square of squares."""
    side = math.ceil(math.sqrt(len(thumbnails)))
    padded = np.pad(thumbnails, [(0, side * side - len(thumbnails)), (0, 0), (0, 0), (0, 0)])
    height, width = thumbnails.shape[1:3]
    return padded.reshape(side, side, height, width, 3).swapaxes(1, 2).reshape(side * height, side * width, 3)


def _config(log_dir: str, last: int, thumbnail: tuple[int, ...]) -> str:
    """The phases up to the last one, as the projector's list; later ones are of an attempt that was given up."""
    parts = []
    for phase in range(last + 1):
        place = f"{_FOLDER}/phase_{phase:03d}"
        if os.path.isdir(os.path.join(log_dir, place)):
            parts.append(
                f'embeddings {{ tensor_name: "exemplars, phase {phase}" tensor_path: "{place}/tensors.tsv" '
                f'metadata_path: "{place}/metadata.tsv" sprite {{ image_path: "{place}/sprite.png" '
                f"single_image_dim: {thumbnail[1]} single_image_dim: {thumbnail[0]} }} }}"
            )
    return "\n".join([*parts, ""])
