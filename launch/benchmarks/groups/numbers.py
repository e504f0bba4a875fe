"""Whether both frameworks compute the same, without which their times could not be compared."""

from __future__ import annotations

import inputs
from harness.cases import PYTORCH, TENSORFLOW, Case, Group, Heat
from harness.measured import Line, Results

# Relative differences that the two frameworks may have. Gradients in float32 have no such bound, for the reason that
# in_pytorch/numbers.py gives.
FLOAT64_LIMIT = 1e-10
FLOAT32_LOSS_LIMIT = 1e-4

_NOTE = f"""\
The same weights and images on both sides: outer loss and gradient with respect to {inputs.CHECKED_EXEMPLARS} exemplars
after {inputs.CHECKED_STEPS} inner steps. In float32 rounding decides which derivatives pass a ReLU whose input is about
zero, so PyTorch differs from itself in float64 by as much; double precision shows that the arithmetic is the same."""


def heats(quick: bool) -> list[Heat]:
    """Our side leaves its numbers in the heat's folder, and PyTorch's, which comes after it, compares."""
    cases = tuple(Case(framework, framework, "numbers.same_numbers") for framework in (TENSORFLOW, PYTORCH))
    return [Heat("both frameworks on the same weights and images", 0, cases)]


def differences(results: Results) -> dict[str, float]:
    """Relative differences by what was compared; none if PyTorch's side has not told any."""
    told = [answer for each in results.all for answer in each.answers if "differences" in answer]
    return told[-1]["differences"] if told else {}


def difference_limit(name: str) -> float | None:
    """The bound of a relative difference; None for those that are shown for information."""
    if name.endswith(", float64"):
        return FLOAT64_LIMIT
    return FLOAT32_LOSS_LIMIT if name.startswith("loss") else None


def failures(results: Results) -> list[str]:
    """The comparisons that are out of bounds, NaN among them."""
    return [
        f"the frameworks differ in {name}: by {value:.1e}"
        for name, value in differences(results).items()
        if not value <= (difference_limit(name) or float("inf"))
    ]


def watched(results: Results) -> list[Line]:
    """None: what is out of bounds is an error."""
    return []


def table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row a comparison."""
    rows = [
        (name, f"{value:.1e}", f"at most {limit:.0e}" if (limit := difference_limit(name)) else "")
        for name, value in differences(results).items()
    ]
    return ("relative difference", "measured", "wanted"), rows


GROUP = Group("numbers", "Both frameworks compute the same", _NOTE, heats, table, watched, failures)
