"""Steps of the model level: plain, LUCIR's with its teacher and three losses, iCaRL's."""

from __future__ import annotations

import inputs
from harness import limit
from harness.cases import TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Ratio, Results, single, time_ratio
from harness.tables import work_table

from groups.sizes import multiply_adds, pytorch_forms

PLAIN, LUCIR, ICARL = "plain step", "LUCIR's step", "iCaRL's step"
THIS_PROJECT, BARE_KERAS = "this project's loop", "bare Keras loop"
TRANSFER = "this project's loop, weight transfer"

_IMAGES = inputs.TRAINING_STEPS * inputs.TRAINING_BATCH

_NOTE = f"""\
ResNet-32, SGD with momentum and weight decay, batches of {inputs.TRAINING_BATCH} images of {inputs.IMAGE_SIZE} x
{inputs.IMAGE_SIZE}, {inputs.TRAINING_STEPS} steps a turn. The project's loop is the real one, input pipeline and
augmentation included; the others train on one batch that never changes. LUCIR's and iCaRL's steps are those of a phase
with {inputs.NEW_CLASSES} new classes after {inputs.OLD_CLASSES}: the teacher goes forward, the student forward and
back. Weight transfer trains scales, shifts, batch norm and the head on frozen kernels. Counted are the operations of
convolutions: three passes for training, one for the teacher, and two for a student whose kernels are frozen."""


def heats(quick: bool) -> list[Heat]:
    """The three steps, and the machine's limit."""
    rounds = 2 if quick else 3
    lucir = [_ours(THIS_PROJECT, "method_step", 2, 2, method="lucir")]
    lucir += pytorch_forms("training.method_step", {"method": "lucir"}, not quick, **_counted(2, 2))
    lucir.insert(1, _ours(TRANSFER, "method_step", 2, 1, method="lucir", weight_transfer="per_neuron"))
    found = [Heat(LUCIR, rounds, tuple(lucir))]
    if not quick:
        plain = [_ours(THIS_PROJECT, "plain_step", 1, 2)]
        plain.append(Case(TENSORFLOW, BARE_KERAS, "bare_keras.training_step", **_counted(1, 2)))
        plain += pytorch_forms("training.plain_step", {}, False, **_counted(1, 2))
        icarl = [_ours(THIS_PROJECT, "method_step", 2, 2, method="icarl")]
        icarl += pytorch_forms("training.method_step", {"method": "icarl"}, False, **_counted(2, 2))
        found += [Heat(PLAIN, rounds, tuple(plain)), Heat(ICARL, rounds, tuple(icarl))]
    return [*found, Heat("arithmetic limit", rounds, limit.cases())]


def _counted(forward: int, backward: int) -> dict[str, float]:
    operations = limit.network_operations(multiply_adds(inputs.RESNET32), _IMAGES, forward, backward)
    return {"images": _IMAGES, "operations": operations}


def _ours(name: str, work: str, forward: int, backward: int, **settings: str) -> Case:
    return Case(TENSORFLOW, name, f"training.{work}", settings, **_counted(forward, backward))


def watched(results: Results) -> list[Line]:
    """How many times as fast the project's loop is."""

    def faster(title: str, other: str | None, what: str, wanted: str, name: str = THIS_PROJECT) -> Line | None:
        slower = results.fastest(title) if other is None else results.in_heat(title, other)
        ratio = time_ratio(slower, results.in_heat(title, name))
        return ratio and Line(what, ratio, "", wanted)

    rate = limit.rate_of(results)
    lines = [
        faster(LUCIR, None, "images a second, LUCIR's step / PyTorch's best", "at least 1.3"),
        faster(PLAIN, None, "images a second, plain step / PyTorch's best", "at least 1.15"),
        faster(ICARL, None, "images a second, iCaRL's step / PyTorch's best", ""),
        faster(LUCIR, THIS_PROJECT, "images a second, LUCIR's step with weight transfer / without", "at least 1.2",
               TRANSFER),
        faster(PLAIN, BARE_KERAS, "images a second, plain step / bare Keras loop", ""),
    ]  # fmt: skip
    for title, name in ((LUCIR, THIS_PROJECT), (LUCIR, TRANSFER), (PLAIN, THIS_PROJECT), (ICARL, THIS_PROJECT)):
        measured = results.in_heat(title, name)
        share = measured and limit.share_of_limit(measured, rate)
        if share:
            transfer = " with weight transfer" if name == TRANSFER else ""
            lines.append(Line(f"share of the arithmetic limit, {title}{transfer}", _percent(share), " %", ""))
    return [line for line in lines if line]


def _percent(share: float) -> Ratio:
    return single(100 * share)


GROUP = Group("steps", "Model level: training steps", _NOTE, heats, work_table, watched)
