"""The files of a phase: what a run writes of it, and how a state is made of them again."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from mnemonics_tf.data.types import Arrival, LabelledImages
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.state import ClassTable, LearnerState
from mnemonics_tf.memory.budget import size_of
from mnemonics_tf.memory.exemplar_file import load_exemplars, save_exemplars
from mnemonics_tf.memory.statistics import load_statistics, num_bytes, save_statistics
from mnemonics_tf.memory.store import ExemplarStore
from mnemonics_tf.models.weights import save_weights
from mnemonics_tf.results import METRICS_FILE, PhaseResult, phase_to_text
from mnemonics_tf.serving.export import export_saved_model

_WEIGHTS = os.path.join("checkpoint", "model.weights.h5")
_EXEMPLARS = "exemplars.npz"


def write_phase(folder: str, state: LearnerState, arrival: Arrival, context: Context) -> PhaseResult:
    """Writes all files of a phase but its completion mark.

    Args:
      folder: an empty one.
      state: with all steps of the phase done.
      arrival: what came.
      context: tools of the phase.

    Returns:
      What the phase reached, as it is written in `metrics.json`.
    """
    work, tracker = state.under_way, context.tracker
    classes = state.classes.grown(arrival.class_ids, arrival.class_names)
    if work.exemplars is None:
        raise ValueError("The phase has no exemplars: enforce_budget has not run.")
    with tracker.stage("save"), tracker.progress("save", 3, "artefacts") as bar:
        os.mkdir(os.path.join(folder, os.path.dirname(_WEIGHTS)))
        save_weights(state.new_network.model, os.path.join(folder, _WEIGHTS))
        bar.update()
        save_exemplars(os.path.join(folder, _EXEMPLARS), work.exemplars.slots, classes.order, context.codec)
        save_statistics(folder, work.statistics)
        bar.update()
        export_saved_model(
            os.path.join(folder, "saved_model"),
            state.new_network.model,
            context.factory,
            state.pixel_range,
            classes.ids,
            classes.names,
            work.means if context.settings.primary_classifier == "nme" else None,
            context.traits.resized_side,
        )
        bar.update()
    result = result_of(state, arrival, dict(tracker.seconds))
    with open(os.path.join(folder, METRICS_FILE), "w", encoding="utf-8") as file:
        file.write(phase_to_text(result))
    return result


def result_of(state: LearnerState, arrival: Arrival, seconds: dict[str, float]) -> PhaseResult:
    """What the phase under way has reached.

    Args:
      state: with all steps of the phase done, and predictions for test images of every class.
      arrival: what came.
      seconds: duration of each stage.
    """
    work, classes = state.under_way, state.classes.grown(arrival.class_ids, arrival.class_names)
    if work.predictions is None or work.exemplars is None:
        raise ValueError("The phase has not been evaluated: a run needs test images of every class.")
    labels, predictions = work.predictions.labels, work.predictions.by_classifier
    groups = {name: metrics.group_accuracy(each, labels, classes.sizes) for name, each in predictions.items()}
    size = size_of(work.exemplars, len(classes))
    return PhaseResult(
        phase=state.phase,
        num_classes=len(classes),
        accuracy={name: metrics.accuracy(each, labels) for name, each in predictions.items()},
        initial_classes_accuracy={name: group[0] for name, group in groups.items()},
        group_accuracy=groups,
        exemplars_per_class=int(work.exemplars.counts(len(classes)).min()),
        probe=work.probe,
        seconds=seconds,
        reused=work.reused,
        num_exemplars=len(work.exemplars),
        bytes_per_class=int(size.by_class.max()),
        memory_bytes=size.total,
        statistics_bytes=num_bytes(work.statistics),
        movement={which: dataclasses.asdict(moved) for which, moved in work.movement.items()},
        notes=work.notes,
    )


def read_state(folder: str, phase: int, classes: ClassTable, context: Context, streamed: bool) -> LearnerState:
    """The state after a phase, from its files.

    Args:
      folder: of the phase.
      phase: its index.
      classes: those that are known by then.
      context: settings and tools of the run.
      streamed: leave exemplars in their file.
    """
    new = classes.sizes[-1]
    path = os.path.join(folder, _WEIGHTS)
    network = context.restored(len(classes) - new, new, lambda model: model.load_weights(path))
    exemplars = ExemplarStore(read_exemplars(folder, classes.order, streamed), context.codec)
    return LearnerState(
        seed=context.settings.seed,
        pixel_range=context.trainer.pixel_range,
        exemplars=exemplars,
        phase=phase + 1,
        classes=classes,
        network=network,
        statistics=load_statistics(folder),
    )


def read_exemplars(folder: str, class_order: np.ndarray, streamed: bool) -> LabelledImages:
    """The exemplars of a phase as they are kept; `class_order` has class ids by index, perhaps more than are known."""
    return load_exemplars(os.path.join(folder, _EXEMPLARS), class_order, streamed)
