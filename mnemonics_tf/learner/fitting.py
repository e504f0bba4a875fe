"""Networks whose head is fitted to statistics: a phase of such a learner, and classes that are taken back."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnemonics_tf.data.types import Arrival, LabelledImages
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.state import LearnerState
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


def without_classes(state: LearnerState, images: LabelledImages, context: Context) -> LearnerState:
    """The state of a learner that has never seen the classes that some images show.

    Args:
      state: between two phases.
      images: of classes that came after phase 0: all that were learned of them, and perhaps others.
      context: settings and tools.

    Raises:
      UsageError: an image that was learned is missing.
    """
    if state.network is None:
        raise ValueError("The learner knows no class.")
    method, model = context.settings.method, state.network.model
    statistics = method.forget(
        state.network.predictor, images, state.classes.names, state.statistics, context.traits.horizontal_flip
    )
    classes = state.classes.without(set(np.unique(images.labels).tolist()))

    def fill(smaller) -> None:
        smaller.backbone.set_weights(model.backbone.get_weights())
        smaller.head.take_units(model.head)
        method.fit(smaller.head, statistics)

    new = classes.sizes[-1]
    network = context.restored(len(classes) - new, new, fill)
    return dataclasses.replace(state, classes=classes, network=network, statistics=statistics, predictions=None)
