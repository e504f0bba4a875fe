"""One meta-step of the exemplar level, by several engines and by PyTorch."""

from __future__ import annotations

from typing import Any

import inputs
from harness.cases import MINUTE, PYTORCH, TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Measured, Ratio, Results, memory_ratio, of_rounds, single, time_ratio
from harness.tables import gigabytes, text

RESNET32_ADJOINT = "adjoint, ResNet-32, T = 1"
_META_STEP, _GRADIENT = "exemplar_level.meta_step", "exemplar_level.gradient"

_NOTE = f"""\
ResNet-20 with a cosine head of {inputs.NUM_CLASSES} classes, images of {inputs.IMAGE_SIZE} x {inputs.IMAGE_SIZE},
{inputs.EXEMPLARS} exemplars that are all in each of T inner batches, {inputs.OUTER_BATCH} validation images, float32.
PyTorch unrolls the training (`torch.func.functional_call`, `create_graph=True`). Batch norm: `frozen` statistics
(evaluation mode in PyTorch), or those of each `batch` (training mode). `adjoint`, `adjoint_forward`, `unrolled` and
PyTorch compute the same gradient; the other engines compute less.

Tracing is what the first call took longer. Ratios of times are medians over rounds of taking turns, except where a case
ran on its own. The floor is the time of the plain gradients that the work cannot do without, as measured here at one T:
4 of an inner batch for each inner step of `adjoint` and `adjoint_forward`, 1 and another 3 for each step in the
window of `truncated`, and one of the validation batch."""

_COLUMNS = ("T", "batch norm", "engine", "seconds", "first call, s", "tracing, s", "peak memory, GB")
_COLUMNS += ("time / PyTorch", "memory / PyTorch", "time / floor")


def heats(quick: bool) -> list[Heat]:
    """All T, or two of them by fewer engines."""
    if quick:
        return [
            meta_steps(1, rounds=2, engines=("adjoint", "head", "prototype")),
            meta_steps(4, rounds=2, engines=("adjoint", "adjoint_forward", "truncated", "head"), gradients=True),
        ]
    walking = ("adjoint", "adjoint_forward", "truncated", "head")
    return [
        meta_steps(1, rounds=3, engines=(*walking, "prototype", "unrolled")),
        meta_steps(4, rounds=3, engines=(*walking, "unrolled")),
        meta_steps(16, rounds=3, engines=(*walking, "unrolled"), gradients=True),
        meta_steps(64, rounds=1, engines=("adjoint", "adjoint_forward"), pytorch=False),
        # On its own, because it takes most of the memory of a usual machine; once, because it takes long.
        meta_steps(64, rounds=1),
        meta_steps(4, rounds=3, engines=("adjoint",), batch_norm="batch"),
        meta_steps(16, rounds=3, engines=("adjoint",), batch_norm="batch", gradients=True),
        Heat("tracing of ResNet-32", 2, (meta_step("adjoint", 1, "frozen", RESNET32_ADJOINT, blocks=inputs.RESNET32),)),
    ]


def meta_steps(
    inner_steps: int,
    rounds: int,
    engines: tuple[str, ...] = (),
    batch_norm: str = "frozen",
    pytorch: bool = True,
    gradients: bool = False,
) -> Heat:
    """The meta-step at one T by several engines and by PyTorch.

    Args:
      inner_steps: T.
      rounds: turns of each case after its first.
      engines: names.
      batch_norm: `frozen` or `batch`.
      pytorch: whether PyTorch takes turns with them.
      gradients: whether plain gradients do, from which the floors are reckoned.
    """
    cases = []
    for engine in engines:
        window = max(1, inner_steps // 4) if engine == "truncated" else None
        name = f"truncated, window {window}" if window else engine
        cases.append(meta_step(engine, inner_steps, batch_norm, name, window=window))
    if pytorch:
        settings = {"inner_steps": inner_steps, "batch_norm": batch_norm}
        # Second, so that it is a neighbour of the engine it is compared with most.
        cases.insert(1, Case(PYTORCH, PYTORCH, _META_STEP, settings, grows=True))
    if gradients:
        for framework, count in (
            (TENSORFLOW, inputs.EXEMPLARS),
            (TENSORFLOW, inputs.OUTER_BATCH),
            (PYTORCH, inputs.EXEMPLARS),
        ):
            settings = {"count": count, "batch_norm": batch_norm}
            cases.append(Case(framework, gradient_name(framework, count), _GRADIENT, settings, repeats=5))
    title = f"meta-step, T = {inner_steps}, {'frozen statistics' if batch_norm == 'frozen' else 'batch statistics'}"
    title += "" if engines else ", PyTorch alone"
    return Heat(title, rounds, tuple(cases), inner_steps, batch_norm)


def gradient_name(framework: str, count: int) -> str:
    """How tables call the plain gradient of a batch."""
    return f"{framework}: plain gradient of {count} images"


def meta_step(engine: str, inner_steps: int, batch_norm: str, name: str, **more: Any) -> Case:
    """One engine's meta-step."""
    settings = {"engine": engine, "inner_steps": inner_steps, "batch_norm": batch_norm}
    settings |= {key: value for key, value in more.items() if value is not None}
    # Training is a pass a step, and walking back takes three more: by a tape over a tape eight of the nine products
    # with each kernel that three passes have, in forward mode all nine (a tangent of a product is two products).
    passes = {
        "adjoint": 4 * inner_steps,
        "adjoint_forward": 4 * inner_steps,
        "truncated": inner_steps + 3 * more.get("window", 0) if engine == "truncated" else None,
    }
    return Case(
        TENSORFLOW,
        name,
        _META_STEP,
        settings,
        repeats=3 if engine in ("head", "prototype") else 1,
        passes=passes.get(engine),
        grows=engine == "unrolled",
        first_limit=4 * MINUTE if engine == "unrolled" else Case.first_limit,
    )


def pytorch_of(results: Results, measured: Measured) -> Measured | None:
    """PyTorch's measurement of the same meta-step; None if there is none, or `measured` is PyTorch's."""
    heat = measured.heat
    if heat.inner_steps is None or measured.case.framework == PYTORCH or measured.case.work != _META_STEP:
        return None
    return results.find(PYTORCH, heat.inner_steps, heat.batch_norm)


def over_floor(results: Results, measured: Measured | None) -> Ratio | None:
    """Seconds over those of the passes that a case cannot do without: inner ones, and the outer gradient."""
    if measured is None or measured.case.passes is None or not measured.seconds:
        return None
    inner, outer = (_gradient(results, count, measured.heat) for count in (inputs.EXEMPLARS, inputs.OUTER_BATCH))
    if inner is None or outer is None:
        return None
    passes = measured.case.passes
    if measured.heat.title != inner.heat.title or len({len(m.seconds) for m in (measured, inner, outer)}) > 1:
        return single(measured.median / (passes * inner.median + outer.median))
    floors = [passes * one + two for one, two in zip(inner.seconds, outer.seconds, strict=True)]
    return of_rounds(measured.seconds, floors)


def _gradient(results: Results, count: int, heat: Heat) -> Measured | None:
    """The plain gradient, from the heat itself or from the other T that has it."""
    name = gradient_name(TENSORFLOW, count)
    found = [m for m in results.all if m.case.name == name and m.heat.batch_norm == heat.batch_norm and m.seconds]
    return min(found, key=lambda m: m.heat.title != heat.title, default=None)


def watched(results: Results) -> list[Line]:
    """Ratios at T = 16, or at 4 where there is no more, and tracing."""
    find = results.find
    steps = 16 if find("adjoint", 16) else 4  # the quick check has no more
    adjoint, forward, pytorch = (find(name, steps) for name in ("adjoint", "adjoint_forward", PYTORCH))
    batch_adjoint, batch_pytorch = find("adjoint", steps, "batch"), find(PYTORCH, steps, "batch")
    batch = f"T = {steps}, batch statistics"
    lines = [
        (f"time of adjoint / PyTorch, T = {steps}", time_ratio(adjoint, pytorch), "at T = 16 at most 0.6"),
        (f"time of adjoint_forward / PyTorch, T = {steps}", time_ratio(forward, pytorch), ""),
        (f"memory of adjoint / PyTorch, T = {steps}", memory_ratio(adjoint, pytorch), "at T = 16 at most 0.3"),
        (f"time of adjoint / its floor, T = {steps}", over_floor(results, adjoint), ""),
        (f"time of adjoint_forward / its floor, T = {steps}", over_floor(results, forward), ""),
        (f"time of adjoint / PyTorch, {batch}", time_ratio(batch_adjoint, batch_pytorch), "at T = 16 at most 0.8"),
        (f"memory of adjoint / PyTorch, {batch}", memory_ratio(batch_adjoint, batch_pytorch), "at T = 16 at most 0.4"),
        ("memory of adjoint, T = 64 / T = 1", memory_ratio(find("adjoint", 64), find("adjoint", 1)), "at most 1.15"),
        (f"time of adjoint / head, T = {steps}", time_ratio(adjoint, find("head", steps)), "at T = 16 at least 20"),
    ]
    traced = [
        (f"tracing of adjoint, T = {each}", find("adjoint", each), "the same for every T") for each in (1, 4, 16, 64)
    ]
    traced.append((f"tracing of {RESNET32_ADJOINT}", find(RESNET32_ADJOINT, None), "under 20 s"))
    seconds = [Line(what, single(each.tracing_seconds), " s", wanted) for what, each, wanted in traced if each]
    return [Line(what, ratio, "", wanted) for what, ratio, wanted in lines if ratio] + seconds


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row a case."""
    return _COLUMNS, [_row(results, each) for each in results.all if each.heat.inner_steps is not None]


def _row(results: Results, measured: Measured) -> tuple[str, ...]:
    heat, case = measured.heat, measured.case
    start = (str(heat.inner_steps), heat.batch_norm, case.name)
    if not measured.seconds:
        return (*start, measured.reason or "", *[""] * 6)
    pytorch = pytorch_of(results, measured)
    return (
        *start,
        text(measured.spread) + (f"; {measured.reason}" if measured.reason else ""),
        f"{measured.first_seconds:.2f}",
        f"{measured.tracing_seconds:.1f}" if case.framework == TENSORFLOW else "",
        gigabytes(measured),
        text(time_ratio(measured, pytorch)),
        text(memory_ratio(measured, pytorch)),
        text(over_floor(results, measured)),
    )


GROUP = Group("exemplar_level", "Exemplar level: one meta-step", _NOTE, heats, table, watched)
