"""Which cases the benchmark has, and which of them take turns."""

from __future__ import annotations

import dataclasses
from typing import Any

import inputs

PYTORCH = "PyTorch"
TENSORFLOW = "TensorFlow"

RESNET32_ADJOINT = "adjoint, ResNet-32, T = 1"
THIS_PROJECT = "this project's loop"
BARE_KERAS = "bare Keras loop"

MINUTE = 60.0


@dataclasses.dataclass(frozen=True)
class Case:
    """A piece of work that a process of its own does.

    Attributes:
      framework: `TENSORFLOW` or `PYTORCH`.
      name: in the tables.
      work: what case_tensorflow.py or case_pytorch.py calls it.
      settings: arguments of the work.
      repeats: how often a turn after the first does the work; short work needs more than one for a steady time.
      passes: forward-and-backward passes of an inner batch that the work cannot do without; None if that was not
        counted.
      grows: memory grows with T, so it is predicted before the case is run.
      first_limit: seconds after which the first turn, which traces, is given up.
    """

    framework: str
    name: str
    work: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeats: int = 1
    passes: int | None = None
    grows: bool = False
    first_limit: float = 30 * MINUTE


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases that take turns: A B C, A B C, ...

    Attributes:
      title: for the screen.
      rounds: turns of each case after the first one.
      cases: in their order.
      inner_steps: T of its meta-steps; None for other work.
      batch_norm: of its meta-steps.
    """

    title: str
    rounds: int
    cases: tuple[Case, ...]
    inner_steps: int | None = None
    batch_norm: str = "frozen"


def groups(quick: bool) -> list[Group]:
    """All groups, or a few with fewer rounds."""
    if quick:
        return [
            meta_steps(1, rounds=2, engines=("adjoint", "head", "prototype")),
            meta_steps(4, rounds=2, engines=("adjoint", "adjoint_forward", "truncated", "head"), gradients=True),
        ]
    walking = ("adjoint", "adjoint_forward", "truncated", "head")
    return [
        meta_steps(1, rounds=5, engines=(*walking, "prototype", "unrolled")),
        meta_steps(4, rounds=3, engines=(*walking, "unrolled")),
        meta_steps(16, rounds=3, engines=(*walking, "unrolled"), gradients=True),
        meta_steps(64, rounds=2, engines=walking, pytorch=False),
        # On its own, because it takes most of the memory of a usual machine; once, because it takes long.
        meta_steps(64, rounds=1),
        meta_steps(4, rounds=3, engines=("adjoint",), batch_norm="batch"),
        meta_steps(16, rounds=3, engines=("adjoint",), batch_norm="batch", gradients=True),
        Group(
            "tracing of ResNet-32", 2, (meta_step("adjoint", 1, "frozen", RESNET32_ADJOINT, blocks=inputs.RESNET32),)
        ),
        training(rounds=3),
    ]


def meta_steps(
    inner_steps: int,
    rounds: int,
    engines: tuple[str, ...] = (),
    batch_norm: str = "frozen",
    pytorch: bool = True,
    gradients: bool = False,
) -> Group:
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
        cases.insert(1, Case(PYTORCH, PYTORCH, "meta_step", settings, grows=True))
    if gradients:
        for framework, count in (
            (TENSORFLOW, inputs.EXEMPLARS),
            (TENSORFLOW, inputs.OUTER_BATCH),
            (PYTORCH, inputs.EXEMPLARS),
        ):
            settings = {"count": count, "batch_norm": batch_norm}
            cases.append(Case(framework, gradient_name(framework, count), "gradient", settings, repeats=5))
    title = f"meta-step, T = {inner_steps}, {'frozen statistics' if batch_norm == 'frozen' else 'batch statistics'}"
    return Group(title, rounds, tuple(cases), inner_steps, batch_norm)


def gradient_name(framework: str, count: int) -> str:
    """How tables call the plain gradient of a batch."""
    return f"{framework}: plain gradient of {count} images"


def meta_step(engine: str, inner_steps: int, batch_norm: str, name: str, **more: Any) -> Case:
    """One engine's meta-step."""
    settings = {"engine": engine, "inner_steps": inner_steps, "batch_norm": batch_norm}
    settings |= {key: value for key, value in more.items() if value is not None}
    # Training is a pass a step. Walking back, a gradient of the gradient adds three passes to a step; with forward mode
    # it is two, as a step's own gradient comes along.
    passes = {
        "adjoint": 4 * inner_steps,
        "adjoint_forward": 3 * inner_steps,
        "truncated": inner_steps + 3 * more.get("window", 0) if engine == "truncated" else None,
    }
    return Case(
        TENSORFLOW,
        name,
        "meta_step",
        settings,
        repeats=3 if engine in ("head", "prototype") else 1,
        passes=passes.get(engine),
        grows=engine == "unrolled",
        first_limit=4 * MINUTE if engine == "unrolled" else Case.first_limit,
    )


def training(rounds: int) -> Group:
    """Steps of the model level: the project's loop, a bare Keras loop and PyTorch's."""
    cases = (
        Case(TENSORFLOW, THIS_PROJECT, "project_training"),
        Case(TENSORFLOW, BARE_KERAS, "keras_training"),
        Case(PYTORCH, PYTORCH, "training"),
    )
    return Group("training step of the model level", rounds, cases)
