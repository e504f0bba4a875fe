"""The steps of a phase, in the order of Algorithm 1 of the paper.

    train_model        lines 4 and 8    Θ_i from Θ_{i-1}, on D_i and E_{0:i-1} (Eq. 5-6, 12-14)
    select_exemplars   line 10          E_i, real images of the classes that arrive
    learn_exemplars    line 11          E_i so that a model trained on them does well on D_i (Eq. 7-9)
    adjust_exemplars   lines 12-16      E_{0:i-1}, each part on the others (Eq. 10)
    enforce_budget     line 17          E_{0:i} within the memory's budget (supplement A)
    probe_exemplars                     how good E_i is; changes nothing
    finetune_balanced  line 18          Θ_i on E_{0:i}
    evaluate                            both classifiers, on the test images of the arrival

A step takes a state and returns a new one; only `finetune_balanced` changes something in place, the network that
`train_model` has made for this phase. All that is random in it is a function of (seed, phase, step).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mnemonics_tf import runtime
from mnemonics_tf.checks import DivergedError
from mnemonics_tf.data.decoding import explaining_lost_files
from mnemonics_tf.data.types import Arrival, LabelledImages
from mnemonics_tf.evaluation import classifiers
from mnemonics_tf.evaluation.probe import probe_exemplars as probe
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.exhaustion import explaining_exhaustion
from mnemonics_tf.learner.fitting import fitted
from mnemonics_tf.learner.objective import lacks_checkpoints, objective_of, with_checkpoints
from mnemonics_tf.learner.state import LearnerState, Network
from mnemonics_tf.memory import budget, store
from mnemonics_tf.memory.codecs import Coded
from mnemonics_tf.memory.optimising.movement import movement_of, told
from mnemonics_tf.memory.optimising.tasks import UnsuitableError
from mnemonics_tf.memory.selection import margins_of, real_slots
from mnemonics_tf.models.folding import Inference
from mnemonics_tf.system import seeds
from mnemonics_tf.system.tracking import notice
from mnemonics_tf.training.finetuning import SoftTargets, method_losses_of
from mnemonics_tf.training.loop import steps_of
from mnemonics_tf.training.model_level import train_model as train
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import ModelLevel

Step = Callable[[LearnerState, Arrival, Context], LearnerState]


def train_model(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """Θ_i from Θ_{i-1}, on D_i and E_{0:i-1}; that of an interrupted attempt, if it was trained to its end.

    Where the head is fitted, phase 0 is trained and then fitted, and later phases are fitted alone.
    """
    if context.settings.method.num_units is None:
        return _trained(state, arrival, context)
    return fitted(state if state.network else _trained(state, arrival, context), arrival, context)


def _trained(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """The state with the network of the phase, trained now or by an interrupted attempt."""
    name = train_model.__name__
    saved = context.snapshots.load(name)
    if saved is None:
        state = _newly_trained(state, arrival, context)
        kept = {} if context.checkpoints is None else context.checkpoints.as_arrays()
        context.snapshots.save(name, lambda: {**_as_arrays(state), **kept})
        context.snapshots.remove(steps_of(name))
        return state
    weights = [saved[f"weight{index}"] for index in range(sum(name.startswith("weight") for name in saved))]
    num_old, num_new = map(int, saved["classes"])
    network = context.restored(num_old, num_new, lambda model: model.set_weights(weights), context.factory.trained)
    if context.checkpoints is not None:
        context.checkpoints.restore(saved, network.model)
    notes = tuple(map(str, saved.get("notes", ())))
    return state.with_work(network=network, reused=bool(saved["reused"]), notes=(*state.under_way.notes, *notes))


def _as_arrays(state: LearnerState) -> dict[str, np.ndarray]:
    """The network of the phase under way, as it is kept in a snapshot."""
    model = state.new_network.model
    weights = {f"weight{index}": weight for index, weight in enumerate(model.get_weights())}
    classes = np.array([model.head.num_old_classes, model.head.num_new_classes])
    notes = np.array(state.under_way.notes, np.str_)
    return {**weights, "classes": classes, "reused": np.array(state.under_way.reused), "notes": notes}


def _newly_trained(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """The state with the network of the phase, trained now."""
    settings, phase = context.settings, context.with_coded(state.phase_of(arrival))
    previous = state.network
    rehearsed = state.exemplars.decoded() if previous and settings.memory.keeps else None

    def trained(level: ModelLevel, rehearsal: Rehearsal, stage: str) -> Network:
        seeds.seed_initial_weights(_seed(state, "initial_weights"))
        model, predictor = train(
            previous.predictor if previous else None,
            phase,
            rehearsed,
            context.factory.trained,
            settings.method,
            level,
            context.trainer,
            _seed(state, "train_model"),
            rehearsal,
            stage,
        )
        return Network(model, predictor)

    notes = []
    if previous is not None and not arrival.class_ids and settings.method.distils and settings.model_level.distillation:
        notes.append(f"No class is new: the last {phase.num_new_classes} that came are trained without a teacher.")

    def trained_or_again() -> Network:
        level, rehearsal = settings.model_level, settings.rehearsal
        try:
            return trained(level, rehearsal, "train_model")
        except DivergedError as error:
            if not level.halve_if_diverged:
                raise
            if context.checkpoints is not None:
                context.checkpoints.forget()
            level, rehearsal = dataclasses.replace(level, learning_rate=level.learning_rate / 2), rehearsal.halved()
            rate = rehearsal.first_rate(level) if previous else level.learning_rate
            notes.append(
                f"{error} The network was trained again from what it was before the phase, at the rate {rate}."
            )
            return trained(level, rehearsal, "train_model_again")

    if previous is not None:
        state = state.with_work(network=trained_or_again())
    else:
        model, reused = context.journal.initial_network(context, phase, lambda: trained_or_again().model, notes)
        model.train_all()
        state = state.with_work(network=context.network(model), reused=reused)
    for note in dict.fromkeys(notes):  # a shared training that is repeated for its checkpoints says the same again
        state = _told(state, note, context)
    return state


def select_exemplars(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """E_i: real images of the classes that arrive, chosen as the settings say, by one pass of the network at most."""
    memory, features, margins = context.settings.memory, None, None
    candidates = _candidates(state, arrival, as_kept=True)
    if memory.keeps and memory.selection != "random":
        # The network wants images; others than codes are there already, and are not made twice.
        shown = _candidates(state, arrival) if isinstance(context.codec, Coded) else candidates
        if memory.selection == "herding":
            features = state.new_network.predictor.features(shown, "select_exemplars")
        else:
            features, logits = state.new_network.predictor(shown, "select_exemplars")
            margins = margins_of(logits, shown.labels)
    generator = seeds.generator(state.seed, state.phase, "select_exemplars")
    if memory.counts_bytes:
        names, file = _names(state, arrival), context.file
        soft = context.settings.soft_labels(len(names))
        new = budget.select_fitting(memory, candidates, features, names, generator, file, margins, soft)
    else:
        count = memory.count(state.phase_of(arrival).num_classes)
        new = store.select(memory, candidates, features, count, generator, margins)
    return state.with_work(new=new)


def learn_exemplars(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """E_i, learned so that a model trained on them does well on D_i."""
    before = state.under_way.new
    if not context.settings.memory.learns or before is None or not len(before):
        return state
    if lacks_checkpoints(context):
        state = _told(
            state, "no networks of this phase's training are at hand: the trained one alone is matched.", context
        )
    optimiser = context.optimiser(state.new_network, objective_of(state, context))
    try:
        learned = optimiser.learn(before, _candidates(state, arrival), _seed(state, "learn_exemplars"))
    except (DivergedError, UnsuitableError) as error:
        return _told(state, f"{error} The chosen images are kept as they are.", context)
    context.journal.exemplars_changed("new", before, learned)
    state, codec = _moved(state, "learned", before, learned, context), context.codec
    fixed = real_slots(before.labels, context.settings.exemplar_level.real_share)
    if fixed.any() and isinstance(codec, Coded) and np.isin(before.labels, state.exemplars.slots.labels).any():
        learned = store.with_unchanged(before, learned, fixed, codec, context.file)  # some have their codes
    return state.with_work(new=learned)


def adjust_exemplars(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """E_{0:i-1}, adjusted to Θ_i. Classes with fewer exemplars than there are parts stay as they are."""
    old = state.exemplars.slots
    old = old.take(~np.isin(old.labels, arrival.train.labels))  # of which new ones were chosen among all
    if not context.settings.memory.adjust or not len(old):
        return state.with_work(old=old)
    is_split = np.bincount(old.labels)[old.labels] >= context.settings.exemplar_level.num_parts
    if not is_split.any():
        return state.with_work(old=old)
    optimiser = context.optimiser(state.new_network)
    before = old.take(is_split)
    try:
        adjusted = optimiser.adjust(before, _seed(state, "adjust_exemplars"))
    except DivergedError as error:
        return _told(state.with_work(old=old), f"{error} Old exemplars are kept as they are.", context)
    context.journal.exemplars_changed("old", before, adjusted)
    state = _moved(state, "adjusted", before, adjusted, context)
    fixed = real_slots(before.labels, context.settings.exemplar_level.real_share)
    if fixed.any():
        adjusted = store.with_unchanged(before, adjusted, fixed, context.codec, context.file)
    if not is_split.all():
        kept = store.as_kept(adjusted, context.codec, context.file)
        adjusted = _by_class(store.joined(kept, old.take(~is_split)))
    return state.with_work(old=adjusted)


def enforce_budget(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """E_{0:i} as it is kept: within the budget, and in the form that the codec gives it."""
    work, codec, memory = state.under_way, context.codec, context.settings.memory
    real_share = context.settings.exemplar_level.real_share
    if work.new is None:
        raise ValueError("There are no new exemplars: select_exemplars comes before enforce_budget.")
    slots = store.as_kept(work.new, codec, context.file)
    if work.old is not None and len(work.old):
        generator = seeds.generator(state.seed, state.phase, "enforce_budget")
        num_classes = state.phase_of(arrival).num_classes
        old = work.old if memory.counts_bytes else store.shrink(memory, work.old, num_classes, generator, real_share)
        slots = _by_class(store.joined(store.as_kept(old, codec, context.file), slots))
    if memory.counts_bytes:
        slots = budget.fitting(memory, slots, codec, _names(state, arrival), real_share)
    return state.with_work(exemplars=store.ExemplarStore(slots, codec))


def probe_exemplars(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """How good the exemplars of new classes are: networks trained on nothing else."""
    settings, new = context.settings, state.phase_of(arrival).new_classes
    held_out = None if arrival.test is None else arrival.test.of_classes(new)
    if not (settings.probe.enabled and settings.memory.keeps and held_out):
        return state
    try:
        probed = probe(
            state.new_network.model,
            _kept(state).of_classes(new).decoded(),
            held_out,
            context.factory,
            context.trainer,
            settings.probe,
            _seed(state, "probe_exemplars"),
        )
    except DivergedError as error:
        return _told(state, f"{error} Exemplars are not probed in this phase.", context)
    return state.with_work(probe=probed)


def finetune_balanced(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """Θ_i, fine-tuned on the exemplars of all classes."""
    settings, model = context.settings, state.new_network.model
    method, finetuning, groups = settings.method, settings.finetuning, state.phase_of(arrival).groups
    if not finetuning.applies_to(state.phase, method.finetunes):
        return state
    teacher: Inference | None = None
    before: Inference | None = None
    if state.network is not None and method.distils_in_finetuning and settings.model_level.distillation:
        teacher = context.inference(state.network.model) if groups.num_old_classes else None
        before = context.inference_of_copy(model)
    if finetuning.trained == "head":
        model.train_head()
    context.trainer.fit(
        model,
        method_losses_of(method, model, teacher, before, groups, _soft_targets(state, context)),
        _kept(state).decoded(),
        finetuning,
        "finetune_balanced",
        _seed(state, "finetune_balanced"),
    )
    model.train_all()
    return state


def _soft_targets(state: LearnerState, context: Context) -> SoftTargets | None:
    """The networks that fine-tuning learns from, as its settings say."""
    finetuning = context.settings.finetuning
    if state.network is None or finetuning.distil_from == "none":
        return None
    networks = [] if finetuning.distil_from == "before" else [context.inference(state.network.model)]
    if finetuning.distil_from != "teacher":
        networks.append(context.inference_of_copy(state.new_network.model))
    return SoftTargets(tuple(networks), finetuning.distillation_weight, finetuning.temperature)


def evaluate(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """What the head and the nearest means say of the arrival's test images."""
    predictor, exemplars = state.new_network.predictor, _kept(state).decoded()
    means = classifiers.means_of(
        predictor, exemplars, state.phase_of(arrival).num_classes, context.traits.horizontal_flip
    )
    predictions = None
    if arrival.test is not None and len(arrival.test):
        predictions = classifiers.predict(predictor, arrival.test, means)
    return state.with_work(means=means, predictions=predictions)


STEPS: tuple[Step, ...] = (
    train_model,
    select_exemplars,
    learn_exemplars,
    adjust_exemplars,
    enforce_budget,
    probe_exemplars,
    finetune_balanced,
    evaluate,
)


def run_phase(state: LearnerState, arrival: Arrival, context: Context) -> LearnerState:
    """All steps of a phase.

    Args:
      state: between two phases; it stays as it is, and so do its network and exemplars.
      arrival: what comes.
      context: settings and tools.

    Returns:
      The state after the phase.

    Raises:
      UsageError: images cannot be read any more.
      DivergedError: a loss became NaN.
      ExhaustedError: there is too little memory for a step.
    """
    snapshots = context.snapshots.of_phase(context.journal.store(state.phase))
    room = context.journal.waiting_room(context)
    with room as file, snapshots, explaining_lost_files(), seeds.keeping_global_generators():
        context.file = file
        context = with_checkpoints(context)
        state = state.begun()
        for step in STEPS:
            with context.tracker.stage(step.__name__), explaining_exhaustion(step.__name__):
                state = step(state, arrival, context)
            state = state.with_work(finished=(*state.under_way.finished, step.__name__))
        return context.journal.phase_finished(state, arrival, context)


def _moved(
    state: LearnerState, which: str, before: LabelledImages, after: LabelledImages, context: Context
) -> LearnerState:
    """Notes how far exemplars were moved, and says so in a line."""
    movement = movement_of(before, after, rounded=not context.settings.memory.store_floats)
    _say(told(movement, which, len(before), context.settings.exemplar_level.real_share), state, context)
    return state.with_work(movement={**state.under_way.movement, which: movement})


def _told(state: LearnerState, note: str, context: Context) -> LearnerState:
    """Notes what did not go as configured, and says so in a line."""
    _say(note, state, context)
    return state.with_work(notes=(*state.under_way.notes, note))


def _say(text: str, state: LearnerState, context: Context) -> None:
    if runtime.is_chief(context.trainer.strategy):
        notice(f"phase {state.phase}: {text}")


def _seed(state: LearnerState, step: str) -> int:
    return seeds.stage_seed(state.seed, state.phase, step)


def _kept(state: LearnerState) -> store.ExemplarStore:
    exemplars = state.under_way.exemplars
    if exemplars is None:
        raise ValueError("The exemplars of the phase are not chosen yet: enforce_budget comes first.")
    return exemplars


def _candidates(state: LearnerState, arrival: Arrival, as_kept: bool = False) -> LabelledImages:
    """Images that exemplars are chosen from: what arrives and, of known classes among it, what is kept already.

    With `as_kept` coded exemplars are their codes, so that none is coded twice.
    """
    known = np.intersect1d(arrival.train.labels, state.exemplars.slots.labels)
    if not len(known):
        return arrival.train
    kept = state.exemplars.of_classes(known)
    is_code = as_kept and isinstance(kept.codec, Coded)
    return arrival.train.join(kept.slots if is_code else kept.decoded())


def _names(state: LearnerState, arrival: Arrival) -> tuple[str, ...]:
    """Of all classes that are known once the phase is over."""
    return state.classes.grown(arrival.class_ids, arrival.class_names).names


def _by_class(slots: LabelledImages) -> LabelledImages:
    """The slots class after class, in their order within each."""
    if (np.diff(slots.labels) >= 0).all():
        return slots
    return slots.take(np.argsort(slots.labels, kind="stable"))
