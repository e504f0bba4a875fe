"""The forms in which a good user would try PyTorch on a CPU: the order of images in memory, and `torch.compile`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from harness.turns import NotHere
from torch import nn

_COMPILERS = (os.environ.get("CXX") or "g++", "clang++")


def memory_format(layout: str) -> torch.memory_format:
    """The format that `NCHW` or `channels_last` names."""
    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def laid_out(network: nn.Module, layout: str) -> nn.Module:
    """The network with its kernels in that order."""
    return network.to(memory_format=memory_format(layout))


def compiled(function: Callable[..., Any], wanted: bool) -> Callable[..., Any]:
    """The function, compiled by `torch.compile` if that is wanted.

    Raises:
      NotHere: there is no C++ compiler, without which it compiles nothing for a CPU.
    """
    if not wanted:
        return function
    if not any(shutil.which(name) for name in _COMPILERS):
        raise NotHere("torch.compile needs a C++ compiler (g++ or clang++), and there is none here")
    return torch.compile(function)
