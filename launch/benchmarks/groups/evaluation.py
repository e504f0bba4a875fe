"""Evaluation: what both classifiers say of test images."""

from __future__ import annotations

import inputs
from harness import limit
from harness.cases import TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Results, single, time_ratio
from harness.tables import work_table

from groups.sizes import multiply_adds, pytorch_forms

_TITLE, _OURS = "evaluation", "this project's evaluation"

_NOTE = f"""\
{inputs.EVALUATED_IMAGES:,} test images of {inputs.IMAGE_SIZE} x {inputs.IMAGE_SIZE} in uint8, batches of
{inputs.EVALUATION_BATCH}, ResNet-32: pixels are normalised, and the head (CNN) and the nearest mean (NME) name a class
for each. PyTorch does the same in inference mode."""


def heats(quick: bool) -> list[Heat]:
    """Evaluation, and the machine's limit."""
    counted = {
        "images": inputs.EVALUATED_IMAGES,
        "operations": limit.network_operations(multiply_adds(inputs.RESNET32), inputs.EVALUATED_IMAGES, 1),
    }
    cases = [Case(TENSORFLOW, _OURS, "inference.evaluate", **counted)]
    cases += pytorch_forms("inference.evaluate", {}, not quick, **counted)
    rounds = 2 if quick else 5
    return [Heat(_TITLE, rounds, tuple(cases)), Heat("arithmetic limit", rounds, limit.cases())]


def watched(results: Results) -> list[Line]:
    """How many times as fast it is, and the share of the limit."""
    ours = results.in_heat(_TITLE, _OURS)
    ratio = time_ratio(results.fastest(_TITLE), ours)
    share = ours and limit.share_of_limit(ours, limit.rate_of(results))
    lines = [ratio and Line("images a second, evaluation / PyTorch's best", ratio, "", "at least 1.3")]
    lines.append(Line("share of the arithmetic limit, evaluation", single(100 * share), " %", "") if share else None)
    return [line for line in lines if line]


GROUP = Group("evaluation", "Evaluation", _NOTE, heats, work_table, watched)
