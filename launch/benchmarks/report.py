"""Tables and JSON of what was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import inputs
from cases import BARE_KERAS, PYTORCH, RESNET32_ADJOINT, TENSORFLOW, THIS_PROJECT
from results import Measured, Ratio, Results, memory_ratio, time_ratio

# Relative differences that the two frameworks may have. Gradients in float32 have no such bound, for the reason that
# case_pytorch.same_numbers gives.
FLOAT64_LIMIT = 1e-10
FLOAT32_LOSS_LIMIT = 1e-4

BUSY_NOTE = (
    "PyTorch's threads wait for one another, so it suffers more than TensorFlow from a busy machine: its figures, and "
    "the ratios to them, hold on an idle one only."
)

_GB = 1e9


class Line(NamedTuple):
    """One of the ratios that the project watches.

    Attributes:
      what: is measured.
      ratio: or a time, with a unit.
      unit: behind the number.
      wanted: the bound it should keep, in words; may be empty.
    """

    what: str
    ratio: Ratio
    unit: str
    wanted: str


def watched(results: Results) -> list[Line]:
    """The ratios that the project watches, as far as their cases have numbers."""
    find = results.find
    steps = 16 if find("adjoint", 16) else 4  # the quick check has no more
    adjoint, forward, pytorch = (find(name, steps) for name in ("adjoint", "adjoint_forward", PYTORCH))
    batch_adjoint, batch_pytorch = find("adjoint", steps, "batch"), find(PYTORCH, steps, "batch")
    project = find(THIS_PROJECT)
    lines = [
        (f"time of adjoint / PyTorch, T = {steps}", time_ratio(adjoint, pytorch), "at T = 16 at most 0.8, better 0.6"),
        (f"time of adjoint_forward / PyTorch, T = {steps}", time_ratio(forward, pytorch), ""),
        (f"memory of adjoint / PyTorch, T = {steps}", memory_ratio(adjoint, pytorch), "at T = 16 at most 0.3"),
        (f"time of adjoint / its floor, T = {steps}", adjoint and results.over_floor(adjoint), ""),
        (f"time of adjoint_forward / its floor, T = {steps}", forward and results.over_floor(forward), ""),
        (f"time of adjoint / PyTorch, T = {steps}, batch statistics", time_ratio(batch_adjoint, batch_pytorch), ""),
        (f"memory of adjoint / PyTorch, T = {steps}, batch statistics", memory_ratio(batch_adjoint, batch_pytorch), ""),
        ("memory of adjoint, T = 64 / T = 1", memory_ratio(find("adjoint", 64), find("adjoint", 1)), "at most 1.15"),
        (f"time of adjoint / head, T = {steps}", time_ratio(adjoint, find("head", steps)), "at T = 16 at least 20"),
        ("images a second, project / bare Keras loop", time_ratio(find(BARE_KERAS), project), ""),
        ("images a second, project / PyTorch", time_ratio(find(PYTORCH), project), ""),
    ]
    traced = [
        (f"tracing of adjoint, T = {each}", find("adjoint", each), "the same for every T") for each in (1, 4, 16, 64)
    ]
    traced.append((f"tracing of {RESNET32_ADJOINT}", find(RESNET32_ADJOINT), "under 20 s"))
    seconds = [
        Line(what, Ratio(*[measured.tracing_seconds] * 3), " s", wanted)
        for what, measured, wanted in traced
        if measured
    ]
    return [Line(what, ratio, "", wanted) for what, ratio, wanted in lines if ratio] + seconds


def same_numbers_failures(differences: dict[str, float]) -> list[str]:
    """The comparisons that are out of bounds."""
    return [name for name, value in differences.items() if not value <= (difference_limit(name) or float("inf"))]


def difference_limit(name: str) -> float | None:
    """The bound of a relative difference; None for those that are shown for information."""
    if name.endswith(", float64"):
        return FLOAT64_LIMIT
    return FLOAT32_LOSS_LIMIT if name.startswith("loss") else None


def header(facts: dict[str, str], quick: bool) -> str:
    """How the Markdown file was made, and on what."""
    command = "bash launch/benchmark.sh" + (" --quick" if quick else "")
    return (
        f"# Benchmarks\n\nWritten whole by `{command}`: do not edit. Each case ran in a process of its own, on the "
        f"CPU;\nthe cases of a group took turns.\n\n{table(('', 'this run'), list(facts.items()))}\n\n{BUSY_NOTE}\n\n"
    )


def tables(results: Results, differences: dict[str, float]) -> str:
    """All tables, in Markdown."""
    ratios = [(line.what, _text(line.ratio) + line.unit, line.wanted) for line in watched(results)]
    meta_steps = [_meta_step_row(results, m) for m in results.all if m.group.inner_steps is not None]
    training = [_training_row(m) for m in results.all if m.case.work.endswith("training")]
    compared = [
        (name, f"{value:.1e}", f"at most {limit:.0e}" if (limit := difference_limit(name)) else "")
        for name, value in differences.items()
    ]
    header = ("T", "batch norm", "engine", "seconds", "first call, s", "tracing, s", "peak memory, GB")
    header += ("time / PyTorch", "memory / PyTorch", "time / floor")
    parts = [("## Ratios\n", ("what", "measured", "wanted"), ratios)]
    parts.append((f"## Exemplar level: one meta-step\n\n{_META_STEP_NOTE}\n", header, meta_steps))
    if training:
        columns = ("loop", "images a second", "seconds a step", "first turn, s", "peak memory, GB")
        parts.append((f"## Model level: training steps\n\n{_TRAINING_NOTE}\n", columns, training))
    parts.append(
        (
            f"## Both frameworks compute the same\n\n{_SAME_NOTE}\n",
            ("relative difference", "measured", "wanted"),
            compared,
        )
    )
    return "\n".join(f"{title}\n{table(columns, rows)}\n" for title, columns, rows in parts if rows)


_META_STEP_NOTE = f"""\
ResNet-20 with a cosine head of {inputs.NUM_CLASSES} classes, images of {inputs.IMAGE_SIZE} x {inputs.IMAGE_SIZE},
{inputs.EXEMPLARS} exemplars that are all in each of T inner batches, {inputs.OUTER_BATCH} validation images, float32.
PyTorch unrolls the training (`torch.func.functional_call`, `create_graph=True`). Batch norm: `frozen` statistics
(evaluation mode in PyTorch), or those of each `batch` (training mode). `adjoint`, `adjoint_forward`, `unrolled` and
PyTorch compute the same gradient; the other engines compute less.

Seconds are the median of calls after the first, the fastest and the slowest in brackets. Tracing is what the first call
took longer. Peak memory is that of the whole process, libraries included. Ratios of times are medians over rounds of
taking turns, except where a case ran on its own. The floor is the time of the plain gradients that the work cannot do
without, as measured here at one T: 4 of an inner batch for each inner step of `adjoint`, 3 of `adjoint_forward`, 1 and
another 3 for each step in the window of `truncated`, and one of the validation batch."""

_TRAINING_NOTE = f"""\
ResNet-32, SGD with momentum, batches of {inputs.TRAINING_BATCH}, {inputs.TRAINING_STEPS} steps a turn. The project's
loop is the real one, input pipeline and augmentation included; the other two train on one batch that never changes."""

_SAME_NOTE = f"""\
The same weights and images on both sides: outer loss and gradient with respect to {inputs.CHECKED_EXEMPLARS} exemplars
after {inputs.CHECKED_STEPS} inner steps. In float32 rounding decides which derivatives pass a ReLU whose input is about
zero, so PyTorch differs from itself in float64 by as much; double precision shows that the arithmetic is the same."""


def _meta_step_row(results: Results, measured: Measured) -> tuple[str, ...]:
    group, case = measured.group, measured.case
    start = (str(group.inner_steps), group.batch_norm, case.name)
    if not measured.seconds:
        return (*start, measured.reason or "", *[""] * 6)
    pytorch = results.pytorch(measured)
    return (
        *start,
        _text(_seconds(measured)) + (f"; {measured.reason}" if measured.reason else ""),
        f"{measured.first_seconds:.2f}",
        f"{measured.tracing_seconds:.1f}" if case.framework == TENSORFLOW else "",
        f"{measured.peak_memory / _GB:.2f}",
        _text(time_ratio(measured, pytorch)),
        _text(memory_ratio(measured, pytorch)),
        _text(results.over_floor(measured)),
    )


def _training_row(measured: Measured) -> tuple[str, ...]:
    if not measured.seconds:
        return measured.case.name, measured.reason or "", "", "", ""
    images = inputs.TRAINING_STEPS * inputs.TRAINING_BATCH
    rates = Ratio(images / measured.median, images / max(measured.seconds), images / min(measured.seconds))
    step = measured.median / inputs.TRAINING_STEPS
    memory = f"{measured.peak_memory / _GB:.2f}"
    return measured.case.name, _text(rates), f"{step:.3f}", f"{measured.first_seconds:.1f}", memory


def _seconds(measured: Measured) -> Ratio:
    return Ratio(measured.median, min(measured.seconds), max(measured.seconds))


def _text(ratio: Ratio | None) -> str:
    """`0.68 (0.66 to 0.71)`."""
    if ratio is None:
        return ""
    value, low, high = (f"{number:.{0 if number >= 100 else 2 if number >= 0.1 else 3}f}" for number in ratio)
    return value if low == high else f"{value} ({low} to {high})"


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table whose columns are aligned, so that it can be read as it is."""
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    lines = [columns, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def as_json(results: Results, differences: dict[str, float], machine: dict[str, str]) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "machine": machine,
        "sizes": {
            "exemplars": inputs.EXEMPLARS,
            "validation_batch": inputs.OUTER_BATCH,
            "classes": inputs.NUM_CLASSES,
            "image_size": inputs.IMAGE_SIZE,
            "training_batch": inputs.TRAINING_BATCH,
            "training_steps_a_turn": inputs.TRAINING_STEPS,
        },
        "relative_differences": differences,
        "ratios": [
            {"what": line.what, **line.ratio._asdict(), "unit": line.unit.strip(), "wanted": line.wanted}
            for line in watched(results)
        ],
        "cases": [_case_json(results, measured) for measured in results.all],
    }


def _case_json(results: Results, measured: Measured) -> dict[str, Any]:
    facts = {
        "framework": measured.case.framework,
        "name": measured.case.name,
        "work": measured.case.work,
        "settings": measured.case.settings,
        "repeats_a_turn": measured.case.repeats,
        "group": measured.group.title,
        "first_seconds": measured.first_seconds,
        "seconds": measured.seconds,
        "memory_before_bytes": measured.about.get("peak_memory"),
        "peak_memory_bytes": measured.peak_memory,
        "reason": measured.reason,
    }
    if not measured.seconds:
        return facts
    pytorch = results.pytorch(measured)
    ratios = {
        "time_over_pytorch": time_ratio(measured, pytorch),
        "memory_over_pytorch": memory_ratio(measured, pytorch),
        "time_over_floor": results.over_floor(measured),
    }
    median, low, high = _seconds(measured)
    seconds = {"median": median, "min": low, "max": high, "first_minus_median": measured.tracing_seconds}
    return {**facts, **seconds, **{name: ratio._asdict() for name, ratio in ratios.items() if ratio}}
