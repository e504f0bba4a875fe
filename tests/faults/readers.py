"""Who reads a run's folder without going on with it, and what they find there: figures and predictions."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np

_SUFFIX = ".answers"  # of the file beside the run's folder in which their answers are told


def asked(place: str) -> None:
    """Asks all of them. What they answer stands in a file beside the folder."""
    from mnemonics_tf import checks
    from mnemonics_tf.system import screen

    answers = {}
    for name, ask in (("report", _figures), ("predict", _predictions)):
        try:
            with screen.quiet():  # as the commands do: TensorFlow logs tracebacks of what it then tells by an error
                answers[name] = ask(place)
        except checks.UsageError as error:
            answers[name] = f"refused: {error}"
    with open(f"{place}{_SUFFIX}", "w", encoding="utf-8") as file:
        json.dump(answers, file)


def answers_of(place: str) -> dict[str, str]:
    """What they have answered, by their names. One that has refused says `refused` and why."""
    with open(f"{place}{_SUFFIX}", encoding="utf-8") as file:
        return json.load(file)


def _figures(place: str) -> str:
    """All that a report knows of a run but durations."""
    from mnemonics_tf.report import runs

    if not os.path.exists(os.path.join(place, "results.json")):
        return "refused: there are no results"
    found = runs.read_runs([place], [place])
    return repr([*map(_without_seconds, found.finished), [text.rpartition(" (")[2] for text in found.unfinished]])


def _without_seconds(run: Any) -> str:
    phases = tuple(dataclasses.replace(phase, seconds={}) for phase in run.results.phases)
    return repr((run.setup, dataclasses.replace(run.results, phases=phases)))


def _predictions(place: str) -> str:
    """What the last model of a run says of some noise, to four digits."""
    import tensorflow as tf

    from mnemonics_tf.run.models import model_of
    from mnemonics_tf.serving import inspection
    from mnemonics_tf.serving.exported import read_exported

    # Where functions are not traced, as in these jobs, TensorFlow's own saver has other names, and would be refused.
    inspection.reaching_out = lambda _: []
    read = read_exported(model_of(place)[1])
    noise = np.random.default_rng(0).integers(0, 256, (4, *read.image_shape), np.uint8)
    probabilities = read.model.serve(tf.constant(noise))["probabilities"].numpy()
    return repr((read.class_names, read.resized_side, np.round(probabilities, 4).tolist()))
