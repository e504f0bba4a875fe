"""Too little memory: what is told, and what is not mistaken for it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import ExhaustedError
from mnemonics_tf.learner.exhaustion import explaining_exhaustion


def _run_out(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9,9]\nHint: more lines"),
    ],
    ids=["Python", "NumPy", "TensorFlow"],
)
def test_advice_is_that_of_the_step(error):
    with (
        pytest.raises(ExhaustedError, match=r"images_at_once.*classes_per_chunk") as raised,
        explaining_exhaustion("learn_exemplars"),
    ):
        _run_out(error)
    assert str(raised.value).startswith("There is too little memory for learn_exemplars (")
    assert "\n" not in str(raised.value)
    with pytest.raises(ExhaustedError, match=r"ModelLevel\.batch_size"), explaining_exhaustion("train_model"):
        _run_out(error)
    with pytest.raises(ExhaustedError, match=r"the same command goes on\.$"), explaining_exhaustion("evaluate"):
        _run_out(error)


def test_full_disk_and_other_errors_are_left_as_they_are():
    full = tf.errors.ResourceExhaustedError(None, None, "a/b; No space left on device")
    for error in (full, ValueError("x")):
        with pytest.raises(type(error)) as raised, explaining_exhaustion("learn_exemplars"):
            _run_out(error)
        assert raised.value is error
