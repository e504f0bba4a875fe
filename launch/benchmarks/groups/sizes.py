"""Multiplications and additions of the networks that groups use, and PyTorch's forms, so that cases can name them."""

from __future__ import annotations

from typing import Any

import inputs
from harness.cases import PYTORCH, Case

LAYOUTS = ("NCHW", "channels_last")


def multiply_adds(blocks: tuple[int, ...]) -> int:
    """Products of a weight and a value that one image of the benchmarks takes on its way forward."""
    # Imported here: the package is at hand in the environment of benchmark.sh, and tests of tables need none of it.
    from mnemonics_tf.models.resnet import ResNet

    return ResNet(tuple(blocks), inputs.WIDTHS).multiply_adds((inputs.IMAGE_SIZE, inputs.IMAGE_SIZE, 3))


def pytorch_forms(work: str, settings: dict[str, Any], compile: bool, **more: Any) -> list[Case]:
    """The work in PyTorch in both orders of images in memory and, where it is to be tried, compiled.

    Args:
      work: `module.function` in in_pytorch/.
      settings: of the function, besides the form.
      compile: whether `torch.compile` is tried, which takes a minute.
      more: further fields of the cases.
    """
    cases = [Case(PYTORCH, f"{PYTORCH}, {layout}", work, {**settings, "layout": layout}, **more) for layout in LAYOUTS]
    if compile:
        form = {**settings, "layout": "channels_last", "compile": True}
        cases.append(Case(PYTORCH, f"{PYTORCH}, channels_last, torch.compile", work, form, first_limit=300.0, **more))
    return cases
