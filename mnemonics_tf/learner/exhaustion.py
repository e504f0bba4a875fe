"""Too little memory for a step of a phase: what to tell the user, in the place of what the allocator says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.system import files

_EXEMPLAR_LEVEL = (
    "ExemplarLevel.images_at_once passes fewer images at a time, ExemplarLevel.classes_per_chunk optimises fewer "
    "classes together, and the engine 'truncated' with a short window keeps fewer steps"
)
_ADVICE = {
    "train_model": "ModelLevel.batch_size makes steps smaller",
    "learn_exemplars": _EXEMPLAR_LEVEL,
    "adjust_exemplars": _EXEMPLAR_LEVEL,
    "finetune_balanced": "BalancedFinetune.batch_size makes steps smaller",
}


@contextlib.contextmanager
def explaining_exhaustion(step: str) -> Iterator[None]:
    """Raises ExhaustedError, with advice, where a step runs out of memory: of the host, or of a device.

    Args:
      step: its name.
    """
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        if files.why_unwritable(error) is not None:  # a full disk is told so, too
            raise
        advice = _ADVICE.get(step)
        raise checks.ExhaustedError(
            f"There is too little memory for {step} ({str(error).partition(chr(10))[0][:100] or 'no more is said'}). "
            "What was learned before is kept: with more memory, the same command goes on."
            + (f" To need less: {advice} (another configuration, so in another folder)." if advice else "")
        ) from error
