"""The table of phases that is printed at the end of a run."""

from __future__ import annotations

from mnemonics_tf.results import PhaseResult, Results

_CLASSIFIERS = ("cnn", "nme")


def summary(results: Results) -> str:
    """A table of the phases, average accuracy and forgetting, as text. A star marks the classifier that is reported.

    Args:
      results: the run's results so far, in percent. A classifier without figures, as `nme` without exemplars, has
        dashes. Where exemplars were learned, how far they moved: the mean change of a pixel in grey levels, and the
      percentage that is still a real image bit for bit, before a codec keeps it. Below stands what did not go as
      configured.
    """
    learned = any("learned" in phase.movement for phase in results.phases)
    lines = ["phase  classes  CNN (%)  NME (%)  seconds" + ("  moved  still real (%)" if learned else "")]
    for phase in results.phases:
        figures = "  ".join(_figure(phase.accuracy, name) for name in _CLASSIFIERS)
        lines.append(
            f"{phase.phase:5d}  {phase.num_classes:7d}  {figures}  {sum(phase.seconds.values()):7.0f}{_moved(phase)}"
        )
    for title, values in (("average", results.average_accuracy), ("forgetting", results.forgetting)):
        marks = ["*" if name == results.primary_classifier else " " for name in _CLASSIFIERS]
        figures = " ".join(_figure(values, name) + mark for name, mark in zip(_CLASSIFIERS, marks, strict=True))
        lines.append(f"{title:14s}  {figures}".rstrip())
    notes = [f"phase {phase.phase}: {note}" for phase in results.phases for note in phase.notes]
    return "\n".join([*lines, "* the classifier that is reported", *notes])


def _moved(phase: PhaseResult) -> str:
    """How far new exemplars were moved by learning; nothing where none were learned."""
    moved = phase.movement.get("learned")
    return "" if moved is None else f"  {moved['mean']:5.2f}  {moved['unmoved']:14.1f}"


def _figure(percentages: dict[str, float], classifier: str) -> str:
    return f"{percentages[classifier]:7.2f}" if classifier in percentages else f"{'-':>7}"
