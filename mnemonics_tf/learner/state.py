"""What a learner carries on from phase to phase, and from step to step of a phase."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from mnemonics_tf.data.types import Arrival, ClassGroups, LabelledImages, Phase, PixelRange
from mnemonics_tf.evaluation.classifiers import Predictions
from mnemonics_tf.learner.seen import SeenImages
from mnemonics_tf.memory.optimising.movement import Movement
from mnemonics_tf.memory.statistics import Statistics
from mnemonics_tf.memory.store import ExemplarStore
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """The classes that are known, which grow from phase to phase.

    Attributes:
      ids: what the data call each class, by index: whole numbers, each once.
      names: what people call each class, by index.
      sizes: how many classes each phase has brought; phases that brought only images are not among them.
    """

    ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def grown(self, ids: Sequence[int], names: Sequence[str]) -> ClassTable:
        """The table with new classes at its end; this very table if there are none."""
        if not ids:
            return self
        return ClassTable((*self.ids, *ids), (*self.names, *names), (*self.sizes, len(ids)))

    def without(self, classes: Collection[int]) -> ClassTable:
        """The table without the classes of some indices; phases of which none is left are left out."""
        kept = [index for index in range(len(self)) if index not in classes]
        ends = np.cumsum(self.sizes).tolist()
        sizes = [sum(end - size <= index < end for index in kept) for end, size in zip(ends, self.sizes, strict=True)]
        return ClassTable(
            tuple(self.ids[index] for index in kept),
            tuple(self.names[index] for index in kept),
            tuple(size for size in sizes if size),
        )

    @property
    def order(self) -> np.ndarray:
        """Class ids by index, `[num_classes]` int64."""
        return np.array(self.ids, np.int64)


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
      model: Θ_i.
      predictor: runs it.
    """

    model: Classifier
    predictor: Predictor


@dataclasses.dataclass(frozen=True)
class Work:
    """What the steps of the phase under way have come to so far.

    Attributes:
      finished: names of the steps that are over, in their order.
      network: Θ_i, from `train_model` on; `finetune_balanced` changes it in place.
      reused: whether it was trained by an earlier run.
      statistics: what the method keeps of all images so far, from `train_model` on; empty for most methods.
      new: E_i, slots that are worked on, of the classes that arrive.
      old: E_{0:i-1}, slots that are worked on, without the classes of which more images arrived.
      exemplars: E_{0:i}, as they are kept, from `enforce_budget` on.
      probe: how good the exemplars of new classes are; empty without a probe.
      movement: how far exemplars moved that were `learned` or `adjusted`.
      notes: what did not go as configured, a sentence each.
      means: nearest-mean classifier, `[num_classes, d]` of length 1; None without exemplars of every class.
      predictions: for the arrival's test images, by the finished network; None without any.
    """

    finished: tuple[str, ...] = ()
    network: Network | None = None
    reused: bool = False
    statistics: Statistics = dataclasses.field(default_factory=dict)
    new: LabelledImages | None = None
    old: LabelledImages | None = None
    exemplars: ExemplarStore | None = None
    probe: dict[str, float] = dataclasses.field(default_factory=dict)
    movement: dict[str, Movement] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    means: np.ndarray | None = None
    predictions: Predictions | None = None


@dataclasses.dataclass(frozen=True)
class LearnerState:
    """All that a learner carries on. Steps return new states: what was carried on from earlier phases is never changed.

    Attributes:
      seed: of all that is random. Every draw is a function of it, the phase, the step, and the place in the step.
      pixel_range: normalisation of images, from the first phase on the same.
      exemplars: E_{0:i}, as they are kept.
      phase: number of phases that are over, which is the index of the next one.
      classes: the classes that are known.
      network: Θ_i; None before the first phase.
      statistics: what the method keeps of all images so far, beside network and exemplars; empty for most methods.
      means: nearest-mean classifier, `[num_classes, d]` of length 1; None without exemplars of every class.
      predictions: of the last phase, for its test images; None without any.
      seen: the images that came from folders by `learn_new`; empty for learners that are given arrivals otherwise.
      work: what the steps of the phase under way have come to; None between phases.
    """

    seed: int
    pixel_range: PixelRange
    exemplars: ExemplarStore
    phase: int = 0
    classes: ClassTable = ClassTable()
    network: Network | None = None
    statistics: Statistics = dataclasses.field(default_factory=dict)
    means: np.ndarray | None = None
    predictions: Predictions | None = None
    seen: SeenImages = dataclasses.field(default_factory=SeenImages)
    work: Work | None = None

    def phase_of(self, arrival: Arrival) -> Phase:
        """The arrival as methods see it: with the number of classes that each phase has brought.

        An arrival of known classes alone has the groups of the phase before it.
        """
        groups = ClassGroups(self.classes.grown(arrival.class_ids, arrival.class_names).sizes)
        return Phase(self.phase, groups, arrival.train, arrival.old_train)

    def begun(self) -> LearnerState:
        """This state with a phase under way of which no step is over."""
        return dataclasses.replace(self, work=Work())

    @property
    def under_way(self) -> Work:
        """What the steps of the phase have come to. Raises ValueError between phases."""
        if self.work is None:
            raise ValueError("No phase is under way: begin one first.")
        return self.work

    @property
    def new_network(self) -> Network:
        """Θ_i of the phase under way. Raises ValueError before it is trained."""
        network = self.under_way.network
        if network is None:
            raise ValueError("The phase has no network yet: train_model comes first.")
        return network

    def with_work(self, **changes) -> LearnerState:
        """This state with some of `work` replaced."""
        return dataclasses.replace(self, work=dataclasses.replace(self.under_way, **changes))

    def finished(self, arrival: Arrival) -> LearnerState:
        """The state after a phase all of whose steps are over."""
        work = self.under_way
        return dataclasses.replace(
            self,
            phase=self.phase + 1,
            classes=self.classes.grown(arrival.class_ids, arrival.class_names),
            network=self.new_network,
            statistics=work.statistics,
            exemplars=self.exemplars if work.exemplars is None else work.exemplars,
            means=work.means,
            predictions=work.predictions,
            work=None,
        )
