"""What the benchmark measures: a module for each group, which says its cases and what is told of them."""

from __future__ import annotations

from groups import (
    classes,
    evaluation,
    exemplar_level,
    memory,
    numbers,
    parts,
    phase,
    start,
    steps,
    tracing,
)

# In the order in which they are run, and told.
GROUPS = tuple(
    module.GROUP
    for module in (
        start,
        steps,
        parts,
        evaluation,
        memory,
        phase,
        classes,
        tracing,
        exemplar_level,
        numbers,
    )
)
