"""Making a memory: herding among a phase 0's images, and coding what was chosen."""

from __future__ import annotations

import inputs
from harness import limit
from harness.cases import PYTORCH, TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Results, single, time_ratio
from harness.tables import work_table

from groups.sizes import multiply_adds

_HERDING, _CODING = "herding", "coding"
_OURS, _PASS = "this project's herding", "this project's forward pass alone"
_CODECS = (("webp", 90), ("jpeg", 90))

_NOTE = f"""\
Herding: {inputs.EXEMPLARS_A_CLASS} exemplars of each of {inputs.HERDED_CLASSES} classes, chosen among
{inputs.HERDED_IMAGES:,} images of {inputs.IMAGE_SIZE} x {inputs.IMAGE_SIZE} by ResNet-20; the forward pass alone is
what it cannot do without. Coding: {inputs.CODED_IMAGES:,} such images coded and decoded again by the memory's codec,
beside Pillow's usual way of saving and opening, one image after another."""


def heats(quick: bool) -> list[Heat]:
    """Herding, coding, and the machine's limit."""
    herded = {
        "images": inputs.HERDED_IMAGES,
        "operations": limit.network_operations(multiply_adds(inputs.RESNET20), inputs.HERDED_IMAGES, 1),
    }
    herding = (
        Case(TENSORFLOW, _OURS, "inference.herding", **herded),
        Case(TENSORFLOW, _PASS, "inference.forward_pass", **herded),
        *(
            Case(PYTORCH, f"{PYTORCH}, {layout}", "inference.herding", {"layout": layout}, **herded)
            for layout in (("channels_last",) if quick else ("NCHW", "channels_last"))
        ),
    )
    coded = [
        Case(
            TENSORFLOW, f"{name}, {who}", f"coding.{work}", {"name": name, "quality": quality},
            images=inputs.CODED_IMAGES,
        )
        for name, quality in _CODECS
        for who, work in (("this project", "code"), ("one by one", "code_one_by_one"))
    ]  # fmt: skip
    rounds = 1 if quick else 2
    return [
        Heat(_HERDING, rounds, herding),
        Heat(_CODING, 3, tuple(coded)),
        Heat("arithmetic limit", 3, limit.cases()),
    ]


def watched(results: Results) -> list[Line]:
    """Herding against one forward pass, and coding against Pillow alone."""
    ours = results.in_heat(_HERDING, _OURS)
    lines = [
        ("time of herding / one forward pass", time_ratio(ours, results.in_heat(_HERDING, _PASS)), "under 1.1"),
        ("images a second, herding / PyTorch's best", time_ratio(results.fastest(_HERDING), ours), ""),
    ]
    for name, _ in _CODECS:
        pair = (results.in_heat(_CODING, f"{name}, {who}") for who in ("one by one", "this project"))
        lines.append((f"images a second, coding by {name} / one by one", time_ratio(*pair), ""))
    share = ours and limit.share_of_limit(ours, limit.rate_of(results))
    found = [Line(what, ratio, "", wanted) for what, ratio, wanted in lines if ratio]
    return found + ([Line("share of the arithmetic limit, herding", single(100 * share), " %", "")] if share else [])


GROUP = Group("memory", "Memory: herding and coding", _NOTE, heats, work_table, watched)
