"""The machine's limit, as PyTorch reaches it."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import torch
from harness.turns import Turns


def multiply(start: Callable[[], Turns]) -> None:
    """Several products of two large matrices a turn."""
    side = inputs.MATRIX_SIDE
    one, other = torch.randn(side, side), torch.randn(side, side)

    def work() -> None:
        for _ in range(inputs.MATRIX_REPEATS):
            torch.mm(one, other)

    start().serve(work)
