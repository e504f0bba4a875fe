"""What a PyTorch process tells of itself."""

from __future__ import annotations

import platform

import torch


def about() -> dict[str, str | int]:
    """Versions, and the number of threads."""
    return {"python": platform.python_version(), "pytorch": torch.__version__, "threads": torch.get_num_threads()}
