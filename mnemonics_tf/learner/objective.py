"""What the exemplars of a phase are learned for, and the networks that are kept for it while the phase trains."""

from __future__ import annotations

import dataclasses

from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.memory.optimising.forgetting import ForgettingNetworks
from mnemonics_tf.memory.optimising.matching import MatchedStatistics
from mnemonics_tf.memory.optimising.next_phase import SimulatedNextPhase
from mnemonics_tf.memory.optimising.simulation import LaterPhase
from mnemonics_tf.memory.optimising.tasks import Tasks
from mnemonics_tf.training.checkpoints import Checkpoints


def objective_of(state: LearnerState, context: Context) -> Tasks | None:
    """The objective that the settings name, for the network of the phase under way; None for the paper's."""
    settings, model = context.settings, state.new_network.model
    level = settings.exemplar_level
    if level.objective == "next_phase":
        old = state.exemplars.decoded()
        return SimulatedNextPhase(
            model, context.trainer.pixel_range, level, settings.next_phase, _later_phase(settings), old
        )
    if level.objective == "matching":
        checkpoints = [] if context.checkpoints is None else context.checkpoints.weights
        return MatchedStatistics(
            model,
            settings.network.stage_outputs,
            context.trainer.pixel_range,
            level,
            settings.matching,
            checkpoints,
            _forgetting(state, context) if settings.matching.later_phases else None,
            context.codec,
        )
    return None


def _later_phase(settings: Settings) -> LaterPhase:
    """How the base method trains a later phase."""
    method = settings.method
    return LaterPhase(
        method.losses,
        distils=method.distils and settings.model_level.distillation,
        imprints=method.imprints,
        trains_old_head=method.trains_old_head,
        averages_images=method.averages_images,
        transfers=settings.model_level.scale_form is not None,
    )


def _forgetting(state: LearnerState, context: Context) -> ForgettingNetworks:
    settings = context.settings
    return ForgettingNetworks(
        state.new_network.model,
        context.trainer.pixel_range,
        settings.exemplar_level,
        _later_phase(settings),
        state.exemplars.decoded(),
    )


def lacks_checkpoints(context: Context) -> bool:
    """Whether networks of the phase's training are wanted, and not all are there."""
    return context.checkpoints is not None and not context.checkpoints.complete


def with_checkpoints(context: Context) -> Context:
    """The context of a phase whose training keeps networks on its way, where the objective looks at them."""
    settings = context.settings
    looks = settings.memory.learns and settings.exemplar_level.objective == "matching"
    epochs = settings.matching.epochs_kept(settings.model_level.epochs) if looks else ()
    if not epochs:
        return context
    checkpoints = Checkpoints(context.factory.trained, context.trainer.strategy, epochs)
    trainer = dataclasses.replace(context.trainer, after_epoch=checkpoints)
    return dataclasses.replace(context, trainer=trainer, checkpoints=checkpoints)
