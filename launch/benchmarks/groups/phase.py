"""A whole later phase of CIFAR-100."""

from __future__ import annotations

import inputs
from harness.cases import PYTORCH, TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Results, time_ratio
from harness.tables import work_table

_TITLE, _OURS = "a later phase", "this project's phase"
_IMAGES = inputs.NEW_CLASSES * inputs.IMAGES_A_CLASS + inputs.OLD_CLASSES * inputs.EXEMPLARS_A_CLASS

_NOTE = f"""\
LUCIR with herding, ResNet-20: {inputs.NEW_CLASSES} classes of {inputs.IMAGES_A_CLASS} images come after
{inputs.OLD_CLASSES} classes with {inputs.EXEMPLARS_A_CLASS} exemplars each, and {inputs.TEST_IMAGES_A_CLASS} images of
every class are there to test. The images are made up, as many and as large as CIFAR-100's. A turn is the phase from its
first pass to its last: imprinting, {inputs.PHASE_EPOCHS} epoch over {_IMAGES:,} images (a schedule has more, and then
weighs the training more), herding, and evaluation by both classifiers. The project's side builds and traces its
functions anew in every turn, as it does in every phase; PyTorch has nothing to trace."""


def heats(quick: bool) -> list[Heat]:
    """The phase by this project and in both of PyTorch's orders."""
    layouts = ("channels_last",) if quick else ("NCHW", "channels_last")
    cases = [Case(TENSORFLOW, _OURS, "phases.later_phase")]
    cases += [Case(PYTORCH, f"{PYTORCH}, {layout}", "phase.later_phase", {"layout": layout}) for layout in layouts]
    return [Heat(_TITLE, 1 if quick else 2, tuple(cases))]


def watched(results: Results) -> list[Line]:
    """Seconds over PyTorch's."""
    ratio = time_ratio(results.in_heat(_TITLE, _OURS), results.fastest(_TITLE))
    return [Line("time of a later phase of one epoch / PyTorch's best", ratio, "", "")] if ratio else []


GROUP = Group("phase", "A whole later phase of CIFAR-100", _NOTE, heats, work_table, watched)
