"""Networks whose head is fitted to statistics: a phase of such a learner, and classes that are taken back."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.listing import listed
from mnemonics_tf.data.types import Arrival
from mnemonics_tf.learner.arrivals import NamedImages
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.system import seeds


def fitted(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """The state with a head that is fitted to all images so far, those that arrive included.

    Args:
      state: with a phase under way; in phase 0 its network is trained, and later ones train none.
      arrival: what comes.
      context: settings and tools.
    """
    method, phase, factory = context.settings.method, state.phase_of(arrival), context.factory
    with context.trainer.strategy.scope():
        if state.network is None:
            # Whether or not this process has trained the network, the random units are the same.
            seeds.seed_initial_weights(seeds.stage_seed(state.seed, state.phase, "random_units"))
            model = factory.build(0, phase.num_new_classes)
            model.backbone.set_weights(state.new_network.model.backbone.get_weights())
        elif state.network.model.num_classes < phase.num_classes:
            model = factory.grow(state.network.model, phase.num_new_classes)
        else:
            model = factory.same(state.network.model)
    model.train_all()
    network = context.network(model)
    seed = seeds.stage_seed(state.seed, state.phase, "fit_head")
    statistics = method.gather(
        network.predictor, phase.train, phase.groups, state.statistics, context.traits.horizontal_flip, seed
    )
    method.fit(model.head, statistics)
    return state.with_work(network=network, statistics=statistics)


def check_can_forget(method: Method) -> None:
    """Raises UsageError if a method cannot take classes back."""
    if method.num_units is None:
        raise checks.UsageError(
            f"Method {method.name!r} cannot forget classes: its network was trained on their images. Only methods with "
            "a fitted head can, such as 'analytic'."
        )


def without_classes(state: LearnerState, images: NamedImages, context: Context) -> LearnerState:
    """The state of a learner that has never seen the classes that some images show.

    Args:
      state: between two phases.
      images: of classes that came after phase 0: all that were learned of them, and perhaps others.
      context: settings and tools.

    Raises:
      UsageError: a class is unknown, or has trained the network in phase 0, or an image that was learned is missing.
    """
    method, known = context.settings.method, state.classes
    if state.network is None:
        raise ValueError("The learner knows no class.")
    unknown = [name for name in images.names if name not in known.names]
    if unknown:
        raise checks.UsageError(
            f"The learner does not know {listed(unknown)}: it knows {listed(sorted(known.names))}. Leave out what is "
            "unknown."
        )
    first = [name for name in images.names if name in known.names[: known.sizes[0]]]
    if first:
        raise checks.UsageError(
            f"{listed(first)}: the network itself was trained on the first classes, and no subtraction takes them out. "
            "Begin a new learner without them."
        )
    indexed, model = images.indexed(known), state.network.model
    statistics = method.forget(
        state.network.predictor, indexed, known.names, state.statistics, context.traits.horizontal_flip
    )
    gone = set(np.unique(indexed.labels).tolist())
    classes, seen = known.without(gone), state.seen.without(gone, len(known))

    def fill(smaller: Classifier) -> None:
        smaller.backbone.set_weights(model.backbone.get_weights())
        smaller.head.take_units(model.head)
        method.fit(smaller.head, statistics)

    new = classes.sizes[-1]
    network = context.restored(len(classes) - new, new, fill)
    return dataclasses.replace(
        state, classes=classes, network=network, statistics=statistics, predictions=None, seen=seen
    )
